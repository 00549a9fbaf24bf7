"""The scorecard: every way that a provider is known to fail, streaming and not, on real sockets.

Each fault is a provider's behaviour; a second provider is well. What the client got and what the
upstreams saw decide the mark:

- hidden: the client has the complete answer of the working provider, and nothing else;
- passed through: the behaviour is unusual but valid, and the answer is complete;
- reported: the client can see that the answer is not complete (an error, or a broken connection);
- wrong: anything else. There must be none.

What a single answer can't show is in `episodes.py`. `python tests/live/scorecard.py` runs both and
writes docs/scorecard.md, and the sum of it into README.md.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from live import episodes
from live.harness import (
    ROOT,
    Behaviour,
    Peer,
    Running,
    Seen,
    Upstream,
    arguments,
    balancer,
    block,
    delta,
    error,
    event,
    good,
    message,
    start,
    stop,
)

PAGE = ROOT / "docs" / "scorecard.md"
README = ROOT / "README.md"
MARKS = ("hidden", "passed through", "reported", "wrong")
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


async def pinging_in_the_content(seen: Seen, peer: Peer) -> None:
    if not seen.stream:
        await asyncio.sleep(60)
    await peer.sse()
    await peer.chunk(EMPTY_TEXT + WORDS)
    while True:
        await peer.chunk(b": still here\n\n")
        await asyncio.sleep(0.2)


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


async def compressed(seen: Seen, peer: Peer) -> None:
    body = gzip.compress(start() + block() + delta(TEXT) + stop() if seen.stream else message(TEXT))
    kind = "text/event-stream" if seen.stream else "application/json"
    await peer.whole(200, body, kind, content_encoding="gzip")


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
    "gzip that is none": raw(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\noops", "stall"),
}
"""What happens before any content: never seen by the client."""

UNREACHABLE = {
    "connection refused": "http://127.0.0.1:9",
    "a name that is not found": "http://no-such-host.invalid",
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
    "pings without end in the content": pinging_in_the_content,
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
}
"""The caller's own faults: returned as they came, and nobody else is asked."""

UNUSUAL: dict[str, Behaviour] = {
    "one byte at a time": trickling,
    "gzip that nobody asked for": compressed,
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
    "a last event without its blank line": streaming(WHOLE_STREAM[:-2], whole=message(TEXT)),
}
"""Odd, but an answer."""


LOOKS_STALE = frozenset({"a reset before the head", "closed before the head"})
"""On a connection that was used before, this can't be told from one that was closed while idle: the
request goes to the same provider once more, on a fresh connection."""


@dataclass(frozen=True)
class Row:
    """One fault, one way of asking."""

    fault: str
    stream: bool
    expected: str
    mark: str
    detail: str = ""


