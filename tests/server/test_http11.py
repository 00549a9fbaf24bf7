"""The server's connections, with clients that are slow, long-winded or not speaking HTTP. Clocks run fast here."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from live.harness import eventually
from uvicorn.server import ServerState

from balancer.app import create_app
from balancer.model import Request
from balancer.relay.relay import Relay
from balancer.relay.writer import ResponseWriter
from balancer.server import asgi, exchange
from balancer.server import http11 as inbound
from balancer.server import run as server

CONFIG = """\
providers:
  - {name: a, type: simulated, simulated_config: {latency: 0, speed: 0}}
model_routes:
  "*": [{provider: a}]
settings: {log_file: null, log_level: CRITICAL}
"""
BODY = b'{"model":"m","max_tokens":5,"messages":[]}'
HOST = b"host: localhost\r\n"
POST = b"POST /v1/messages HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(BODY), BODY)
GOOD = POST + b"content-length: %d\r\n\r\n" % len(BODY) + BODY


@pytest_asyncio.fixture
async def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Serve simulated answers inside this process."""
    monkeypatch.setattr(inbound, "HEAD_WITHIN_S", 0.3)
    monkeypatch.setattr(inbound, "BODY_IDLE_S", 0.3)
    monkeypatch.setattr(asgi, "BODY_IDLE_S", 0.3)
    path = tmp_path / "providers.yaml"
    path.write_text(CONFIG)
    app = create_app(str(path))
    await app.start()
    config = server.configured(app)
    config.load()
    state = ServerState()
    listening = await asyncio.get_running_loop().create_server(
        lambda: inbound.ClientConnection(config, state, {}), "127.0.0.1", 0
    )
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    for connection in list(state.connections):
        connection.transport.abort()
    await app.stop()


async def talk(port: int, *parts: bytes, every_s: float = 0.0) -> bytes:
    """Send the parts, with a pause after each, and return all that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.ensure_future(_all(reader))
    try:
        for part in parts:
            if answer.done():
                break
            writer.write(part)
            await asyncio.wait({answer}, timeout=every_s)
        async with asyncio.timeout(10):
            return await answer
    finally:
        answer.cancel()
        writer.close()


async def _all(reader: asyncio.StreamReader) -> bytes:
    got = b""
    try:
        while data := await reader.read(65536):
            got += data
    except ConnectionResetError:  # something of ours was on its way when the server closed
        pass
    return got


def told(answer: bytes) -> tuple[int, str]:
    """Return the status and the words of the only answer there is, which has the API's shape."""
    head, _, body = answer.partition(b"\r\n\r\n")
    error = json.loads(body)
    assert error["type"] == "error"
    assert f"x-balancer-request-id: {error['request_id']}".encode() in head
    assert b"connection: close" in head
    return int(head.split()[1]), error["error"]["message"]


