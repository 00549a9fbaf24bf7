"""Counting through the balancer: asked of a provider, else estimated, and corrected by real answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
from live.harness import Peer, Seen, Upstream, balancer, configuration, good
from stand_ins import candidate

from balancer.model import Candidate, Usage
from balancer.relay.counting import CalibrationLimits, Counting

BODY = json.dumps({"messages": [{"role": "user", "content": "hello world, how are you?"}]}).encode()


async def calibrated(counting: Counting, one: Candidate, tokens: int, cached: int = 0) -> bool:
    """Have a request answered that used so many tokens; return whether the estimates were calibrated by it."""
    sample = counting.sample(BODY, one)
    if sample is None:
        return False
    counting.calibrate(sample, one, Usage(input_tokens=tokens, cache_read_tokens=cached))
    await sample
    await asyncio.sleep(0)  # the comparison runs after the sample
    return True


async def test_reported_usage_corrects_the_estimates() -> None:
    counting = Counting(lambda: 0.0)
    one = candidate("a", "gpt-x", type="openai")
    first = await counting.count(BODY, "claude-x", one)
    assert await calibrated(counting, one, first, first // 2)

    assert abs(await counting.count(BODY, "claude-x", one) - 1.5 * first) <= 1
    assert await counting.count(BODY, "claude-x", candidate("b", "gpt-x", type="openai")) == first


async def test_who_counts_for_itself_is_calibrated_only_while_estimates_are_asked_for() -> None:
    clock = [0.0]
    counting = Counting(lambda: clock[0])
    assert not await calibrated(counting, candidate(), 9)
    await counting.count(BODY, "m", None)
    assert await calibrated(counting, candidate(), 9)
    clock[0] = 600.0
    assert await calibrated(counting, candidate(), 9)
    clock[0] = 600.1
    assert not await calibrated(counting, candidate(), 9)


async def test_after_the_first_samples_they_are_rare() -> None:
    clock = [0.0]
    counting = Counting(lambda: clock[0], CalibrationLimits(first_samples=3, sample_every_s=7.0))
    one = candidate(type="openai")
    for _ in range(3):
        assert await calibrated(counting, one, 9)
    assert not await calibrated(counting, one, 9)
    clock[0] = 6.9
    assert not await calibrated(counting, one, 9)
    clock[0] = 7.0
    assert await calibrated(counting, one, 9)


async def test_what_can_not_be_estimated_calibrates_nothing() -> None:
    counting = Counting(lambda: 0.0, CalibrationLimits(first_samples=1))
    one = candidate(type="openai")
    sample = counting.sample(b"{}", one)
    assert sample is not None
    counting.calibrate(sample, one, Usage(input_tokens=9))
    assert await sample == 0
    await asyncio.sleep(0)
    assert await calibrated(counting, one, 9), "it was none of the first samples"


async def test_a_long_conversation_is_counted_beside_the_event_loop() -> None:
    counting = Counting(lambda: 0.0)
    text = "words and (punctuation) 42 " * 20_000
    counted = asyncio.create_task(
        counting.count(json.dumps({"messages": [{"role": "user", "content": text}]}).encode(), "m", None)
    )
    turns = 0
    while not counted.done():
        turns += 1
        await asyncio.sleep(0)

    assert turns > 20
    assert await counted > 100_000


async def test_answers_of_a_provider_that_can_not_count_calibrate_its_estimates() -> None:
    async def talkative(seen: Seen, peer: Peer) -> None:
        usage = {"prompt_tokens": 60, "completion_tokens": 1, "total_tokens": 61}
        message = {"role": "assistant", "content": "ok"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        about = {"id": "x", "object": "chat.completion", "model": "m", "choices": choices, "usage": usage}
        await peer.whole(200, json.dumps(about).encode())

    ask = {"model": "m", "messages": [{"role": "user", "content": "hello world, and all who are in it; " * 4}]}
    async with Upstream(talkative) as up:
        where = f'base_url: "http://127.0.0.1:{up.port}/v1", auth_value: secret'
        config = f'providers: [{{name: o, type: openai, {where}}}]\nmodel_routes: {{"*": [{{provider: o}}]}}\n'
        async with balancer(config) as running, httpx2.AsyncClient(base_url=running.url, timeout=20) as http:
            (await http.post("/v1/messages", json={**ask, "max_tokens": 9})).raise_for_status()
            await running.ended()
            count = await http.post("/v1/messages/count_tokens", json=ask)

            assert count.headers["x-balancer-token-source"] == "estimate"
            assert count.json() == {"input_tokens": 60}
            assert len(up.seen) == 1


BAD: dict[str, dict[str, Any]] = {
    "a role that there is not": {"messages": [{"role": "robot", "content": "x"}]},
    "no role": {"messages": [{"content": "x"}]},
    "a message that is none": {"messages": [1]},
    "no messages": {},
    "messages that are a text": {"messages": "x"},
    "a model that is a number": {"model": 5, "messages": []},
}


async def test_what_would_be_refused_as_a_message_is_not_counted() -> None:
    config = 'providers: [{name: o, type: openai, base_url: "http://127.0.0.1:9/v1", auth_value: secret}]\n'
    config += 'model_routes: {"m": [{provider: o}]}\n'
    async with balancer(config) as running, httpx2.AsyncClient(base_url=running.url) as http:
        for name, body in BAD.items():
            for path in ("/v1/messages", "/v1/messages/count_tokens"):
                answer = await http.post(path, json={"model": "m", "max_tokens": 5, **body})
                assert answer.status_code == 400, (name, path)
                assert answer.json()["error"]["type"] == "invalid_request_error", (name, path)
        unknown = await http.post("/v1/messages/count_tokens", json={"model": "other", "messages": []})
        assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")


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


async def test_half_a_character_is_counted_as_it_is_answered() -> None:
    counting = Counting(lambda: 0.0)
    half = BODY.replace(b"hello", rb"hel\ud83dlo")

    assert await counting.count(half, "claude-x", None) > 0
