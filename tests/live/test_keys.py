"""Named keys over real sockets: each right, each limit, and keys that come and go while the balancer runs."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import httpx2
import pytest
from live.harness import Peer, Seen, Upstream, balancer, configuration, eventually, good

pytestmark = pytest.mark.live

ASK: dict[str, Any] = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
KEY = "V9q3XrT7bLw2Zk8NfYp4HsJd6"
HASH = hashlib.sha256(f"{KEY}-monitor".encode()).hexdigest()
KEYS = f"""
    - {{name: team, key: {KEY}-team}}
    - {{name: monitor, key_sha256: {HASH}, rights: [read]}}
    - {{name: ops, key: {KEY}-ops, rights: [admin]}}
    - {{name: narrow, key: {KEY}-narrow, models: ["*-x"], providers: [b]}}
    - {{name: slow, key: {KEY}-slow, rpm: 1}}
    - {{name: small, key: {KEY}-small, tokens_per_minute: 5}}
    - {{name: single, key: {KEY}-single, max_in_flight: 1}}
    - {{name: old, key: {KEY}-old, expires: 2020-01-01}}
"""


def text(*upstreams: Upstream, keys: str = KEYS) -> str:
    return configuration(*upstreams).replace("settings: {}", f"settings:\n  auth:\n   keys:{keys}")


async def ask(http: httpx2.AsyncClient, name: str, model: str = "claude-x") -> httpx2.Response:
    return await http.post("/v1/messages", json=ASK | {"model": model}, headers={"x-api-key": f"{KEY}-{name}"})


async def test_each_right_opens_its_own_endpoints() -> None:
    async with Upstream() as up, Upstream() as other, balancer(text(up, other)) as running:
        async with httpx2.AsyncClient(base_url=running.url) as http:
            codes = {}
            for name in ("team", "monitor", "ops", "old", "unknown"):
                headers = {"x-api-key": f"{KEY}-{name}"}
                answers = [
                    await ask(http, name),
                    await http.get("/metrics", headers=headers),
                    await http.post("/admin/wake", json={"provider": "a"}, headers=headers),
                ]
                codes[name] = [answer.status_code for answer in answers]
            expired = (await ask(http, "old")).json()["error"]
            metrics = (await http.get("/metrics", headers={"x-api-key": f"{KEY}-monitor"})).text
        (ended,) = await running.ended()

        assert codes == {
            "team": [200, 200, 403],
            "monitor": [403, 200, 403],
            "ops": [403, 403, 200],
            "old": [401, 401, 401],
            "unknown": [401, 401, 401],
        }
        assert "'old' has expired" in expired["message"]
        assert ended["key"] == "team"
        assert 'balancer_requests_by_key_total{key="team",outcome="ok"} 1' in metrics
        assert KEY not in (running.folder / "logs" / "logs.jsonl").read_text()
        assert all(KEY not in str(seen.headers) for seen in (*up.seen, *other.seen))
    assert KEY.encode() not in running.output


async def test_a_key_asks_for_its_models_of_its_providers_alone() -> None:
    async with Upstream() as up, Upstream() as other, balancer(text(up, other)) as running:
        http = httpx2.AsyncClient(base_url=running.url)
        async with http:
            served, refused = await ask(http, "narrow"), await ask(http, "narrow", "claude-y")
            listed = await http.get("/v1/models/claude-y", headers={"x-api-key": f"{KEY}-narrow"})
            await http.post("/admin/pause", json={"provider": "b"}, headers={"authorization": f"Bearer {KEY}-ops"})
            out = await ask(http, "narrow")

    assert (served.status_code, served.headers["x-balancer-provider"]) == (200, "b")
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")
    assert "'narrow'" in refused.json()["error"]["message"]
    assert "'claude-y'" in refused.json()["error"]["message"]
    assert listed.status_code == 404
    assert out.status_code >= 500
    assert up.seen == []


async def test_each_limit_is_answered_with_429_and_the_time_to_wait() -> None:
    release = asyncio.Event()

    async def held(seen: Seen, peer: Peer) -> None:
        if b"claude-held" in seen.body:
            await release.wait()
        await good(seen, peer)

    async with Upstream(held) as up, Upstream(held) as other, balancer(text(up, other)) as running:
        http = httpx2.AsyncClient(base_url=running.url)
        async with http:
            slow = [await ask(http, "slow") for _ in range(2)]
            small = [await ask(http, "small") for _ in range(2)]
            first = asyncio.ensure_future(ask(http, "single", "claude-held"))
            await eventually(lambda: any(b"claude-held" in seen.body for seen in up.seen))
            single = [await ask(http, "single")]
            release.set()
            single = [await first, *single, await ask(http, "single")]
            free = await ask(http, "team")
            metrics = (await http.get("/metrics", headers={"x-api-key": f"{KEY}-monitor"})).text
        limited = [end for end in await running.ended(8) if end["status"] == 429]

    for answers, words in ((slow, "1 requests a minute"), (small, "5 tokens a minute"), (single, "in flight")):
        assert [answer.status_code for answer in answers[:2]] == [200, 429]
        assert answers[1].json()["error"]["type"] == "rate_limit_error"
        assert words in answers[1].json()["error"]["message"]
        assert 1 <= int(answers[1].headers["retry-after"]) <= 60
    assert single[2].status_code == 200
    assert free.status_code == 200
    assert 'balancer_requests_by_key_total{key="slow",outcome="client_error"} 1' in metrics
    assert sorted(end["key"] for end in limited) == ["single", "slow", "small"]
    assert all("has reached its limit" in end["reason"] for end in limited)


async def test_keys_come_and_go_without_a_restart_and_two_are_good_meanwhile() -> None:
    entry = "\n    - {{name: {0}, key: " + KEY + "-{0}}}"
    ops = f"\n    - {{name: ops, key: {KEY}-ops, rights: [admin]}}"
    async with Upstream() as up, balancer(text(up, keys=entry.format("first") + ops + "\n")) as running:
        codes = []
        async with httpx2.AsyncClient(base_url=running.url) as http:
            for names in (("first",), ("first", "second"), ("second",)):
                keys = "".join(map(entry.format, names)) + ops + "\n"
                (running.folder / "providers.yaml").write_text(text(up, keys=keys))
                reload = await http.post("/providers/reload", headers={"x-api-key": f"{KEY}-ops"})
                assert reload.status_code == 200, reload.text
                codes.append([(await ask(http, name)).status_code for name in ("first", "second")])

    assert codes == [[200, 401], [200, 200], [401, 200]]


async def test_the_audit_log_tells_who_changed_what_and_which_keys_were_refused() -> None:
    async with Upstream() as up, Upstream() as other, balancer(text(up, other)) as running:
        path = running.folder / "logs" / "audit.jsonl"

        def noted() -> list[dict[str, Any]]:
            return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

        ops = {"x-api-key": f"{KEY}-ops"}
        async with httpx2.AsyncClient(base_url=running.url) as http:
            await http.post("/admin/pause", json={"provider": "a"}, headers=ops)
            config = running.folder / "providers.yaml"
            config.write_text(config.read_text().replace("rpm: 1", "rpm: 2"))
            await http.post("/providers/reload", headers=ops)
            for name in ("team", "unknown", "unknown"):
                await http.post("/admin/wake", json={"provider": "a"}, headers={"x-api-key": f"{KEY}-{name}"})
        await eventually(lambda: len(noted()) >= 5)
        started, pause, reload, team, unknown = noted()
        mode = path.stat().st_mode & 0o777

        assert started["event"] == "started"
        assert (pause["event"], pause["provider"], pause["key"], pause["address"]) == ("pause", "a", "ops", "127.0.0.1")
        assert pause["key_hash"] == hashlib.sha256(f"{KEY}-ops".encode()).hexdigest()[:8]
        assert (reload["event"], reload["key"], reload["by"]) == ("reloaded", "ops", "client")
        assert "key 'slow' changed" in reload["changes"]
        assert (team["event"], team["key"], team["status"]) == ("key_refused", "team", 403)
        assert (unknown["event"], unknown["status"], "key" in unknown) == ("key_refused", 401, False)
        assert unknown["key_hash"] == hashlib.sha256(f"{KEY}-unknown".encode()).hexdigest()[:8]
        assert mode == 0o600
        running.process.terminate()
        await running.process.wait()
        assert noted()[-1]["event"] == "ended"
        assert KEY not in path.read_text()
