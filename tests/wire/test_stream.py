"""Streams of the Messages API: handed on byte for byte, read where it matters, and never ended well where they are not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from frames import ANSWER, DELTA, OVERLOADED, START, STOP, TEXT
from hypothesis import given
from hypothesis import strategies as st

from balancer.model import Piece, Usage
from balancer.wire import sse
from balancer.wire.errors import STATUS_OF
from balancer.wire.stream import FEW_BYTES, MANY_BYTES, PING, PLAIN_BLOCKS, StreamDecoder


def run(*chunks: bytes, end: bool = True) -> tuple[list[Piece], StreamDecoder]:
    decoder = StreamDecoder()
    pieces = [piece for chunk in chunks for piece in decoder.feed(chunk)]
    return pieces + (decoder.end() if end else []), decoder


def parts(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


@given(st.lists(st.integers(0, len(ANSWER)), max_size=30))
def test_a_stream_cut_anywhere_comes_out_byte_for_byte(cuts: list[int]) -> None:
    pieces, decoder = run(*parts(ANSWER, cuts))

    assert b"".join(piece.data for piece in pieces) == ANSWER
    assert decoder.complete
    assert not any(piece.error for piece in pieces)


@pytest.mark.parametrize("breaks", [b"\n", b"\n\n", b"\n\n\n"])
def test_blank_lines_more_than_it_takes_change_nothing(breaks: bytes) -> None:
    """Wherever a read ends; one of them alone once kept the decoder from ever coming back."""
    delta, end = DELTA + breaks, STOP + breaks

    for chunks in ([START, delta, end], [START + breaks, delta * 2 + end], [START + delta + end], [breaks, START, end]):
        pieces, decoder = run(*chunks)

        assert b"".join(piece.data for piece in pieces) == b"".join(chunks)[: -len(breaks)]
        assert decoder.complete


def test_usage_is_collected() -> None:
    usage = Usage()
    for piece in run(ANSWER)[0]:
        usage = usage.merged(piece.usage)

    assert usage == Usage(7, 5, 3, None)


@pytest.mark.parametrize("kind", [*sorted(PLAIN_BLOCKS), "thinking", "redacted_thinking", "server_tool_use", "new"])
def test_the_start_of_a_plain_block_says_nothing_yet(kind: str) -> None:
    pieces, _ = run(START + TEXT.replace(b'"text"', f'"{kind}"'.encode()), end=False)

    assert any(piece.has_content for piece in pieces) is (kind not in PLAIN_BLOCKS)


CONTENT = {
    "a ping says nothing": (PING * 3, False),
    "a delta is content": (START + TEXT + DELTA, True),
    "a block without a type says nothing": (START + b'data: {"type":"content_block_start"}\n\n', False),
    "an end is content": (START + b'data: {"type":"message_stop"}\n\n', True),
}


@pytest.mark.parametrize(("data", "expected"), CONTENT.values(), ids=CONTENT)
def test_when_content_begins(data: bytes, expected: bool) -> None:
    assert any(piece.has_content for piece in run(data, end=False)[0]) is expected


NO_JSON = "an event of the stream is not valid JSON"
CUT = "the stream ended before the end of its message"

ERRORS = {
    # each but the cut ones is followed by a sound end: only what is wrong can be what is objected to
    "an error before content": (START + OVERLOADED + STOP, 529, "overloaded_error", "Overloaded"),
    "an error after content": (START + TEXT + DELTA + OVERLOADED + STOP, 529, "overloaded_error", "Overloaded"),
    "an error without its event line": (
        START + OVERLOADED.partition(b"\n")[2] + STOP, 529, "overloaded_error", "Overloaded",
    ),
    "an error before the start": (OVERLOADED + ANSWER, 529, "overloaded_error", "Overloaded"),
    "an error of an unknown type": (
        b'event: error\ndata: {"type":"error","error":{"type":"odd"}}\n\n' + ANSWER,
        500, "odd", "the provider reported an error without words",
    ),
    "an error without an error": (
        START + b'data: {"type":"error"}\n\n' + STOP, 500, "api_error", "the provider reported an error without words",
    ),
    "an error by its event line alone": (
        START + b'event: error\ndata: {"error":{"message":"no"}}\n\n' + STOP, 500, "api_error", "no",
    ),
    "an error in an event of an unknown type": (
        START + b'data: {"type":"new","error":{"type":"api_error","message":"no"}}\n\n' + STOP, 500, "api_error", "no",
    ),
    "an error that is no JSON": (b"event: error\ndata: oops\n\n" + ANSWER, 500, "api_error", "oops"),
    "a cut after content": (START + TEXT + DELTA, 502, "api_error", CUT),
    "a cut before content": (START, 502, "api_error", CUT),
    "a cut within an event": (START + TEXT + DELTA + STOP[:-1], 502, "api_error", CUT),
    "a cut after the stop reason": (ANSWER.partition(b"event: message_stop")[0], 502, "api_error", CUT),
    "an empty body": (b"", 502, "api_error", "nothing where a stream of events was expected"),
    "pings and no message": (PING, 502, "api_error", "nothing where a stream of events was expected"),
    "an HTML page": (b"<html>\n\n<p>sorry</p>", 502, "api_error", "an HTML page where a stream of events was expected"),
    "JSON": (b'{"type":"message"}', 502, "api_error", "JSON where a stream of events was expected"),
    "a broken event": (START + b"event: x\ndata: {\n\n" + STOP, 502, "api_error", NO_JSON),
    "an event that is no object": (START + b"event: x\ndata: []\n\n" + STOP, 502, "api_error", NO_JSON),
    "an event that is too deep": (
        START + b'event: x\ndata: {"message":{"content":' + b"[" * 100_000 + b"\n\n" + STOP, 502, "api_error", NO_JSON,
    ),
    "a broken event in the flow": (
        START + TEXT + DELTA + b'data: {"type":"content_bl\n\n' + STOP, 502, "api_error", NO_JSON,
    ),
    "two messages in one stream": (
        START + TEXT + DELTA + START + TEXT + DELTA + STOP, 502, "api_error", "a second message in one stream",
    ),
    "two starts": (START + START + TEXT + DELTA + STOP, 502, "api_error", "a second message in one stream"),
    "an end without a start": (STOP, 502, "api_error", "the end of a message without its start"),
    "content and an end without a start": (
        TEXT + DELTA * 2 + STOP, 502, "api_error", "the end of a message without its start",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bytewise", [False, True], ids=["in one read", "byte by byte"])
@pytest.mark.parametrize(("data", "status", "kind", "words"), ERRORS.values(), ids=ERRORS)
def test_what_is_no_answer_is_a_fault(data: bytes, status: int, kind: str, words: str, bytewise: bool) -> None:
    step = 1 if len(data) < 50_000 else 997  # a large one byte by byte would take long, and say nothing more
    pieces, decoder = run(*([data[at : at + step] for at in range(0, len(data), step)] if bytewise else [data]))
    faults = [piece.error for piece in pieces if piece.error]

    assert [(fault.status, fault.kind, fault.message) for fault in faults] == [(status, kind, words)]
    assert pieces[-1].error is not None, "nothing follows it"
    assert not decoder.complete
    assert decoder.feed(ANSWER) == decoder.end() == [], "it is told once"


@pytest.mark.parametrize("kind", STATUS_OF)
def test_every_type_of_error_has_its_status(kind: str) -> None:
    pieces, _ = run(START + OVERLOADED.replace(b"overloaded_error", kind.encode()), end=False)

    assert [(piece.error.status, piece.error.kind) for piece in pieces if piece.error] == [(STATUS_OF[kind], kind)]


def test_a_frame_that_never_ends_is_a_fault() -> None:
    decoder = StreamDecoder()
    line = b"data: " + b"x" * (sse.MAX_FRAME_BYTES - 6)

    assert decoder.feed(line) == []
    (piece,) = decoder.feed(b"x")
    assert piece.error is not None
    assert (piece.error.status, piece.error.message) == (502, f"a frame of more than {sse.MAX_FRAME_BYTES} bytes")


@pytest.mark.parametrize("before", [START, START + TEXT])
@pytest.mark.parametrize("more", [b"", DELTA * 3, DELTA * 400])
def test_first_content_that_is_no_json_is_no_content(before: bytes, more: bytes) -> None:
    pieces, _ = run(before + DELTA.replace(b'"delta":', b"oops") + more + STOP, end=False)

    assert [piece.has_content for piece in pieces if piece.error is None] == [False]
    assert [piece.error.message for piece in pieces if piece.error] == [NO_JSON], "so somebody else can answer"


def test_what_follows_the_end_is_ignored() -> None:
    pieces, decoder = run(ANSWER, OVERLOADED)

    assert decoder.complete
    assert not any(piece.error for piece in pieces)


@pytest.mark.parametrize("size", [FEW_BYTES - 1, FEW_BYTES, FEW_BYTES + 1, MANY_BYTES, MANY_BYTES + 1, 3 * MANY_BYTES])
def test_a_read_of_any_size_is_the_same(size: int) -> None:
    """Below and above the sizes from which on it is read in another way."""
    deltas = DELTA * (size // len(DELTA))
    padded = deltas + DELTA[:-4] + b" " * (size - len(deltas) - len(DELTA)) + DELTA[-4:]
    padded = padded if len(padded) == size else deltas
    for reads in ([START, DELTA, padded, STOP], [START, padded, STOP], [START + padded + STOP]):
        pieces, decoder = run(*reads)

        assert b"".join(piece.data for piece in pieces) == b"".join(reads)
        assert decoder.complete
    pieces, _ = run(START, padded + OVERLOADED + STOP)
    assert [piece.error.kind for piece in pieces if piece.error] == ["overloaded_error"]
    assert b"".join(piece.data for piece in pieces) == START + padded


def test_content_that_comes_by_itself_stays_behind_what_was_begun_before_it() -> None:
    """A comment's line, say, that shares its frame with what follows."""
    reads = [START + DELTA, b": hello\n", DELTA, b": again\n", DELTA + OVERLOADED]
    pieces, _ = run(*reads, end=False)

    assert b"".join(piece.data for piece in pieces) == b"".join(reads).removesuffix(OVERLOADED)
    assert pieces[-1].error is not None


