"""The short way in and uvicorn's: whatever a client sends and however, both answer alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from live.harness import Peer, Running, Seen, Upstream, balancer, block, configuration, delta, eventually, good, start

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]

REQUEST = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}


class World:
    def __init__(self, running: Running, upstream: Upstream) -> None:
        self.running = running
        self.upstream = upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["short", "uvicorn"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with (
        Upstream() as upstream,
        balancer(configuration(upstream, settings=PROXIES), by_uvicorn=request.param == "uvicorn") as running,
    ):
        yield World(running, upstream)


PROXIES = "trusted_proxies: [127.0.0.1]"
"""HTTP/1.0 is a proxy's, unless the proxy is trusted."""


def post(number: int, *lines: str, stream: bool = False, version: str = "1.1", **more: Any) -> bytes:
    """Return a request that is like no other."""
    body = json.dumps(REQUEST | {"stream": stream, "metadata": {"user_id": str(number)}} | more).encode()
    head = [f"POST /v1/messages?beta=true HTTP/{version}", "host: localhost", "content-type: application/json"]
    if not any("chunked" in line for line in lines):
        head.append(f"content-length: {len(body)}")
    else:
        body = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (10, body[:10], len(body) - 10, body[10:])
    return "\r\n".join([*head, *lines, "", ""]).encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the next answer. Raises `IncompleteReadError` when it is not whole."""
    async with asyncio.timeout(10):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        else:
            body = await reader.read()
    return int(lines[0].split()[1]), headers, body


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "lines",
    [(), ("transfer-encoding: chunked",), ("connection: close",), ("x-balancer-key: unused",)],
    ids=["plain", "chunked", "close", "key"],
)
async def test_an_answer_is_whole(world: World, lines: tuple[str, ...], stream: bool) -> None:
    world.upstream.behaviour = good
    reader, writer = await asyncio.open_connection("127.0.0.1", world.running.port)
    writer.write(post(1, *lines, stream=stream))
    status, headers, body = await answer(reader)

    assert status == 200
    assert b"Hello" in body
    assert (b"message_stop" in body) == stream
    assert headers["x-balancer-provider"] == "a"
    assert "date" in headers
    if "connection: close" in lines:
        assert headers["connection"] == "close"
        assert await reader.read() == b""
    writer.close()


async def test_a_body_may_come_in_pieces_and_be_large(world: World) -> None:
    world.upstream.behaviour = good
    reader, writer = await asyncio.open_connection("127.0.0.1", world.running.port)
    data = post(2, system="x" * 1_000_000)
    for at in range(0, len(data), 100_000):
        writer.write(data[at : at + 100_000])
        await writer.drain()
    assert (await answer(reader))[0] == 200
    assert world.upstream.asked[-1].json["system"] == "x" * 1_000_000
    writer.close()


async def test_requests_one_after_the_other_and_ahead_of_time(world: World) -> None:
    world.upstream.behaviour = good
    reader, writer = await asyncio.open_connection("127.0.0.1", world.running.port)
    for number in (3, 4):
        writer.write(post(number))
        assert (await answer(reader))[0] == 200
    writer.write(post(5, stream=True) + post(6) + b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n" + post(7))
    bodies = [(await answer(reader))[2] for _ in range(4)]

    assert b"message_stop" in bodies[0]
    assert b"Hello" in bodies[1]
    assert json.loads(bodies[2]) == {"status": "ok"}
    assert b"Hello" in bodies[3]
    writer.close()


async def test_a_client_may_ask_whether_to_go_on(world: World) -> None:
    world.upstream.behaviour = good
    reader, writer = await asyncio.open_connection("127.0.0.1", world.running.port)
    head, _, body = post(8, "expect: 100-continue").partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    async with asyncio.timeout(10):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await answer(reader))[0] == 200
    writer.close()


async def test_http_1_0_gets_its_answer_and_the_end_of_the_connection(world: World) -> None:
    world.upstream.behaviour = good
    reader, writer = await asyncio.open_connection("127.0.0.1", world.running.port)
    writer.write(post(9, stream=True, version="1.0"))
    status, _, body = await answer(reader)

    assert status == 200
    assert b"message_stop" in body
    writer.close()


async def hangs(seen: Seen, peer: Peer) -> None:
    await peer.sse()
    await peer.chunk(start() + block() + delta("so far"))
    await asyncio.Event().wait()


@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_leaves_ends_the_work_for_it(world: World, begun: bool) -> None:
    async def silent(seen: Seen, peer: Peer) -> None:
        await asyncio.Event().wait()

    world.upstream.behaviour = hangs if begun else silent
    reader, writer = await asyncio.open_connection("127.0.0.1", world.running.port)
    before, left = len(world.upstream.asked), world.upstream.left
    writer.write(post(10 + begun, stream=True))
    await eventually(lambda: len(world.upstream.asked) > before)
    if begun:
        async with asyncio.timeout(10):
            await reader.readuntil(b"so far")
    writer.transport.abort()
    await eventually(lambda: world.upstream.left == left + 1)


@pytest.mark.parametrize("line", ["x-a: b", "transfer-encoding: chunked"], ids=["plain", "chunked"])
async def test_who_has_asked_ahead_of_time_may_leave_as_well(line: str) -> None:
    async with Upstream(trickles) as upstream, balancer(configuration(upstream)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(post(15, line, stream=True) + post(16) + post(17))
        async with asyncio.timeout(10):
            await reader.readuntil(b"so far")
        writer.transport.abort()
        ends = await running.ended()

    assert [end["outcome"] for end in ends] == ["abandoned"]
    assert len(upstream.asked) == 1
    assert b"Traceback" not in running.output


async def trickles(seen: Seen, peer: Peer) -> None:
    """Never end, so that whoever is given it has to be written to."""
    await peer.sse()
    await peer.chunk(start() + block())
    while True:
        await peer.chunk(delta("so far"))
        await asyncio.sleep(0.01)


async def test_a_stream_that_broke_has_no_end_that_looks_whole(world: World) -> None:
    async def breaks(seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await peer.chunk(start() + block() + delta("so far"))
        peer.reset()

    world.upstream.behaviour = breaks
    reader, writer = await asyncio.open_connection("127.0.0.1", world.running.port)
    writer.write(post(12, "user-agent: claude-cli/2.1.330 (external, cli)", stream=True))
    with pytest.raises(asyncio.IncompleteReadError):
        await answer(reader)
    writer.close()


async def test_a_client_that_stops_in_its_body_and_leaves_leaves_nothing(world: World) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", world.running.port)
    before = len(world.upstream.asked)
    writer.write(post(13)[:-10])
    await writer.drain()
    writer.close()
    world.upstream.behaviour = good
    reader, writer = await asyncio.open_connection("127.0.0.1", world.running.port)
    writer.write(post(14))
    assert (await answer(reader))[0] == 200
    assert len(world.upstream.asked) == before + 1
    writer.close()


async def test_who_is_cut_off_by_the_end_is_told_so() -> None:
    async with (
        Upstream(hangs) as upstream,
        balancer(configuration(upstream, settings="drain_timeout: 1")) as running,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(post(15, stream=True))
        async with asyncio.timeout(10):
            await reader.readuntil(b"so far")
        running.process.terminate()
        async with asyncio.timeout(10):
            rest = await reader.read()
        assert b"event: error\n" in rest
        assert b"stopped before the answer was whole" in rest
        assert b"message_stop" not in rest
        writer.close()
        await running.process.wait()