LONG = b"x-long: " + b"x" * 70_000 + b"\r\n"
REFUSED = {
    "a long header": ([POST + LONG + b"\r\n"], 400, "longer than 65536 bytes"),
    "a long header in two parts": ([POST + LONG[:9], LONG[9:] + b"\r\n"], 400, "longer than 65536 bytes"),
    "many headers": ([POST + b"x-a: b\r\n" * 9000 + b"\r\n"], 400, "longer than 65536 bytes"),
    "a long address": ([b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"], 400, "longer than 65536 bytes"),
    "headers without end": ([POST, *[b"x-a: b\r\n" * 2000] * 20], 400, "longer than 65536 bytes"),
    "another coding": ([POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"], 400, "transfer-encoding"),
    "a coding that is none": ([POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"], 400, "transfer-encoding"),
    "trailers without end": ([CHUNKED, b"0\r\n", *[b"x-a: b\r\n" * 2000] * 20], 400, "longer than 65536 bytes"),
    "a trailer without end": ([CHUNKED, b"0\r\nx-a: ", *[b"b" * 16_000] * 20], 400, "longer than 65536 bytes"),
    "a chunk without size": ([POST + b"transfer-encoding: chunked\r\n\r\n", b"zz\r\nabc"], 400, "not a valid HTTP request"),
    "a head that stops": ([POST], 408, "headers did not come"),
    "a body that stops": ([GOOD[:-9]], 408, "body stopped"),
    "chunks that stop": ([POST + b"transfer-encoding: chunked\r\n\r\n5\r\nab"], 408, "body stopped"),
}  # fmt: skip


@pytest.mark.parametrize(("parts", "status", "words"), REFUSED.values(), ids=REFUSED)
async def test_what_is_refused_is_told_and_the_connection_closed(
    port: int, parts: list[bytes], status: int, words: str
) -> None:
    got, message = told(await talk(port, *parts, every_s=0.02))

    assert got == status
    assert words in message


DRIPS = {
    "a head": (POST + b"x-a: ", b"a"),
    "a body": (POST + b"content-length: 5000\r\n\r\n", b"a"),
    "chunks": (POST + b"transfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
}


@pytest.mark.parametrize(("begin", "drop"), DRIPS.values(), ids=DRIPS)
async def test_a_drip_keeps_no_connection_busy(port: int, begin: bytes, drop: bytes) -> None:
    assert told(await talk(port, begin, *[drop] * 200, every_s=0.05))[0] == 408


async def test_whoever_says_nothing_is_sent_away(port: int) -> None:
    assert await talk(port) == b""


async def test_a_head_that_stops_on_a_used_connection_is_told(port: int) -> None:
    answer = await talk(port, GOOD, POST, every_s=0.1)

    assert answer.count(b"HTTP/1.1 200") == 1
    assert answer.count(b"HTTP/1.1 408") == 1


async def test_a_long_body_at_a_modest_pace_is_taken(port: int) -> None:
    body = BODY[:-1] + b',"metadata":"' + b"x" * 2000 + b'"}'
    parts = [body[at : at + 200] for at in range(0, len(body), 200)]
    head = POST + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)

    assert (await talk(port, head, *parts, every_s=0.05)).startswith(b"HTTP/1.1 200")


async def test_a_head_just_within_the_limit_is_taken(port: int) -> None:
    head = POST + b"connection: close\r\nx-long: " + b"x" * 65_000 + b"\r\ncontent-length: %d\r\n\r\n" % len(BODY)

    assert (await talk(port, head[:30_000], head[30_000:] + BODY, every_s=0.02)).startswith(b"HTTP/1.1 200")


async def test_what_follows_a_body_is_no_header(port: int) -> None:
    """Whatever looks at headers has done so by then."""
    trailers = b"0\r\norigin: https://elsewhere.example\r\nhost: elsewhere.example\r\n\r\n"

    last = GOOD.replace(HOST, HOST + b"connection: close\r\n")

    answer = await talk(port, CHUNKED + trailers, last, every_s=0.1)

    assert answer.count(b"HTTP/1.1 200") == 2


async def test_trailers_do_not_count_as_the_next_head(port: int) -> None:
    line = b"x-long: " + b"x" * 39_000 + b"\r\n"
    last = GOOD.replace(HOST, HOST + b"connection: close\r\n" + line)

    answer = await talk(
        port, CHUNKED + b"0\r\n", line, b"\r\n", last[:99], last[99:30_000], last[30_000:], every_s=0.05
    )

    assert answer.count(b"HTTP/1.1 200") == 2


async def test_a_request_that_goes_wrong_puts_nothing_into_the_answer_before_it(port: int) -> None:
    answer = await talk(port, GOOD + POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n")

    assert b"HTTP/1.1 400" not in answer


@pytest.mark.parametrize("begun", [False, True])
async def test_a_fault_of_ours_ends_the_connection(port: int, monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
    async def fails(relay: Relay, request: Request, writer: ResponseWriter, task: object) -> None:
        if begun:
            writer.start(200, ((b"x-a", b"b"),))
            await writer.write(b"so far")
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(Relay, "answer", fails)

    for _ in range(2):  # the second is not taken for a twin of the first
        answer = await talk(port, GOOD)

        assert (b"so far" in answer) is begun
        assert b"0\r\n\r\n" not in answer


@pytest.mark.parametrize("sent", [GOOD[:-9], GOOD, GOOD + GOOD], ids=["half a body", "a request", "two requests"])
async def test_who_leaves_leaves_nothing_for_the_collector(port: int, sent: bytes) -> None:
    """It comes late: until then, bodies of 32 MB that stopped half way would be kept."""
    gc.collect()
    gc.disable()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        if sent.endswith(BODY):
            await reader.readuntil(b"usage")
        else:
            await eventually(lambda: bool(kept()))
        writer.close()
        await eventually(lambda: not kept())
    finally:
        gc.enable()


def kept() -> list[object]:
    """Return what there is of clients' connections and requests."""
    return [one for one in gc.get_objects() if type(one) in (inbound.ClientConnection, exchange.Exchange)]
