"""Everything that reads text from outside, as functions from pieces of bytes: what the fuzzing feeds.

Each raises nothing but what its callers expect of it, and each returns what is the same however the bytes were cut.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import brotli
import msgspec
from client_side import BODY, STREAMED, Front, chunked, post
from conversion import DONE, chunk, decoder, sse
from fakezed import answer as zed_answer
from frames import ANSWER
from virtual_time import run, settled

from balancer import config
from balancer.dialects.zed.decoder import ZedDecoder, text_of
from balancer.model import Piece, Reply
from balancer.transport import TransportError
from balancer.transport.decompress import Decompressor
from balancer.transport.framing import FramedResponse, HeaderFields
from balancer.wire import chat, errors, loose, messages, waits
from balancer.wire import sse as frames
from balancer.wire.ndjson import LineSplitter
from balancer.wire.stream import StreamDecoder

WALL = 1.8e9
MESSAGE = b'{"model":"m","stream":false,"max_tokens":5,"metadata":{"user_id":"u_session_1"},"messages":[{"role":"user","content":"q"}]}'
ERROR = b'{"type":"error","error":{"type":"rate_limit_error","message":"try again in 3m20s","retry_after":7},"request_id":"r"}'
CONFIG = b"""\
providers:
  - {name: a, type: anthropic, base_url: "http://127.0.0.1:1", auth_value: sk-secret-of-a, headers: {x-a: b}}
  - {name: z, type: simulated, simulated_config: {latency: 1}}
