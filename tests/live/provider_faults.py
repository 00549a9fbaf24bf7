"""What a provider does on the scorecard, fault by fault; `scorecard.py` plays them and judges what came of each."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import zlib
from collections.abc import Callable
from typing import Any

import brotli
from live import refused
from live.harness import Behaviour, Peer, Seen, arguments, block, delta, error, event, good, message, start, stop

TEXT = "Hello from the well provider."
PING = event({"type": "ping"})


def refusing(status: int, kind: str, words: str = "no", **headers: str) -> Behaviour:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": words}}).encode()

    async def behave(seen: Seen, peer: Peer) -> None:
        await peer.whole(status, body, **headers)

    return behave


def answering(status: int, body: bytes, content_type: str = "text/html") -> Behaviour:
    async def behave(seen: Seen, peer: Peer) -> None:
        await peer.whole(status, body, content_type)

    return behave


def streaming(*parts: bytes, then: str = "end", whole: bytes = b'{"type":"mess') -> Behaviour:
    """Send `parts` as a stream, or `whole` where none was asked for; then end, close, reset or stall."""

    async def behave(seen: Seen, peer: Peer) -> None:
        if seen.stream:
            await peer.sse()
            for part in parts:
                await peer.chunk(part)
        else:
            await peer.head(200, content_type="application/json", transfer_encoding="chunked")
            await peer.chunk(whole)
        if then == "end":
            await peer.end()
        elif then == "close":
            peer.close()
        elif then == "reset":
            peer.reset()
        else:
            await asyncio.sleep(60)

    return behave


def inside_a_200(said: Any) -> Behaviour:
    """Say it as the only event of a stream, or as the whole body."""
    body = json.dumps(said).encode()
    return streaming(b"data: " + body + b"\n\n", whole=body)


def raw(data: bytes, then: str = "close") -> Behaviour:
    async def behave(seen: Seen, peer: Peer) -> None:
        await peer.raw(data)
        if then == "reset":
            peer.reset()
        elif then == "close":
            peer.close()
        else:
            await asyncio.sleep(60)

    return behave


async def pinging(seen: Seen, peer: Peer) -> None:
    if not seen.stream:
        await asyncio.sleep(60)
    await peer.sse()
    while True:
        await peer.chunk(PING)
        await asyncio.sleep(0.2)


def going_on_with(piece: bytes) -> Behaviour:
    """Begin an answer, then send `piece` again and again and never get on."""

    async def behave(seen: Seen, peer: Peer) -> None:
        if not seen.stream:
            await asyncio.sleep(60)
        await peer.sse()
        await peer.chunk(EMPTY_TEXT + WORDS)
        while True:
            await peer.chunk(piece)
            await asyncio.sleep(0.2)

    return behave


def odd_usage(data: bytes) -> bytes:
    """Every number of tokens in another form."""
    data = re.sub(rb'("input_tokens": ?)(\d+)', rb"\1\2.0", data)
    return re.sub(rb'("output_tokens": ?)(\d+)', rb'\1"\2"', data)


async def endless_head(seen: Seen, peer: Peer) -> None:
    await peer.raw(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        await peer.raw(b"y" * 10_000)


async def trickling(seen: Seen, peer: Peer) -> None:
    """One byte at a time, and whole in the end."""
    if not seen.stream:
        body = message(TEXT)
        await peer.head(200, content_type="application/json", content_length=str(len(body)))
        for byte in body:
            await peer.raw(bytes([byte]))
        return
    await peer.sse()
    for byte in start() + block() + delta(TEXT) + stop():
        await peer.chunk(bytes([byte]))
    await peer.end()


def compressed(name: str, compress: Callable[[bytes], bytes]) -> Behaviour:
    async def behave(seen: Seen, peer: Peer) -> None:
        body = compress(start() + block() + delta(TEXT) + stop() if seen.stream else message(TEXT))
        kind = "text/event-stream" if seen.stream else "application/json"
        await peer.whole(200, body, kind, content_encoding=name)

    return behave


async def long_event(seen: Seen, peer: Peer) -> None:
    """One event of 20 MB in the content, as of a document that was fetched."""
    long = TEXT + " " * 20_000_000
    if not seen.stream:
        await peer.whole(200, message(long))
        return
    await streaming(EMPTY_TEXT, delta(long), stop())(seen, peer)


async def gone_after_its_end(seen: Seen, peer: Peer) -> None:
    """Whole by its own words, though not by HTTP's."""
    if seen.stream:
        await streaming(EMPTY_TEXT, delta(TEXT), stop(), then="reset")(seen, peer)
    else:
        await peer.whole(200, message(TEXT))
        peer.reset()


