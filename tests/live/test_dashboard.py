"""The live page in a real browser: what it shows of a failover, with a key and without, and that nothing is blocked."""

from __future__ import annotations

import asyncio
import json
import tempfile

import httpx2
import pytest
from live.harness import Upstream, balancer, configuration

pytestmark = pytest.mark.live

ASK = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


LOOKS_MS = (3000, 10_000, 25_000)
"""How long a browser is given to show what is waited for: a busy machine takes longer."""


async def shown(chromium: str, url: str, words: str) -> tuple[str, str]:
    """Return the page as a browser has built it, as soon as `words` stand there, and what its console says."""
    page = console = ""
    for within_ms in LOOKS_MS:
        page, console = await _looked(chromium, url, within_ms)
        if words in page:
            break
    return page, console


async def _looked(chromium: str, url: str, within_ms: int) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as profile:
        process = await asyncio.create_subprocess_exec(
            chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            f"--user-data-dir={profile}", "--enable-logging=stderr", f"--timeout={within_ms}", "--dump-dom", url,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 60)
    return out.decode(), "\n".join(line for line in err.decode(errors="replace").splitlines() if "CONSOLE" in line)


async def test_a_failover_is_seen_by_looking(chromium: str) -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        async with httpx2.AsyncClient(base_url=running.url) as http:
            assert (await http.post("/v1/messages", json=ASK)).status_code == 200
        page, console = await shown(chromium, f"{running.url}/dashboard#requests", "claude-x")
        assert console == ""
        assert 'role="status">serving<' in page
        assert "claude-x" in page
        providers, _ = await shown(chromium, f"{running.url}/", "provider:a")
        assert 'data-row="provider:a"' in providers


async def test_with_keys_it_asks_for_one_and_shows_nothing_before(chromium: str) -> None:
    settings = "auth: {keys: [a-key-of-the-test-0123456789]}"
    async with Upstream() as up, balancer(configuration(up, settings=settings)) as running:
        page, _ = await shown(chromium, f"{running.url}/dashboard", "key needed")
        assert "key needed" in page
        assert "provider:" not in page
        async with httpx2.AsyncClient(base_url=running.url) as http:
            assert (await http.get("/events")).status_code == 401
            async with http.stream(
                "GET", "/events", headers={"x-balancer-key": "a-key-of-the-test-0123456789"}
            ) as live:
                async for line in live.aiter_lines():
                    if line.startswith("data: "):
                        assert json.loads(line[6:])["fleet"]["total_providers"] >= 1
                        assert "a-key-of-the-test" not in line
                        break