model_routes: {"*": [{provider: a, model: passthrough, priority: 1}, {provider: z}], opus: [{provider: z}]}
settings: {host: 127.0.0.1, failure_cooldown: {seconds: 1}, auth: {keys: [${NAME:-b7d1e0c2f4a84c6e9d3b5a71}]}, sticky: {by: prefix}}
"""
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


@dataclass(frozen=True)
class Parser:
    """Reads pieces of bytes; `samples` are what it likes to read."""

    read: Callable[[Sequence[bytes]], object]
    samples: tuple[bytes, ...]
    cut: bool = True
    """It is given what it reads in pieces."""


def _requests(pieces: Sequence[bytes]) -> object:
    """Return what a connection of a client answers."""

    async def outcome() -> object:
        front = Front(STREAMED)
        wire = front.connect()
        for piece in pieces:
            wire.says(piece)
        await settled()
        await asyncio.sleep(40)  # more than the time of a head and of a body
        wire.leaves()
        await settled()
        return [request.model for request in front.relay.requests], wire.statuses

    return run(outcome())


def _response(pieces: Sequence[bytes]) -> object:
    response = FramedResponse(HeaderFields())
    for piece in filter(None, pieces):
        response.feed(piece)
    response.cut(None)
    return response.state, response.status, response.headers, b"".join(response.pieces)


def _framed(pieces: Sequence[bytes]) -> object:
    splitter = frames.FrameSplitter()
    found = [frame for piece in pieces for frame in splitter.feed(piece)]
    return [frames.fields(frame) for frame in found]


def _lines(pieces: Sequence[bytes]) -> object:
    splitter = LineSplitter()
    return [*(line for piece in pieces for line in splitter.feed(piece)), splitter.end()]


def _told(pieces: list[Piece]) -> object:
    data = b"".join(piece.data for piece in pieces)
    assert len(data) < 1_000_000
    return data, [piece.error.kind for piece in pieces if piece.error]


def _decoded(make: Callable[[], Any]) -> Callable[[Sequence[bytes]], object]:
    def read(pieces: Sequence[bytes]) -> object:
        reader = make()
        found = [one for piece in filter(None, pieces) for one in reader.feed(piece)]
        _told([*found, *reader.end()])
        return bool(reader.complete)

    return read


def _zed(stream: bool, wrapped: bool) -> Callable[[], ZedDecoder]:
    return lambda: ZedDecoder("asked", "n", stream=stream, wrapped=wrapped, learn=lambda word, value: None)


def _unpacked(coding: bytes) -> Callable[[Sequence[bytes]], object]:
    def read(pieces: Sequence[bytes]) -> object:
        unpacker, size = Decompressor(coding), 0
        with suppress(TransportError):
            for piece in pieces:
                size += sum(map(len, unpacker.pieces(piece)))
            unpacker.end()
        assert size < 65 << 20
        return None

    return read


def _json(pieces: Sequence[bytes]) -> object:
    body = b"".join(pieces)
    for read in (messages.head, messages.decoded, messages.members):
        with suppress(messages.BadRequest, msgspec.MsgspecError, RecursionError):  # callers answer 400
            read(body)
    with suppress(messages.BadRequest, msgspec.MsgspecError, UnicodeDecodeError):
        messages.head(body)
        body.decode()
        assert json.loads(b"".join(messages.spliced(body, "other")))["model"] == "other"
    for lenient in (loose.decoded_object, loose.loosely_decoded, loose.parsed):
        with suppress(ValueError):  # what json's own reader raises
            lenient(body)
    chat.chunk(body)
    text_of(body)
    return None


def _errors(pieces: Sequence[bytes]) -> object:
    body = b"".join(pieces)
    headers = (
        (b"retry-after", body[:60]),
        (b"anthropic-ratelimit-requests-reset", body[:60]),
        (b"content-type", b"application/json"),
    )
    for status in (200, 302, 400, 429, 529):
        fault = errors.fault_of(Reply(status, headers, body), WALL)
        assert len(fault.message) <= len(body) + 500
    assert (waits.stated_wait_s({"error": {"message": body.decode("latin-1")}}, body.decode("latin-1"), WALL) or 0) >= 0
    return None


def _configuration(pieces: Sequence[bytes]) -> object:
    with suppress(config.ConfigError):
        config.parse(b"".join(pieces), "providers.yaml", {})
    return None


CHAT = sse(chunk(content="a"), chunk(content="b"), chunk("stop"), DONE)
COMPLETION = b'{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}'
PARSERS: dict[str, Parser] = {
    "requests of clients": Parser(
        _requests,
        (
            post(),
            post(BODY, b"expect: 100-continue"),
            chunked(),
            chunked(size=3, trailers=b"x: y\r\n"),
            post() + chunked(),
        ),
    ),
    "answers of providers": Parser(
        _response,
        (
            HEAD + b"content-length: 5\r\n\r\nhello",
            HEAD + b"transfer-encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nx: y\r\n\r\n",
            b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + HEAD + b"\r\nuntil the end",
        ),
    ),
    "frames of events": Parser(_framed, (ANSWER, b"\xef\xbb\xbfdata: a\r\ndata: b\r\r\n\r\n: c\n\n")),
    "lines": Parser(_lines, (zed_answer(), b'{"a":1}\r\n\n{"b":2}')),
    "streams of the Messages API": Parser(_decoded(StreamDecoder), (ANSWER, MESSAGE, ERROR), cut=False),
    "streams of OpenAI's API": Parser(_decoded(decoder), (CHAT, COMPLETION, ERROR), cut=False),
    "answers of OpenAI's API": Parser(_decoded(lambda: decoder(stream=False)), (COMPLETION, CHAT, ERROR), cut=False),
    "streams of Zed": Parser(_decoded(_zed(True, True)), (zed_answer(), ERROR), cut=False),
    "answers of Zed": Parser(_decoded(_zed(False, False)), (zed_answer(wrapped=False), ERROR), cut=False),
    "gzip": Parser(
        _unpacked(b"gzip"), (gzip.compress(MESSAGE * 9), gzip.compress(b"a") + gzip.compress(b"b")), cut=False
    ),
    "deflate": Parser(_unpacked(b"deflate"), (zlib.compress(MESSAGE * 9),), cut=False),
    "brotli": Parser(_unpacked(b"br"), (brotli.compress(MESSAGE * 9),), cut=False),
    "JSON": Parser(_json, (MESSAGE, ERROR, COMPLETION, CHAT[6:-20]), cut=False),
    "errors": Parser(_errors, (ERROR, b"3600", b"Wed, 21 Oct 2026 07:28:00 GMT", b"2026-10-21T07:28:00Z"), cut=False),
    "configurations": Parser(_configuration, (CONFIG,), cut=False),
}