async def post(running: Running, model: str, stream: bool) -> tuple[int, bytes, bool]:
    """Ask like any client; return status, body, and whether the body ended as it should."""
    body = json.dumps(
        {"model": model, "max_tokens": 50, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=2**20)
    head = f"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    got, whole = b"", False
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next((line.partition(": ")[2] for line in lines if line.startswith("content-length")), None)
        if length is not None:
            got = await reader.readexactly(int(length))
        else:
            while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
                got += (await reader.readexactly(size + 2))[:-2]
        whole = True
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
    return int(lines[0].split()[1]), got, whole


def judged(status: int, body: bytes, whole: bool, stream: bool) -> str:
    """Say what a client of any kind can make of an answer."""
    if not whole:
        return "reported"
    if status != 200:
        return "reported" if json.loads(body)["type"] == "error" else "wrong"
    if not stream:
        return "whole" if TEXT in body.decode() else "wrong"
    if b"event: error\n" in body:
        return "reported" if b"event: message_stop" not in body else "wrong"
    frames = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: ")]
    kinds = [frame["type"] for frame in frames]
    text = "".join(frame["delta"].get("text", "") for frame in frames if frame["type"] == "content_block_delta")
    fine = kinds.count("message_start") == 1 and kinds[-1] == "message_stop" and text.strip() == TEXT
    return "whole" if fine else "wrong"


Ask = Callable[[str, bool], Awaitable[tuple[int, bytes, bool]]]


async def run() -> list[Row]:
    """Play every fault, streaming and not, and mark what came of it."""
    faults = {**HIDDEN, **REPORTED, **CALLERS, **UNUSUAL}

    async def ill(seen: Seen, peer: Peer) -> None:
        await faults[seen.json["model"]](seen, peer)

    async with Upstream(ill) as first, Upstream(well) as second:
        async with balancer(_configuration(first, second)) as running:
            asked = [(name, stream) for name in (*faults, *UNREACHABLE) for stream in (True, False)]
            answers = await asyncio.gather(*(post(running, name, stream) for name, stream in asked))
        return [
            _row(name, stream, answer, first, second) for (name, stream), answer in zip(asked, answers, strict=True)
        ]


def _configuration(first: Upstream, second: Upstream) -> str:
    providers = [
        f'  - {{name: ill, type: anthropic, base_url: "http://127.0.0.1:{first.port}", auth_value: sk-1}}',
        f'  - {{name: well, type: anthropic, base_url: "http://127.0.0.1:{second.port}", auth_value: sk-2}}',
    ]
    routes = ['  "*": [{provider: ill, priority: 1}, {provider: well, priority: 2}]']
    for number, (name, url) in enumerate(UNREACHABLE.items()):
        url = url.format(port=second.port)
        providers.append(f'  - {{name: u{number}, type: anthropic, base_url: "{url}", auth_value: sk-3}}')
        routes.append(f'  "{name}": [{{provider: u{number}, priority: 1}}, {{provider: well, priority: 2}}]')
    settings = (
        "settings: {failure_cooldown: 0, request_timeout: 1.5, stream_idle_timeout: 1.5, non_streaming_timeout: 1.5, "
        "connect_timeout: 1.5, stream_stall_timeout: 3}"
    )
    return "\n".join(["providers:", *providers, "model_routes:", *routes, settings])


def _row(name: str, stream: bool, answer: tuple[int, bytes, bool], first: Upstream, second: Upstream) -> Row:
    found = judged(*answer, stream)
    asked_ill = sum(seen.json["model"] == name and seen.stream == stream for seen in first.asked)
    asked_well = sum(seen.json["model"] == name and seen.stream == stream for seen in second.asked)
    if name in CALLERS:
        expected = "reported"
        right = found == "reported" and asked_ill == 1 and asked_well == 0
    elif name in UNUSUAL:
        expected = "passed through"
        right = found == "whole" and asked_ill == 1 and asked_well == 0
    elif name in REPORTED and stream:
        expected = "reported"
        right = found == "reported" and asked_ill == 1 and asked_well == 0
    else:
        expected = "hidden"
        right = found == "whole" and asked_ill <= 1 + (name in LOOKS_STALE) and asked_well == 1
    detail = (
        "" if right else f"{found}, ill asked {asked_ill}, well asked {asked_well}, {answer[0]} {answer[1][:200]!r}"
    )
    return Row(name, stream, expected, expected if right else "wrong", detail)


def summary(rows: list[Row], played: dict[str, str]) -> str:
    """Return the part of README.md that shows the scorecard."""
    columns = {
        "streaming": [row.mark for row in rows if row.stream],
        "not streaming": [row.mark for row in rows if not row.stream],
        "over time": list(played.values()),
    }
    lines = ["|  | faults | " + " | ".join(MARKS) + " |", "|---" * (2 + len(MARKS)) + "|"]
    for name, marks in columns.items():
        counts = " | ".join(str(sum(mark.startswith(one) for mark in marks)) for one in MARKS)
        lines.append(f"| {name} | {len(marks)} | {counts} |")
    return "\n".join(lines) + "\n"


_SHOWN = re.compile(r"(?<=<!-- make scorecard -->\n).*?(?=<!-- end -->)", re.DOTALL)


def readme(rows: list[Row], played: dict[str, str]) -> str:
    """Return README.md with what it shows of the scorecard."""
    return _SHOWN.sub(lambda _: summary(rows, played), README.read_text())


def page(rows: list[Row], played: dict[str, str]) -> str:
    """Return docs/scorecard.md."""
    marks = {(row.fault, row.stream): row.mark for row in rows}
    names = list(dict.fromkeys(row.fault for row in rows))
    counts = {mark: sum(row.mark == mark for row in rows) for mark in MARKS}
    lines = [
        "# Scorecard",
        "",
        "Written by `make scorecard`, and played again in every run of the tests: a provider fails in each of these ways, on real",
        "sockets, while a second one works.",
        "",
        "* *hidden*: the client has the complete answer of the working provider, and nothing else.",
        "* *passed through*: unusual but valid, and delivered completely.",
        "* *reported*: the client can see that it failed: an error, or a connection that broke.",
        "* *wrong*: anything else.",
        "",
        f"{len(names)} faults, each streaming and not: "
        + ", ".join(f"{count} {mark}" for mark, count in counts.items())
        + ".",
        "",
        "| what the provider does | streaming | not streaming |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {marks[name, True]} | {marks[name, False]} |" for name in names]
    lines += ["", "What a single answer can't show:", "", "| what happens | the client |", "|---|---|"]
    lines += [f"| {words} | {mark} |" for words, mark in played.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    rows = asyncio.run(run())
    played = asyncio.run(episodes.run())
    wrong = [str(row) for row in rows if row.mark == "wrong"]
    wrong += [f"{words}: {mark}" for words, mark in played.items() if mark.startswith("wrong")]
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    PAGE.write_text(page(rows, played))
    README.write_text(readme(rows, played))
    return 0


if __name__ == "__main__":
    sys.exit(main())
