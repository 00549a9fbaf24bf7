"""Lines of Zed's service as the Messages API's events, row by row."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from fakezed import EVENTS, answer, line
from hypothesis import given
from hypothesis import strategies as st

from balancer.dialects.zed import decoder as answers
from balancer.model import Piece, Usage

START, BLOCK, DELTA, STOP, END, LAST = EVENTS


def decode(
    *data: bytes, stream: bool = True, wrapped: bool = True
) -> tuple[answers.ZedDecoder, list[Piece], list[Any]]:
    learnt: list[Any] = []
    decoder = answers.ZedDecoder(
        "asked", "n", stream=stream, wrapped=wrapped, learn=lambda word, value: learnt.append((word, value))
    )
    pieces = [piece for part in data for piece in decoder.feed(part)] + decoder.end()
    return decoder, pieces, learnt


def events(pieces: list[Piece]) -> list[dict[str, Any]]:
    return [json.loads(piece.data.partition(b"data: ")[2]) for piece in pieces if piece.data]


def lines(*found: dict[str, Any]) -> bytes:
    return b"".join(line({"event": event}) for event in found)


@given(st.lists(st.integers(0, 2000), max_size=9), st.booleans(), st.booleans())
def test_wherever_an_answer_is_cut_it_is_the_same(cuts: list[int], wrapped: bool, ended: bool) -> None:
    said = "a\u2028b\u0085c\u2029d"
    body = answer(wrapped=wrapped, said=said)
    body = body if ended else body.rstrip(b"\n")
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    parts = [body[start:end] for start, end in itertools.pairwise(edges)]

    decoder, pieces, _ = decode(*parts, wrapped=wrapped)
    whole, (message,), _ = decode(*parts, wrapped=wrapped, stream=False)

    assert decoder.complete
    assert whole.complete
    assert events(pieces)[2]["delta"]["text"] == said
    assert json.loads(message.data)["content"] == [{"type": "text", "text": said}]


def test_what_the_service_drops_is_put_back() -> None:
    bare: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {"id": None, "usage": {"input_tokens": 3, "cache_read_input_tokens": None}},
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text"}},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "n"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": None}},
        {"type": "message_stop"},
    ]

    _, pieces, _ = decode(lines(*bare))

    start, thinking, text, tool, delta, _ = events(pieces)
    assert start["message"] == {
        "id": "msg_n", "type": "message", "role": "assistant", "content": [], "model": "asked", "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 3, "output_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        },
    }  # fmt: skip
    assert thinking["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    assert text["content_block"] == {"type": "text", "text": ""}
    assert tool["content_block"] == {"type": "tool_use", "id": "t", "name": "n", "input": {}}
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert delta["usage"] == {"output_tokens": 0}


def test_output_tokens_that_are_not_said_again_are_kept() -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 9}}}
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}

    _, (message,), learnt = decode(lines(start, BLOCK, DELTA, STOP, delta, LAST), stream=False)

    assert json.loads(message.data)["usage"]["output_tokens"] == 9
    assert learnt[-1] == ("completed", Usage(1, 9, 0, 0))


def test_unknown_events_and_reasons_pass_through() -> None:
    strange = {"type": "new_thing", "index": 7, "x": [1]}
    end = {"type": "message_delta", "delta": {"stop_reason": "pause_turn"}, "usage": {"output_tokens": 2}}

    decoder, pieces, _ = decode(lines(START, {"type": "ping"}, strange, BLOCK, DELTA, STOP, end, LAST))

    assert decoder.complete
    assert [event["type"] for event in events(pieces)][1:3] == ["ping", "new_thing"]
    assert events(pieces)[2] == strange
    assert events(pieces)[-2]["delta"]["stop_reason"] == "pause_turn"


def test_lines_that_a_gateway_made_events_of_are_taken() -> None:
    body = b"".join(b": hello\nevent: x\nid: 1\ndata: " + line(event) + b"\r\n" for event in EVENTS) + b"data: [DONE]\n"

    decoder, pieces, _ = decode(body, wrapped=False)

    assert decoder.complete
    assert len(events(pieces)) == 6


def test_bare_lines_are_taken_where_wrapped_ones_were_promised_and_the_other_way_round() -> None:
    for wrapped in (True, False):
        for promised in (True, False):
            decoder, _, _ = decode(answer(wrapped=wrapped), wrapped=promised)
            assert decoder.complete


def test_statuses_are_not_the_clients() -> None:
    limit = {"usage_updated": {"amount": 17, "limit": {"limited": 500}}}
    statuses: list[Any] = [
        "started",
        {"queued": {"position": 3}},
        limit,
        "tool_use_limit_reached",
        "new",
        {"new": {}},
        5,
    ]
    body = b"".join(line({"status": status}) for status in statuses)

    decoder, pieces, learnt = decode(body + lines(*EVENTS) + line({"status": "stream_ended"}))

    assert [event["type"] for event in events(pieces)] == [event["type"] for event in EVENTS]
    assert decoder.notes == ()
    assert ("usage_updated", limit["usage_updated"]) in learnt
    assert ("tool_use_limit_reached", None) in learnt


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("failure", "status", "elsewhere"),
    [
        (line({"status": {"failed": {"code": "http_429", "message": "x", "retry_after": 12.5}}}), 429, False),
        (line({"status": {"failed": {"code": "x", "message": "prompt is too long: 2 tokens > 1 maximum"}}}), 400, True),
        (
            lines({"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long"}}),
            400,
            True,
        ),
        (lines({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}), 529, False),
        (b"<html>\n", 502, False),
        (lines(START), 502, False),
        (line({"status": "stream_ended"}), 502, False),
    ],
)
def test_a_failure_is_one_and_nothing_follows(failure: bytes, status: int, elsewhere: bool, stream: bool) -> None:
    body = lines(START, BLOCK) + failure + lines(DELTA, STOP, END, LAST)

    decoder, pieces, learnt = decode(body, stream=stream)

    assert [(p.error.status, p.error.elsewhere) for p in pieces if p.error] == [(status, elsewhere)]
    assert pieces[-1].error
    assert not decoder.complete
    assert "completed" not in dict(learnt)


def test_a_tools_input_is_joined_and_must_be_json_unless_it_was_cut_short() -> None:
    def tool(*parts: str, reason: str = "tool_use") -> bytes:
        block = {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "t", "name": "n"},
        }
        pieces = [
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": part}}
            for part in parts
        ]
        return lines(START, block, *pieces, STOP, {**END, "delta": {"stop_reason": reason}}, LAST)

    for body, expected in ((tool('{"a"', ":1}"), {"a": 1}), (tool(""), {}), (tool(), {})):
        _, (message,), _ = decode(body, stream=False)
        assert json.loads(message.data)["content"][0]["input"] == expected
    decoder, (message,), _ = decode(tool('{"a"', reason="max_tokens"), stream=False)
    assert json.loads(message.data)["content"][0]["input"] == {}
    assert "cut short" in str(decoder.notes)
    decoder, pieces, _ = decode(tool('{"a"'), stream=False)
    assert [piece.error.status for piece in pieces if piece.error] == [502]
    assert not decoder.complete


def test_blocks_are_put_together_by_index_and_kind() -> None:
    def delta(index: int, **more: Any) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": more}

    def begin(index: int, kind: str) -> dict[str, Any]:
        return {"type": "content_block_start", "index": index, "content_block": {"type": kind}}

    body = lines(
        START, begin(1, "text"), begin(0, "thinking"), begin(2, "compaction"),
        delta(0, type="thinking_delta", thinking="h"), delta(1, type="text_delta", text="a"),
        delta(0, type="thinking_delta", thinking="m"), delta(1, type="text_delta", text="b"),
        delta(0, type="signature_delta", signature="one"), delta(0, type="signature_delta", signature="two"),
        delta(1, type="citations_delta", citation={"c": 1}), delta(1, type="citations_delta", citation={"c": 2}),
        delta(2, type="compaction_delta", content="x", encrypted_content="e1"),
        delta(2, type="compaction_delta", encrypted_content="e2"), delta(9, type="text_delta", text="nowhere"),
        END, LAST,
    )  # fmt: skip

    _, (message,), _ = decode(body, stream=False)

    assert json.loads(message.data)["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "two"},
        {"type": "text", "text": "ab", "citations": [{"c": 1}, {"c": 2}]},
        {"type": "compaction", "content": "x", "encrypted_content": "e2"},
    ]


def test_the_end_is_noted_where_it_is_missing_or_a_failure() -> None:
    missing, _, _ = decode(lines(*EVENTS))
    bare, _, _ = decode(answer(wrapped=False), wrapped=False)
    late, pieces, _ = decode(lines(*EVENTS), line({"status": {"failed": {"code": "http_500", "message": "m"}}}))

    assert missing.notes == ("zed: the service did not say that the stream had ended",)
    assert bare.notes == ()
    assert "500 api_error" in str(late.notes)
    assert not [piece for piece in pieces if piece.error]


def test_the_text_of_a_whole_answer_and_what_it_used() -> None:
    assert answers.text_of(answer(said="sum")) == ("sum", Usage(7, 5, 0, 0))
    assert answers.text_of(answer(wrapped=False, said="sum")) == ("sum", Usage(7, 5, 0, 0))
    assert answers.text_of(lines(*EVENTS[:-1])) == ("", Usage(7, 5, 0, 0))
    assert answers.text_of(b"<html>") == ("", Usage())


@pytest.mark.parametrize(
    ("body", "expected"),
    [({"tokens": 4}, b'{"input_tokens":4}'), ({"tokens": -1}, None), ({}, None), ({"tokens": True}, None)],
)
def test_a_count(body: dict[str, Any], expected: bytes | None) -> None:
    assert answers.count(body) == expected
