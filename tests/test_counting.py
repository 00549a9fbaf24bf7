"""Counting through the balancer: asked of a provider, else estimated, and corrected by real answers."""

from __future__ import annotations

import asyncio
import json

import httpx2
from live.harness import Peer, Seen, Upstream, balancer, configuration, good
from stand_ins import candidate

from balancer.counting import Counting
from balancer.model import Usage

BODY = json.dumps({"messages": [{"role": "user", "content": "hello world, how are you?"}]}).encode()


async def test_lessons_correct_the_estimates() -> None:
    clock = [0.0]
    counting = Counting(lambda: clock[0])
    one = candidate("a", "claude-x")
    assert counting.lesson(BODY, one) is None  # nobody has asked for an estimate
    first = await counting.count(BODY, "claude-x", one)
    for _ in range(20):
        clock[0] += 6.0
        lesson = counting.lesson(BODY, one)
        assert lesson is not None
        await counting.learn(lesson, one, Usage(input_tokens=first, cache_read_tokens=first // 2))

    assert abs(await counting.count(BODY, "claude-x", one) - 1.5 * first) <= 1
    assert await counting.count(BODY, "claude-x", None) == first


async def test_lessons_are_rare() -> None:
    counting = Counting(lambda: 1.0)
    await counting.count(BODY, "m", None)
    lesson = counting.lesson(BODY, candidate())
    assert lesson is not None
    await lesson
    assert counting.lesson(BODY, candidate()) is None


async def test_a_provider_that_can_not_count_is_stood_in_for() -> None:
    async def no_counting(seen: Seen, peer: Peer) -> None:
        if "count_tokens" in seen.target:
            await peer.whole(500, b"{}")
        else:
            await good(seen, peer)

    async def silent(seen: Seen, peer: Peer) -> None:
        await asyncio.sleep(60)

    ask = {"model": "claude-x", "messages": [{"role": "user", "content": "hello world"}]}
    for behaviour in (no_counting, silent):
        async with (
            Upstream(behaviour) as up,
            balancer(configuration(up, settings="failure_cooldown: 0")) as running,
            httpx2.AsyncClient(base_url=running.url, timeout=20) as http,
        ):
            answer = await http.post("/v1/messages/count_tokens", json=ask)
            bad = await http.post("/v1/messages/count_tokens", json={"model": "claude-x"})

        assert answer.status_code == 200
        assert answer.headers["x-balancer-token-source"] == "estimate"
        assert 5 < answer.json()["input_tokens"] < 40
        assert bad.status_code == 400
