"""Streams of the Messages API: handed on byte for byte, read where it matters, and never ended well where they are not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from frames import ANSWER, DELTA, OVERLOADED, START, STOP, TEXT
from hypothesis import given
from hypothesis import strategies as st

from balancer.model import Piece, Usage
from balancer.wire import sse
from balancer.wire.errors import STATUS_OF
from balancer.wire.stream import FEW_BYTES, MANY_BYTES, NO_STOP, PING, PLAIN_BLOCKS, StreamDecoder


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
NO_UTF8 = "an event of the stream is not UTF-8"
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
    "a cut within an event": (START + TEXT + DELTA[:-3], 502, "api_error", CUT),
    "a cut after the stop reason": (ANSWER.partition(b"event: message_stop")[0], 502, "api_error", NO_STOP),
    "a cut within the last event": (ANSWER[:-3], 502, "api_error", NO_STOP),
    "an end in OpenAI's manner": (
        ANSWER.partition(b"event: message_stop")[0] + b"data: [DONE]\n\n", 502, "api_error", NO_STOP,
    ),
    "nothing but an end in OpenAI's manner": (
        b"data: [DONE]\n\n", 502, "api_error", "nothing where a stream of events was expected",
    ),
    "content, and an end in OpenAI's manner": (START + TEXT + DELTA + b"data: [DONE]\n\n", 502, "api_error", CUT),
    "bytes that are not UTF-8": (b'event: x\ndata: {"type":"a\xff"}\n\n' + ANSWER, 502, "api_error", NO_UTF8),
    "content that is not UTF-8": (
        START + TEXT + DELTA.replace(b"an error", b"\xff") + STOP, 502, "api_error", NO_UTF8,
    ),
    "JSON that is not UTF-8": (
        b'{"type":"message\xff"}', 502, "api_error", "JSON that is not UTF-8 where a message was expected",
    ),
    "NaN, which is no JSON": (START + b'event: x\ndata: {"a":NaN}\n\n' + STOP, 502, "api_error", NO_JSON),
    "an empty body": (b"", 502, "api_error", "nothing where a stream of events was expected"),
    "pings and no message": (PING, 502, "api_error", "nothing where a stream of events was expected"),
    "an HTML page": (b"<html>\n\n<p>sorry</p>", 502, "api_error", "an HTML page where a stream of events was expected"),
    "JSON that is no message": (b'{"type":"message"}', 502, "api_error", "JSON that is not a message"),
    "JSON that is an error": (
        b'{"error":{"type":"overloaded_error","message":"no"}}', 529, "overloaded_error", "no",
    ),
    "a broken event": (START + b"event: x\ndata: {\n\n" + STOP, 502, "api_error", NO_JSON),
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
    "content without a start": (TEXT + DELTA * 2 + STOP, 502, "api_error", "content before the start of its message"),
    "content whose block did not start, without a start": (
        DELTA * 2 + STOP, 502, "api_error", "content before the start of its message",
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


FOREIGN = "This model's maximum context length is 10 tokens. However, you requested 12 tokens."

FOREIGN_ERRORS = {
    "vLLM": ({"object": "error", "message": FOREIGN, "type": "BadRequestError", "code": 400}, 400),
    "OpenAI": ({"error": {"message": FOREIGN, "type": "invalid_request_error", "code": None}}, 400),
    "a code in digits": ({"error": {"message": "slow down", "code": "429"}}, 500),
    "a code": ({"error": {"message": "slow down", "code": 429}}, 429),
    "a word": ({"error": "overloaded"}, 500),
    "FastAPI": ({"detail": "Not authenticated", "status": 401}, 401),
    "GLM": ({"code": 500, "msg": "404 NOT_FOUND", "success": False}, 500),
    "a number of one's own": ({"code": "1113", "message": "no"}, 500),
    "a list": ({"errors": [{"message": "no", "code": 503}]}, 529),
    "our own, without an error": ({"type": "error", "message": "no"}, 500),
    "our own, with a status": ({"type": "error", "error": {"type": "api_error", "message": "no", "code": 529}}, 529),
}


@pytest.mark.parametrize("as_json", [False, True], ids=["as an event", "as JSON"])
@pytest.mark.parametrize(("said", "status"), FOREIGN_ERRORS.values(), ids=FOREIGN_ERRORS)
def test_an_error_in_another_shape_is_understood(said: dict[str, Any], status: int, as_json: bool) -> None:
    """It is what the same words with a status would be, and the words are kept."""
    data = json.dumps(said).encode()
    pieces, decoder = run(data if as_json else b"data: " + data + b"\n\n")
    (fault,) = [piece.error for piece in pieces if piece.error]

    assert fault.status == status
    assert any(words in fault.message for words in (FOREIGN, "slow down", "overloaded", "Not auth", "NOT_FOUND", "no"))
    if FOREIGN in json.dumps(said):
        assert fault.message.startswith("prompt is too long: 12 tokens > 10 maximum")
    assert not decoder.complete


NO_ERRORS: dict[str, dict[str, Any]] = {
    "a number": {"type": "new", "error": 7},
    "an empty object": {"type": "new", "error": {}},
    "words beside a code that says that all is well": {"message": "hello", "code": 200},
    "words beside a code that says so in another way": {"msg": "hello", "code": "0"},
    "words": {"type": "new", "message": "hello", "code": 500},
}


@pytest.mark.parametrize("said", NO_ERRORS.values(), ids=NO_ERRORS)
def test_what_only_looks_like_an_error_is_none(said: dict[str, Any]) -> None:
    assert run(b"event: new\ndata: " + json.dumps(said).encode() + b"\n\n" + ANSWER)[1].complete


LENIENT = {
    "floats": (b'"input_tokens":7', b'"input_tokens":7.0', Usage(7, 5, 3)),
    "strings": (b'"output_tokens":5', b'"output_tokens":"5"', Usage(7, 5, 3)),
    "a fraction": (b'"output_tokens":5', b'"output_tokens":5.5', Usage(7, 5, 3)),
    "words": (b'"cache_read_input_tokens":3', b'"cache_read_input_tokens":"none"', Usage(7, 5)),
    "true": (b'"input_tokens":7', b'"input_tokens":true', Usage(None, 5, 3)),
    "a negative number": (b'"input_tokens":7', b'"input_tokens":-7', Usage(None, 5, 3)),
    "an absurd number": (b'"input_tokens":7', b'"input_tokens":9223372036854775807', Usage(None, 5, 3)),
    "a number of 5000 digits": (b'"input_tokens":7', b'"input_tokens":' + b"7" * 5000, Usage(None, 5, 3)),
    "usage in words": (b'"usage":{"output_tokens":5}', b'"usage":"none"', Usage(7, 1, 3)),
    "content that is an object": (b'"content":[]', b'"content":{}', Usage(7, 5, 3)),
    "an id that is a number": (b'"content":[]', b'"id":7', Usage(7, 5, 3)),
    "a message that is a list": (
        b'"message":{"type":"message","content":[],"usage":{"input_tokens":7,"cache_read_input_tokens":3,'
        b'"output_tokens":1}}',
        b'"message":[]',
        Usage(None, 5),
    ),
    "an error that is a number": (b'{"type":"message_start"', b'{"error":7,"type":"message_start"', Usage(7, 5, 3)),
    "an error in words": (b'{"type":"message_start"', b'{"error":"","type":"message_start"', Usage(7, 5, 3)),
    "a block that is a list": (b'"content_block":{"type":"text"}', b'"content_block":[1]', Usage(7, 5, 3)),
    "a delta that is a number": (b'"delta":{"stop_reason":"end_turn"}', b'"delta":1', Usage(7, 5, 3)),
    "half a pair of surrogates": (b"an error: message_stop", b"\\ud83d", Usage(7, 5, 3)),
    "an event that is a list": (b"event: content_block_stop", b"event: x\ndata: []\n\nevent: content_block_stop", None),
    "an event that is null": (
        b"event: content_block_stop",
        b"event: ping\ndata: null\n\nevent: content_block_stop",
        None,
    ),
}


@pytest.mark.parametrize(("right", "odd", "usage"), LENIENT.values(), ids=LENIENT)
def test_what_nothing_hangs_on_may_have_any_type(right: bytes, odd: bytes, usage: Usage | None) -> None:
    data = ANSWER.replace(right, odd, 1)
    assert data != ANSWER
    pieces, decoder = run(data)
    total = Usage()
    for piece in pieces:
        total = total.merged(piece.usage)

    assert decoder.complete
    assert not any(piece.error for piece in pieces)
    assert total == (usage or Usage(7, 5, 3))
    if usage is not None:
        assert b"".join(piece.data for piece in pieces) == data, "and it goes on as it came"


def events(data: bytes) -> list[tuple[bytes, Any]]:
    return [(name, json.loads(said)) for name, said in map(sse.fields, sse.frames(data)) if said]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param((rb"event: \w+\n", b""), id="no event lines"),
        pytest.param((rb"event: \w+\n", b"event: message\n"), id="the same event line everywhere"),
        pytest.param((rb"event: ", b"event: \xff"), id="damaged event lines"),
        pytest.param((rb'"type":"(content_block_\w+|message_\w+)",?', b""), id="no types"),
        pytest.param((rb'"type":"(content_block_\w+|message_\w+)"', b'"type":7'), id="types that are numbers"),
    ],
)
def test_what_can_only_mean_one_thing_is_completed(damage: tuple[bytes, bytes], newline: bytes) -> None:
    damaged = re.sub(*damage, ANSWER).replace(b"\n", newline)
    pieces, decoder = run(damaged)
    got = events(b"".join(piece.data for piece in pieces))

    assert decoder.complete
    assert [(name, said["type"].encode()) for name, said in got] == [(name, name) for name, _ in events(ANSWER)]
    assert [{**said, "type": ""} for _, said in got] == [{**said, "type": ""} for _, said in events(ANSWER)]


@pytest.mark.parametrize(
    "empty",
    [
        b"event: content_block_delta\n\n",
        b"event: ping\ndata: \n\n",
        b"data:\n\n",
        b"data\n\n",
        b"event: x\ndata:   \n\n",
    ],
)
def test_an_event_without_data_is_left_out(empty: bytes) -> None:
    for data in (
        START + empty + TEXT + DELTA + empty + DELTA * 2 + STOP,
        START + TEXT + DELTA * 2 + empty + DELTA + STOP,
    ):
        pieces, decoder = run(data)

        assert decoder.complete
        assert b"".join(piece.data for piece in pieces) == ANSWER


def test_the_last_event_needs_no_blank_line() -> None:
    for cut in (1, 2):
        pieces, decoder = run(ANSWER[:-cut])

        assert decoder.complete
        assert b"".join(piece.data for piece in pieces) == ANSWER


def test_that_the_end_is_missing_is_not_held_against_a_provider_that_said_why_it_stopped() -> None:
    pieces, _ = run(ANSWER.partition(b"event: message_stop")[0])
    (fault,) = [piece.error for piece in pieces if piece.error]

    assert fault.elsewhere


MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use", "stop_sequence": None,
    "content": [{"type": "text", "text": "hello"}, {"type": "tool_use", "id": "t", "name": "n", "input": {"a": [1]}}],
    "usage": {"input_tokens": 5, "output_tokens": 3},
}  # fmt: skip


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        json.dumps(MESSAGE).encode(),
        json.dumps(MESSAGE, indent=1).encode() + b"\n\n",
        b"\xef\xbb\xbf\r\n" + json.dumps(MESSAGE).replace("{", "{\n\n", 1).encode(),
        b"data: " + json.dumps(MESSAGE).encode() + b"\n\n",
        b"event: message\ndata: " + json.dumps(MESSAGE).encode() + b"\n\ndata: [DONE]\n\n",
    ],
)
def test_a_whole_message_becomes_a_stream(body: bytes, bytewise: bool) -> None:
    pieces, decoder = run(*([body[at : at + 1] for at in range(len(body))] if bytewise else [body]))
    (piece,) = pieces

    assert decoder.complete
    assert piece.has_content
    assert piece.usage == Usage(5, 3)
    read, reader = run(piece.data)
    assert reader.complete
    assert not any(part.error for part in read)


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
    """Where the first frame with content ends, line breaks not counted."""
    fault: tuple[int, str, str] | None = None
    usage: Usage = field(default_factory=Usage)
    complete: bool = False


def lines(data: bytes) -> list[bytes]:
    """What stands in lines. (A blank line more, between the halves of a line break, changes nothing.)"""
    return [line for line in re.split(rb"[\r\n]+", data) if line]


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
    read, started, stopped = Read(), False, False
    for frame in frames(data):
        event, said = members(frame)
        try:
            value: dict[str, Any] = json.loads(said) if said else {}
        except ValueError:
            read.fault = (500, "api_error", said[:500]) if event == "error" else (502, "api_error", NO_JSON)
            return read
        kind = value.get("type") or event
        if not said.strip():
            if not event and "data:" not in frame.decode():
                read.forwarded += b":\n\n" if frame.strip() else frame
            continue
        if event != value.get("type") and event != "error":
            frame = as_it_should_be(event, value, said)
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
        if has_content and not started:
            fault = (502, "api_error", "content before the start of its message")
        if fault is not None:
            read.fault = fault
            return read
        stopped = stopped or bool(kind == "message_delta" and value.get("delta", {}).get("stop_reason"))
        usage = value.get("message", {}).get("usage") if kind == "message_start" else value.get("usage")
        if usage and kind in ("message_start", "message_delta"):
            read.usage = read.usage.merged(Usage(usage.get("input_tokens"), usage.get("output_tokens")))
        read.forwarded += frame
        if has_content and read.content_at is None:
            read.content_at = len(b"".join(lines(read.forwarded)))
        if read.complete:
            return read
    read.fault = (502, "api_error", (NO_STOP if stopped else CUT) if started else "?")
    return read


def as_it_should_be(event: str, value: dict[str, Any], said: str) -> bytes:
    """A frame with a name, and a type in its JSON, both of them the same."""
    if kind := value.get("type"):
        return sse.frame(kind, said.replace("\n", " ").encode())
    inside = said.removesuffix("}")
    return sse.frame(event, f'{inside}{"," if value else ""}"type":"{event}"}}'.encode())


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
    assert lines(forwarded) == lines(expected.forwarded)
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
        before, at = at, at + len(b"".join(lines(piece.data)))
        if piece.has_content:
            assert expected is not None
            assert before < expected <= at
            return
    assert expected is None


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("words", [": sk-canary", "id: sk-canary", ": a\n: sk-canary", "sk-canary"])
def test_the_words_of_a_comment_reach_no_client(words: str, end: str) -> None:
    decoder = StreamDecoder()
    comment = f"{words}\n\n".replace("\n", end).encode()
    given = b"".join(piece.data for part in (START, comment, TEXT, DELTA, comment) for piece in decoder.feed(part))

    assert b"canary" not in given
    assert given.count(b":\n\n") == 2


def test_an_error_within_a_long_run_of_content_is_found() -> None:
    many = DELTA * (MANY_BYTES // len(DELTA) + 1)
    decoder = StreamDecoder()
    decoder.feed(START + TEXT + DELTA)

    pieces = decoder.feed(many + OVERLOADED + DELTA)

    assert [piece.error.kind for piece in pieces if piece.error] == ["overloaded_error"]


@pytest.mark.parametrize(
    ("reported", "count"),
    [([{"type": "thinking_dropped"}] * 2, 2), ([], None), (None, None), ("odd", None), ({}, None)],
)
def test_blocks_that_did_not_count_are_counted(reported: object, count: int | None) -> None:
    listed = msgspec.json.encode(reported)
    begun = START.replace(b'"content":[]', b'"content":[],"input_transformations":' + listed)
    ended = STOP.replace(b'"usage"', b'"input_transformations":' + listed + b',"usage"')

    for answer in (begun + TEXT + DELTA + STOP, START + TEXT + DELTA + ended):
        usage = Usage()
        for piece in StreamDecoder().feed(answer):
            usage = usage.merged(piece.usage)
        assert usage.input_transformations == (msgspec.UNSET if count is None else count)
        assert usage.output_tokens == 5