# The short ways beside a plain reader


@dataclass
class Read:
    """What a plain reader makes of a stream."""

    forwarded: bytes = b""
    content_at: int | None = None
    """Where the first frame with content ends, but for its line breaks."""
    fault: tuple[int, str, str] | None = None
    usage: Usage = field(default_factory=Usage)
    complete: bool = False


def frames(data: bytes) -> Iterator[bytes]:
    start = 0
    for blank in re.finditer(rb"(?:\r\n|\n|\r(?!\n)){2}", data):
        yield data[start : blank.end()]
        start = blank.end()


def members(frame: bytes) -> tuple[str, str]:
    event, data = "", []
    for line in re.split(r"\r\n|\n|\r", frame.decode()):
        name, _, value = line.partition(":")
        if name == "event":
            event = value.removeprefix(" ")
        elif name == "data":
            data.append(value.removeprefix(" "))
    return event, "\n".join(data)


def plainly(data: bytes) -> Read:
    """Read a stream frame by frame, every one of them, in the most obvious way."""
    read, started = Read(), False
    for frame in frames(data):
        event, said = members(frame)
        try:
            value: dict[str, Any] = json.loads(said) if said else {}
        except ValueError:
            read.fault = (500, "api_error", said[:500]) if event == "error" else (502, "api_error", NO_JSON)
            return read
        kind = value.get("type") or event
        error: dict[str, str] = value.get("error") or {}
        fault = None
        has_content = False
        if kind == "message_start":
            fault = (502, "api_error", "a second message in one stream") if started else None
            started = True
        elif kind == "message_stop":
            fault = None if started else (502, "api_error", "the end of a message without its start")
            has_content = read.complete = started
        elif kind == "content_block_delta":
            has_content = True
        elif kind == "content_block_start":
            has_content = value.get("content_block", {}).get("type", "text") not in ("text", "tool_use")
        elif kind == "error" or event == "error" or (error and kind != "message_delta"):
            named = error.get("type", "api_error")
            words = error.get("message") or "the provider reported an error without words"
            fault = (STATUS_OF.get(named, 500), named, words)
        if fault is not None:
            read.fault = fault
            return read
        usage = value.get("message", {}).get("usage") if kind == "message_start" else value.get("usage")
        if usage and kind in ("message_start", "message_delta"):
            read.usage = read.usage.merged(Usage(usage.get("input_tokens"), usage.get("output_tokens")))
        read.forwarded += frame
        if has_content and read.content_at is None:
            read.content_at = len(read.forwarded.rstrip(b"\r\n"))
        if read.complete:
            return read
    read.fault = (502, "api_error", CUT) if started else (502, "api_error", "?")
    return read


