"""Counting tokens through the balancer: a provider is asked, else they are estimated."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from live.harness import Peer, Seen, Upstream, balancer, configuration, good

pytestmark = pytest.mark.live


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
