"""Bytes that are no answer are errors; JSON and streams are taken for each other."""

from __future__ import annotations

import json
from typing import Any

import grammar
import pytest
from conversion import DONE, chunk, decoder, played, sse, written

COMPLETION = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def test_json_where_a_stream_was_asked_becomes_one() -> None:
    seen = grammar.read(written(played(decoder(), json.dumps(COMPLETION).encode())))

    assert (seen.text(), seen.stop_reason, seen.usage["input_tokens"]) == ("a", "end_turn", 3)


def test_a_stream_where_json_was_asked_becomes_a_message() -> None:
    message = json.loads(written(played(decoder(stream=False), sse(chunk(content="a"), chunk("stop"), DONE))))

    assert message["content"] == [{"type": "text", "text": "a"}]
    assert message["model"] == "claude"


def test_an_event_at_the_end_needs_no_blank_line() -> None:
    seen = grammar.read(written(played(decoder(), sse(chunk(content="a")) + b"data: [DONE]")))

    assert seen.text() == "a"


def test_comments_other_fields_and_lines_of_data() -> None:
    data = b': ping\n\nid: 1\nevent: x\nretry: 5\ndata:{"choices":[{"index":0,\ndata: "delta":{"content":"a\xe2\x80\xa8b"}}]}\n\n'

    assert grammar.read(written(played(decoder(), data + sse(DONE)))).text() == "a\u2028b"


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\n \r\n"])
@pytest.mark.parametrize("data", [sse(chunk("stop", content="a"), DONE), json.dumps(COMPLETION).encode()])
def test_what_stands_before_an_answer(before: bytes, data: bytes) -> None:
    assert grammar.read(written(played(decoder(), before + data, [1, 2, 3]))).text() == "a"


def test_nothing_but_the_end_is_left_to_come() -> None:
    to = decoder()
    seen = [to.ending]
    for events in (chunk(content="a"), chunk("stop", {"prompt_tokens": 1})):
        to.feed(sse(events))
        seen.append(to.ending)

    assert (seen, to.complete) == ([False, False, True], False)
    assert to.end()
    assert to.complete


def test_a_response_ends_with_its_own_event_only() -> None:
    to = decoder(responses=True)
    to.feed(b'data: {"type": "response.output_text.delta", "delta": "a"}\n\n')

    assert not to.ending


def test_substance_comes_with_the_first_content() -> None:
    to = decoder()
    first = to.feed(sse(chunk(role="assistant", content="")))
    second = to.feed(sse(chunk(content="a")))

    assert [piece.has_content for piece in first + second] == [False, True]


NO_ANSWERS: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 502, "nothing"),
    "only the end": (sse(DONE), 502, "nothing"),
    "only comments": (b": a\n\n: b\n\n", 502, "nothing"),
    "a web page": (b"<html>", 502, "HTML"),
    "truncated JSON": (b'{"choices": [', 502, "JSON"),
    "no choices": (b'{"id": "x"}', 502, "choices"),
    "empty choices": (b'{"choices": []}', 502, "choices"),
    "an error": (b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}', 429, "slow down"),
    "an error of vLLM": (b'{"object": "error", "message": "bad", "code": 400}', 400, "bad"),
    "an error event": (b'event: error\ndata: {"message": "at capacity", "type": "overloaded"}\n\n', 529, "at capacity"),
    "an error as words": (sse({"error": "boom"}), 500, "boom"),
    "an error in a choice": (
        sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 502, "message": "up"}}]}),
        500, "up",
    ),
    "a type alone": (sse({"type": "error", "message": "slow", "code": None}), 500, "slow"),
    "a code without choices": (sse({"code": "Throttling.rate_limit", "message": "slow"}), 429, "slow"),
    "too long": (sse({"error": {"message": "This model's maximum context length is 10 tokens"}}), 400, "prompt is too long"),
    "no quota": (sse({"error": {"message": "pay", "code": "insufficient_quota"}}), 402, "pay"),
}  # fmt: skip


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("data", "status", "words"), NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_no_answer(data: bytes, status: int, words: str, stream: bool) -> None:
    to = decoder(stream=stream)
    pieces = played(to, data)

    (fault,) = [piece.error for piece in pieces if piece.error]
    assert fault.status == status
    assert words in fault.message
    assert not any(piece.has_content for piece in pieces)
    assert not to.complete


BREAKS: dict[str, tuple[list[Any], int]] = {
    "truncated": ([chunk(content="half")], 502),
    "an error in the middle": ([chunk(content="half"), {"error": {"message": "x", "type": "server_error"}}], 500),
}


@pytest.mark.parametrize(("events", "status"), BREAKS.values(), ids=BREAKS)
def test_a_broken_stream_has_no_end(events: list[Any], status: int) -> None:
    pieces = played(decoder(), sse(*events))
    data = b"".join(piece.data for piece in pieces)

    assert [piece.error.status for piece in pieces if piece.error] == [status]
    assert not grammar.read(data, whole=False).stop_reason
    assert grammar.read(data, whole=False).text() == "half"
    assert b"content_block_stop" not in data