def event(name: str, **more: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **more})}\n\n".encode()


def compact(name: str, **more: Any) -> bytes:
    return sse.frame(name, json.dumps({"type": name, **more}, separators=(",", ":")).encode())


SAID = ['"', "\\", "}\n\n", "event: error\ndata: {}", "\u2028", "\u00e9", '{"type":"message_stop"}', "x" * 300]


def either(name: str, **more: Any) -> st.SearchStrategy[bytes]:
    return st.sampled_from([event(name, **more), compact(name, **more)])


deltas = st.sampled_from(SAID).flatmap(
    lambda text: either("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
)
FRAMES = st.one_of(
    deltas,
    st.builds(lambda delta, times: delta * times, deltas, st.integers(2, 60)),
    either("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    either("content_block_start", index=0, content_block={"type": "tool_use", "id": "t", "name": "n", "input": {}}),
    either("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
    either("content_block_stop", index=0),
    either("ping"),
    either("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}),
    either("message_delta", delta={}, usage={"input_tokens": 9, "output_tokens": 6}),
    either("new", x=[1]),
    st.sampled_from(
        [
            b": a comment\n\n", b"\n", b"\n\n", b"data: \n\n", b"id: 7\nretry: 5\n\n",
            b'data: {"type":"content_block_delta","delta":{}}\n\n',
            b'data: {"type":"content_block_delta",\ndata: "delta":{}}\n\n',
            b'event:content_block_delta\ndata:{"type":"content_block_delta"}\n\n',
            b'data: {"type":"ping"}\nevent: ping\n\n',
            b'event: ping\ndata: {"type":"content_block_delta"}\n\n',
            b'event: content_block_delta\ndata: {"index":0}\n\n',
            b'event: message_stop\ndata: {}\n\n',
        ]
    ),
)  # fmt: skip
LATE = st.one_of(
    FRAMES,
    either("message_stop"),
    either("error", error={"type": "overloaded_error", "message": "no"}),
    either("error", error={"type": "odd", "message": "no"}),
    either("message_start", message={"usage": {"input_tokens": 3, "output_tokens": 1}}),
    st.sampled_from([b"event: error\ndata: oops\n\n", b"event: x\ndata: {\n\n", OVERLOADED.partition(b"\n")[2]]),
)


def streams() -> st.SearchStrategy[bytes]:
    start = either("message_start", message={"usage": {"input_tokens": 3, "output_tokens": 1}})
    before = st.lists(st.one_of(either("ping"), LATE), max_size=2)
    newline = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"])
    return st.builds(
        lambda before, start, flow, late, newline: b"".join([*before, *start, *flow, *late]).replace(b"\n", newline),
        st.one_of(st.just([]), before),
        st.one_of(start.map(lambda frame: [frame]), st.just([])),
        st.lists(FRAMES, max_size=12),
        st.lists(LATE, max_size=4),
        newline,
    )


@given(streams(), st.lists(st.integers(0, 4000), max_size=25), st.booleans())
def test_the_short_ways_report_what_a_plain_reader_does(data: bytes, cuts: list[int], bytewise: bool) -> None:
    chunks = [data[at : at + 1] for at in range(len(data))] if bytewise and len(data) < 3000 else parts(data, cuts)
    pieces, decoder = run(*chunks)
    expected = plainly(data)

    forwarded = b"".join(piece.data for piece in pieces)
    assert forwarded.rstrip(b"\r\n") == expected.forwarded.rstrip(b"\r\n")
    assert data.startswith(forwarded)
    assert decoder.complete is expected.complete
    usage = Usage()
    for piece in pieces:
        usage = usage.merged(piece.usage)
    assert usage == expected.usage
    faults = [(piece.error.status, piece.error.kind, piece.error.message) for piece in pieces if piece.error]
    if expected.fault and expected.fault[2] == "?":
        assert [fault[:2] for fault in faults] == [expected.fault[:2]]
        assert faults[0][2].endswith(" where a stream of events was expected")
    else:
        assert faults == ([expected.fault] if expected.fault else [])
    assert_content_begins_at(expected.content_at, pieces)


def assert_content_begins_at(expected: int | None, pieces: list[Piece]) -> None:
    """The first piece that says so is the one that brings the end of the first frame with content."""
    at = 0
    for piece in pieces:
        before, at = at, at + len(piece.data)
        if piece.has_content:
            assert expected is not None
            assert before < expected <= at
            return
    assert expected is None


def test_an_error_within_a_long_run_of_content_is_found() -> None:
    many = DELTA * (MANY_BYTES // len(DELTA) + 1)
    decoder = StreamDecoder()
    decoder.feed(START + TEXT + DELTA)

    pieces = decoder.feed(many + OVERLOADED + DELTA)

    assert [piece.error.kind for piece in pieces if piece.error] == ["overloaded_error"]