async def open_after_its_end(seen: Seen, peer: Peer) -> None:
    if seen.stream:
        await streaming(EMPTY_TEXT, delta(TEXT), stop(), then="stall")(seen, peer)
    else:
        await peer.whole(200, message(TEXT))


async def until_it_closes(seen: Seen, peer: Peer) -> None:
    """Neither a length nor chunks: the end of the connection is the end of the answer."""
    await peer.head(200, content_type="text/event-stream" if seen.stream else "application/json", connection="close")
    await peer.raw(EMPTY_TEXT + delta(TEXT) + stop() if seen.stream else message(TEXT))
    peer.close()


async def early_hints(seen: Seen, peer: Peer) -> None:
    await peer.raw(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
    await well(seen, peer)


async def crlf(seen: Seen, peer: Peer) -> None:
    if not seen.stream:
        await peer.whole(200, message(TEXT).replace(b", ", b",\r\n"))
        return
    await peer.sse()
    await peer.chunk((start() + block() + delta(TEXT) + stop()).replace(b"\n", b"\r\n"))
    await peer.end()


async def well(seen: Seen, peer: Peer) -> None:
    await good(seen, peer, TEXT)


WORDS = delta("half an ") + delta("ans")
EMPTY_TEXT = start() + block()
TOOL = start() + block(type="tool_use", id="toolu_1", name="Bash", input={})
WHOLE_STREAM = EMPTY_TEXT + delta(TEXT) + stop()
HALF_MESSAGE = message(TEXT)[:60]
ALMOST_STOP = stop().partition(b"event: message_stop")[0]
NO_USAGE = event(
    {"type": "message_start", "message": {"id": "msg_up", "type": "message", "role": "assistant", "content": []}}
)
USAGE = b'{"input_tokens": 7, "output_tokens": 1}'
WORDY_USAGE = start().replace(USAGE, b'"none"')
WORDY_MESSAGE = message(TEXT).replace(b'{"input_tokens": 7, "output_tokens": 5}', b'"none"')
OVERFLOW = "This model's maximum context length is 128000 tokens. However, you requested 130000."
LONGEST_FRAME = b"event: content_block_delta\ndata: " + b"x" * 45 * 1024 * 1024

HIDDEN: dict[str, Behaviour] = {
    "529 overloaded": refusing(529, "overloaded_error"),
    "429 with retry-after: 3": refusing(429, "rate_limit_error", retry_after="3"),
    "429 with retry-after: 120": refusing(429, "rate_limit_error", retry_after="120"),
    "429 with a date as retry-after": refusing(429, "rate_limit_error", retry_after="Fri, 31 Dec 2077 23:59:59 GMT"),
    "429 without a word": answering(429, b"", "text/plain"),
    "429 with x-should-retry: false": refusing(429, "rate_limit_error", x_should_retry="false"),
    "429 until a limit is reset": refusing(
        429, "rate_limit_error", anthropic_ratelimit_unified_status="rejected", anthropic_ratelimit_unified_reset="4e9"
    ),
    "529 with x-should-retry: false": refusing(529, "overloaded_error", x_should_retry="false"),
    "500": refusing(500, "api_error"),
    "502 with an HTML page": answering(502, b"<html><body>Bad gateway</body></html>"),
    "503": refusing(503, "api_error"),
    "504": refusing(504, "timeout_error"),
    "520 from an edge": answering(520, b"<html></html>"),
    "408": refusing(408, "timeout_error"),
    "409": refusing(409, "conflict_error"),
    "401 refused key": refusing(401, "authentication_error"),
    "402 no credit": refusing(402, "billing_error"),
    "403 no permission": refusing(403, "permission_error"),
    "403 with an HTML page": answering(403, b"<html>Attention required</html>"),
    "451": refusing(451, "permission_error"),
    "410": refusing(410, "not_found_error"),
    "an endless refusal": answering(500, b"no " * 500_000, "text/plain"),
    "404 unknown model": refusing(404, "not_found_error", "model: claude-x"),
    "405 from a wrong address": answering(405, b"Method Not Allowed", "text/plain"),
    "400 about credit": refusing(400, "invalid_request_error", "Your credit balance is too low to access the API"),
    "400 about an unknown model": refusing(400, "invalid_request_error", "unknown model: claude-x"),
    "400 about an unknown beta": refusing(
        400, "invalid_request_error", "Unexpected value(s) `x` for the `anthropic-beta` header"
    ),
    "400 about a foreign signature": refusing(
        400, "invalid_request_error", "messages.1: Invalid `signature` in `thinking` block"
    ),
    "a redirect": answering(307, b"", "text/plain"),
    "a reset before the head": raw(b"", "reset"),
    "closed before the head": raw(b"", "close"),
    "closed in the head": raw(b"HTTP/1.1 200 OK\r\ncontent-ty", "close"),
    "no answer at all": raw(b"", "stall"),
    "a head, then silence": streaming(then="stall", whole=b""),
    "a head, then a reset": streaming(then="reset", whole=b""),
    "a start, then silence": streaming(start(), then="stall"),
    "pings and nothing else": pinging,
    "an overloaded_error first": streaming(
        error(), whole=b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}'
    ),
    "an api_error first": streaming(
        error("api_error"), whole=b'{"type":"error","error":{"type":"api_error","message":"x"}}'
    ),
    "an error without words first": streaming(event({"type": "error"}), whole=b'{"type":"error"}'),
    "an error in another API's shape first": streaming(
        b'data: {"error":{"message":"busy","code":503}}\n\n', whole=b'{"error":"busy"}'
    ),
    "an error in words of its own first": streaming(
        b'data: {"code":"1113","msg":"busy"}\n\n', whole=b'{"object":"error","message":"busy","code":503}'
    ),
    "JSON that is not UTF-8": streaming(
        event({"type": "message_start"}).replace(b"_start", b"\xff"), whole=message(TEXT).replace(b"Hello", b"\xff")
    ),
    "an error after pings": streaming(PING, PING, error(), whole=b'{"error":{"message":"x"}}'),
    "an error after message_start": streaming(start(), error(), whole=b'{"type":"error"}'),
    "an error after an empty text block": streaming(EMPTY_TEXT, error(), whole=b'{"type":"completion"}'),
    "an empty 200": streaming(whole=b""),
    "only comments": streaming(b": hello\n\n", b": still here\n\n", whole=b" "),
    "only [DONE]": streaming(b"data: [DONE]\n\n", whole=b"[DONE]"),
    "an HTML page with 200": answering(200, b"<!DOCTYPE html>\n\n<html><body>Sign in</body></html>"),
    "text with 200": answering(200, b"upstream busy\n\n", "text/plain"),
    "JSON that is not what was asked for": answering(200, b'{"choices":[]}', "application/json"),
    "a start, then the end": streaming(EMPTY_TEXT, whole=HALF_MESSAGE),
    "a start, then a closed connection": streaming(EMPTY_TEXT, then="close", whole=HALF_MESSAGE),
    "a start, then a reset": streaming(EMPTY_TEXT, then="reset", whole=HALF_MESSAGE),
    "a broken event before content": streaming(
        start(), b"event: content_block_start\ndata: {oops\n\n", whole=b"{oops}"
    ),
    "two starts": streaming(start(), start(), delta("x"), stop(), whole=b"[]"),
    "an end without a start": streaming(stop(), whole=b"null"),
    "204": raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "garbage instead of HTTP": raw(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
    "wrong chunk sizes": raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\ntoo long\r\n"),
    "length and chunks at once": raw(
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "an endless head": endless_head,
    "interim answers without end": raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, "stall"),
    "less than its length": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\nevent: ping\n", "close"),
    "an event of 45 MB": streaming(start(), LONGEST_FRAME, whole=b'{"content":"' + b"x" * 100),
    "an error about credit inside a 200": inside_a_200(
        {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}}
    ),
    "a rate limit in another API's shape inside a 200": inside_a_200(
        {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}
    ),
    "an error without a type inside a 200": inside_a_200(
        {"object": "error", "message": "Shard 7 is being moved", "code": 500}
    ),
    "an error in a list inside a 200": inside_a_200(
        [{"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}]
    ),
    "zstd, which nobody here reads": raw(
        b"HTTP/1.1 200 OK\r\ncontent-encoding: zstd\r\ncontent-length: 4\r\n\r\noops", "stall"
    ),
    **refused.HIDDEN,
    "gzip that is none": raw(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\noops", "stall"),
}
"""What happens before any content: never seen by the client."""

APART: dict[str, Behaviour] = {"429 window of the whole account": refused.WINDOW}
"""Hidden too, at a provider of its own: it puts the whole provider into cooldown."""

UNREACHABLE = {
    "connection refused": "http://127.0.0.1:9",
    "a name that is not found": "https://no-such-host.invalid",
    "no TLS where TLS was expected": "https://127.0.0.1:{port}",
}
"""Providers that can't be reached at all."""

REPORTED: dict[str, Behaviour] = {
    "an error event after content": streaming(EMPTY_TEXT + WORDS, error("api_error")),
    "a reset in the content": streaming(EMPTY_TEXT + WORDS, then="reset"),
    "a closed connection in the content": streaming(EMPTY_TEXT + WORDS, then="close"),
    "a clean end in the content": streaming(EMPTY_TEXT + WORDS),
    "silence in the content": streaming(EMPTY_TEXT + WORDS, then="stall"),
    "a broken event in the content": streaming(
        EMPTY_TEXT + WORDS, b'event: content_block_delta\ndata: {"ty\n\n', stop()
    ),
    "a tool's arguments cut": streaming(TOOL + arguments('{"comm')),
    "thinking cut before its first word": streaming(start() + block(type="thinking", thinking="", signature="")),
    "a cut after a whole block": streaming(
        EMPTY_TEXT + WORDS + event({"type": "content_block_stop", "index": 0}), then="reset"
    ),
    "a cut after a whole tool call": streaming(
        TOOL + arguments("{}") + event({"type": "content_block_stop", "index": 0}), then="close"
    ),
    "an error after the stop reason": streaming(EMPTY_TEXT + WORDS + ALMOST_STOP, error()),
    "no message_stop": streaming(EMPTY_TEXT + WORDS + ALMOST_STOP),
    "[DONE] instead of message_stop": streaming(EMPTY_TEXT + WORDS + ALMOST_STOP, b"data: [DONE]\n\n"),
    "pings without end in the content": going_on_with(b": still here\n\n"),
    "ping events without end in the content": going_on_with(PING),
    "deltas without a word, without end": going_on_with(delta("")),
    "half an event at the end": streaming(EMPTY_TEXT + WORDS + delta("x")[:25]),
    "a second start in the content": streaming(EMPTY_TEXT + WORDS, start() + stop()),
}
"""What happens after content was sent: reported. Without streaming nothing was sent yet: hidden."""

CALLERS: dict[str, Behaviour] = {
    "400 invalid request": refusing(400, "invalid_request_error", "tools.0: Extra inputs are not permitted"),
    "400 prompt is too long": refusing(
        400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum"
    ),
    "400 content filter": refusing(400, "invalid_request_error", "Output blocked by content filtering policy"),
    "413": refusing(413, "request_too_large", "Request exceeds the maximum size"),
    "422": refusing(422, "invalid_request_error", "unprocessable"),
    **refused.CALLERS,
    "prompt is too long, inside a 200": inside_a_200(
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"},
        }
    ),
    "prompt is too long, in another API's shape inside a 200": inside_a_200(
        {"object": "error", "message": OVERFLOW, "code": 400}
    ),
}
"""The caller's own faults: returned as they came, and nobody else is asked."""

UNTOUCHED = {**refused.CALLERS}
"""Those of which every byte goes back."""

UNUSUAL: dict[str, Behaviour] = {
    "one byte at a time": trickling,
    "gzip that nobody asked for": compressed("gzip", gzip.compress),
    "deflate that nobody asked for": compressed("deflate", zlib.compress),
    "brotli that nobody asked for": compressed("br", brotli.compress),
    "CRLF line ends": crlf,
    "a reset after the end": gone_after_its_end,
    "a connection left open after the end": open_after_its_end,
    "an answer that ends with its connection": until_it_closes,
    "an interim answer first": early_hints,
    "no usage": streaming(NO_USAGE + block(), delta(TEXT), stop(), whole=message(TEXT)),
    "pings and comments before the start": streaming(
        PING, b": hello\n\n", EMPTY_TEXT, delta(TEXT), stop(), whole=message(TEXT)
    ),
    "events that nobody knows": streaming(
        EMPTY_TEXT, event({"type": "new_event", "x": 1}), delta(TEXT), stop(), whole=message(TEXT)
    ),
    "events without names": streaming(re.sub(rb"event: .*\n", b"", WHOLE_STREAM), whole=message(TEXT)),
    "events without data": streaming(
        EMPTY_TEXT, b"event: content_block_delta\n\n", delta(TEXT), b"data: \n\n", stop(), whole=message(TEXT)
    ),
    "usage as floats and strings": streaming(odd_usage(WHOLE_STREAM), whole=odd_usage(message(TEXT))),
    "the other form than was asked for": streaming(message(TEXT), whole=WHOLE_STREAM),
    "usage that is a word": streaming(WORDY_USAGE, block(), delta(TEXT), stop(), whole=WORDY_MESSAGE),
    "an error beside a good event that is none": streaming(
        start().replace(b'"type": "message_start"', b'"type": "message_start", "error": 7'),
        block(),
        delta(TEXT),
        stop(),
        whole=message(TEXT).replace(b"{", b'{"error": 7, ', 1),
    ),
    "an event of 20 MB": long_event,
    "a last event without its blank line": streaming(WHOLE_STREAM[:-2], whole=message(TEXT)),
}
"""Odd, but an answer."""


LOOKS_STALE = frozenset({"a reset before the head", "closed before the head"})
"""On a connection that was used before, this can't be told from one that was closed while idle: the
request goes to the same provider once more, on a fresh connection."""
