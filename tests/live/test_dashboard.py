"""The live page in a real browser: what it shows of a failover, with keys, by keyboard, on a phone; nothing is blocked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx2
import pytest
from live.browser import browser
from live.harness import Upstream, balancer, configuration

pytestmark = pytest.mark.live

ASK = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "a-prompt-of-the-test"}]}
KEY = "a-key-of-the-test-0123456789"
TEXT = "document.body.innerText"


async def test_a_failover_is_seen_by_looking(chromium: str) -> None:
    settings = "drills: true"
    async with (
        Upstream() as one,
        Upstream() as two,
        balancer(configuration(one, two, settings=settings)) as running,
        httpx2.AsyncClient(base_url=running.url) as http,
        browser(chromium) as page,
    ):
        await http.post("/admin/drill", json={"provider": "a", "fault": "529", "requests": 1})
        assert (await http.post("/v1/messages", json=ASK)).status_code == 200
        await page.open(f"{running.url}/")
        await page.until(f"{TEXT}.includes('1 failures hidden today')")
        assert await page.value("document.getElementById('state').textContent") in ("degraded", "serving")

        await page.press("g", "r")
        row = await page.until("document.querySelector('[data-row^=\"request:\"]')?.innerText")
        assert re.search(r"a 529 [\d.]+ s → b ok", row), row
        assert (await http.post("/v1/messages", json=ASK)).status_code == 200, "it is live"
        await page.until("document.querySelectorAll('[data-row^=\"request:\"]').length == 2")

        await page.press("j", "Enter")
        await page.until(f"{TEXT}.includes('asked of the provider')")
        await page.press("Escape", "g", "c")
        await page.until(f"{TEXT}.includes('answered now by')")
        await page.press("g", "u")
        await page.until(f"{TEXT}.includes('balancer usage --by model')")
        assert "a-prompt-of-the-test" not in await page.value("document.documentElement.outerHTML")
        assert page.complaints == []


async def test_with_keys_it_asks_for_one_and_shows_nothing_before(chromium: str) -> None:
    settings = f"auth: {{keys: [{KEY}]}}"
    async with Upstream() as up, balancer(configuration(up, settings=settings)) as running:
        async with browser(chromium) as page:
            await page.open(f"{running.url}/dashboard")
            await page.until("document.getElementById('key-dialog').open")
            assert "provider" not in await page.value("document.getElementById('providers').innerText")
            await page.value(f"document.getElementById('key').value = '{KEY}'")
            await page.value("document.querySelector('#key-dialog button').click()")
            await page.until("!!document.querySelector('[data-row=\"provider:a\"]')")
        async with httpx2.AsyncClient(base_url=running.url) as http:
            assert (await http.get("/events")).status_code == 401
            async with http.stream("GET", "/events", headers={"x-balancer-key": KEY}) as live:
                async for line in live.aiter_lines():
                    if line.startswith("data: "):
                        assert json.loads(line[6:])["fleet"]["total_providers"] == 1
                        assert KEY not in line
                        break


async def test_on_a_phone_nothing_is_wider_than_the_screen(chromium: str, tmp_path: Path) -> None:
    async with Upstream() as up, balancer(configuration(up)) as running, browser(chromium) as page:
        await page.open(f"{running.url}/dashboard", width=375, height=700)
        await page.until("!!document.querySelector('[data-row=\"provider:a\"]')")
        assert await page.value("document.documentElement.scrollWidth") <= 375
        assert (await page.picture()).startswith(b"\x89PNG")
