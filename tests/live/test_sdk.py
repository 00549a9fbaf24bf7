"""The real `anthropic` SDK through the real balancer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest
from live.harness import (
    Peer,
    Seen,
    Upstream,
    arguments,
    balancer,
    block,
    configuration,
    delta,
    error,
    eventually,
    good,
    start,
    stop,
)

pytestmark = pytest.mark.live

ASK: dict[str, Any] = {"model": "claude-opus-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}


def client(url: str, **more: Any) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=url, api_key="sk-ant-client", **{"max_retries": 0, **more})


async def test_a_message_whole_and_streamed() -> None:
    async with Upstream() as up, balancer(configuration(up)) as running, client(running.url) as sdk:
        whole = await sdk.messages.create(**ASK)
        async with sdk.messages.stream(**ASK) as stream:
            streamed = await stream.get_final_message()

        assert whole.content[0].text == "Hello from the upstream."
        assert streamed.content[0].text.strip() == "Hello from the upstream."  # type: ignore[union-attr]
        assert streamed.usage.output_tokens == 5
        for seen in up.asked:
            assert seen.header("x-api-key") == "sk-canary-a"
            assert seen.header("authorization") is None
            assert "sk-ant-client" not in str(seen.headers)
            assert seen.header("anthropic-version")


async def test_the_synchronous_client() -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:

        def ask() -> str:
            sdk = anthropic.Anthropic(base_url=running.url, api_key="x", max_retries=0)
            with sdk, sdk.messages.stream(**ASK) as stream:
                return "".join(stream.text_stream)

        assert (await asyncio.to_thread(ask)).strip() == "Hello from the upstream."


async def test_a_tool_turn() -> None:
    async def tool(seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await peer.chunk(start() + block(type="tool_use", id="toolu_1", name="weather", input={}))
        await peer.chunk(arguments('{"city": "Pa') + arguments('ris"}') + stop("tool_use"))
        await peer.end()

    tools: Any = [{"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]
    async with Upstream(tool) as up, balancer(configuration(up)) as running, client(running.url) as sdk:
        async with sdk.messages.stream(**ASK, tools=tools) as stream:
            answer = await stream.get_final_message()

        assert answer.stop_reason == "tool_use"
        assert answer.content[0].input == {"city": "Paris"}  # type: ignore[union-attr]


async def test_errors_come_as_the_sdk_knows_them() -> None:
    async def too_long(seen: Seen, peer: Peer) -> None:
        told = {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"},
        }
        await peer.whole(400, json.dumps(told).encode(), request_id="req_up")

    async with Upstream(too_long) as up, balancer(configuration(up)) as running, client(running.url) as sdk:
        with pytest.raises(anthropic.BadRequestError, match="prompt is too long") as caught:
            await sdk.messages.create(**ASK)
        assert caught.value.request_id == "req_up"

    async with balancer(configuration(9)) as running, client(running.url) as sdk:
        with pytest.raises(anthropic.InternalServerError, match="a: connection refused") as outage:
            await sdk.messages.create(**ASK)
        assert outage.value.status_code == 503
        assert 1 <= int(outage.value.response.headers["retry-after"]) <= 60


async def test_a_stream_that_breaks_raises() -> None:
    async def breaking(seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await peer.chunk(start() + block() + delta("half an ans"))
        peer.reset()

    async with Upstream(breaking) as up, balancer(configuration(up)) as running, client(running.url) as sdk:
        with pytest.raises(anthropic.APIStatusError, match="broke off"):
            async with sdk.messages.stream(**ASK) as stream:
                await stream.get_final_message()


@pytest.mark.parametrize("stream", [True, False])
async def test_failing_over_is_not_seen(stream: bool) -> None:
    async def overloaded(seen: Seen, peer: Peer) -> None:
        if seen.stream:
            await peer.sse()
            await peer.chunk(start() + error())
            await peer.end()
        else:
            await peer.whole(529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}')

    async with (
        Upstream(overloaded) as ill,
        Upstream() as well,
        balancer(configuration(ill, well)) as running,
        client(running.url) as sdk,
    ):
        if stream:
            async with sdk.messages.stream(**ASK) as stream_:
                answer = await stream_.get_final_message()
        else:
            answer = await sdk.messages.create(**ASK)

        assert answer.content[0].text.strip() == "Hello from the upstream."  # type: ignore[union-attr]
        assert (len(ill.asked), len(well.asked)) == (1, 1)
        (ended,) = await running.ended()
        assert [attempt["provider"] for attempt in ended["attempts"]] == ["a", "b"]


async def test_counting_tokens_and_listing_models() -> None:
    async with Upstream() as up, balancer(configuration(up)) as running, client(running.url) as sdk:
        count = await sdk.messages.count_tokens(model="m", messages=[{"role": "user", "content": "hi"}])
        models = [model.id async for model in sdk.models.list()]

        assert count.input_tokens == 42
        assert models == ["claude-listed"]


async def test_a_slow_client_slows_the_upstream() -> None:
    written = 0

    async def torrent(seen: Seen, peer: Peer) -> None:
        nonlocal written
        await peer.sse()
        await peer.chunk(start() + block())
        for _ in range(3000):
            await peer.chunk(delta("x" * 10_000))
            written += 10_000

    ask = json.dumps({**ASK, "stream": True}).encode()
    async with Upstream(torrent) as up, balancer(configuration(up)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=4096)
        writer.write(b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(ask), ask))
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.3)

        assert written < 20_000_000
        writer.transport.abort()
        await eventually(lambda: up.left == 1)


async def test_many_at_once() -> None:
    async with Upstream(good) as up, balancer(configuration(up)) as running, client(running.url) as sdk:
        answers = await asyncio.gather(*(sdk.messages.create(**{**ASK, "max_tokens": n + 1}) for n in range(60)))

        assert all(answer.stop_reason == "end_turn" for answer in answers)
        assert up.connections <= 60
