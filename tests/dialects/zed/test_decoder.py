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
from balancer.wire.ndjson import MAX_LINE_BYTES

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


def status(value: Any) -> bytes:
    return line({"status": value})


FAILURES: dict[str, tuple[bytes, int, str, str, bool]] = {
    # each is followed by a sound end: only what is wrong can be what is objected to
    "a failure": (
        status({"failed": {"code": "http_429", "message": "slow", "retry_after": 12.5}}), 429, "rate_limit_error", "slow", False,
    ),
    "a failure without words": (
        status({"failed": None}), 500, "api_error", "the service failed without words", False,
    ),
    "too long a prompt": (
        status({"failed": {"code": "x", "message": "prompt is too long: 2 tokens > 1 maximum"}}),
        400, "invalid_request_error", "x: prompt is too long: 2 tokens > 1 maximum", True,
    ),
    "too long a prompt, in an event": (
        lines({"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long"}}),
        400, "invalid_request_error", "prompt is too long", True,
    ),
    "an error event": (
        lines({"type": "error", "error": {"type": "overloaded_error", "message": "full"}}),
        529, "overloaded_error", "full", False,
    ),
    "a page": (b"<html>\n", 502, "api_error", "an HTML page where lines of JSON were expected", False),
    "words": (b"hello\n", 502, "api_error", "text where lines of JSON were expected", False),
    "a list": (b"[1]\n", 502, "api_error", "JSON where lines of JSON were expected", False),
    "a second message": (lines(START), 502, "api_error", "a second message in one stream", False),
    "too early an end": (
        status("stream_ended"), 502, "api_error", "the stream ended before the end of its message", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("failure", "code", "kind", "words", "elsewhere"), FAILURES.values(), ids=FAILURES)
def test_a_failure_is_one_and_nothing_follows(
    failure: bytes, code: int, kind: str, words: str, elsewhere: bool, stream: bool
) -> None:
    body = lines(START, BLOCK) + failure + lines(DELTA, STOP, END, LAST) + status("stream_ended")

    decoder, pieces, learnt = decode(body, stream=stream)

    assert [(p.error.status, p.error.kind, p.error.message, p.error.elsewhere) for p in pieces if p.error] == [
        (code, kind, words, elsewhere)
    ]
    assert pieces[-1].error
    assert not decoder.complete
    assert "completed" not in dict(learnt)
    assert decoder.feed(lines(*EVENTS)) == decoder.end() == [], "it is told once"


CUT = {
    "nothing": (b"", "nothing where lines of JSON were expected"),
    "blank lines": (b"\n\n \n", "nothing where lines of JSON were expected"),
    "comments of a gateway": (b": hi\nevent: x\n", "nothing where lines of JSON were expected"),
    "a status alone": (status("started"), "the stream ended before the end of its message"),
    "a beginning": (lines(START, BLOCK, DELTA), "the stream ended before the end of its message"),
    "all but the end": (lines(*EVENTS[:-1]), "the stream ended before the end of its message"),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("data", "words"), CUT.values(), ids=CUT)
def test_an_answer_that_is_cut_is_none(data: bytes, words: str, stream: bool) -> None:
    decoder, pieces, _ = decode(data, stream=stream)

    assert [(p.error.status, p.error.message) for p in pieces if p.error] == [(502, words)]
    assert not decoder.complete


def test_a_line_that_never_ends_is_a_fault_before_the_end_of_an_answer_and_behind_it_none() -> None:
    endless = b"x" * (MAX_LINE_BYTES + 1)
    decoder, pieces, _ = decode(lines(START), endless)
    assert [p.error.message for p in pieces if p.error] == [f"a line of more than {MAX_LINE_BYTES} bytes"]
    assert not decoder.complete

    decoder, pieces, _ = decode(lines(*EVENTS), endless)
    assert not [p.error for p in pieces if p.error]
    assert decoder.complete


def limited(data: bytes, max_bytes: int, *, stream: bool) -> tuple[answers.ZedDecoder, list[Piece]]:
    decoder = answers.ZedDecoder("m", "n", stream=stream, wrapped=True, max_bytes=max_bytes)
    return decoder, [*decoder.feed(data[:9]), *decoder.feed(data[9:]), *decoder.end()]


def test_what_is_put_together_to_a_message_is_held_up_to_a_limit_and_no_longer() -> None:
    data = lines(*EVENTS)
    assert limited(data, len(data), stream=False)[0].complete

    decoder, pieces = limited(data, len(data) - 1, stream=False)
    assert [p.error.message for p in pieces if p.error] == [f"an answer of more than {len(data) - 1} bytes"]
    assert not decoder.complete
    assert limited(data, 10, stream=True)[0].complete, "a stream is handed on"


def test_what_comes_behind_an_answer_does_not_count() -> None:
    data = lines(*EVENTS)
    decoder = answers.ZedDecoder("m", "n", stream=False, wrapped=True, max_bytes=len(data))
    decoder.feed(data)

    assert decoder.feed(status("stream_ended")) == []
    assert decoder.notes == ()


def small(*data: bytes, max_bytes: int = answers.SMALL_MAX_BYTES) -> tuple[list[Piece], answers.Small]:
    decoder = answers.Small(answers.count, max_bytes)
    return [*(piece for part in data for piece in decoder.feed(part)), *decoder.end()], decoder


def test_a_small_answer_up_to_the_limit_is_read_and_no_larger_one() -> None:
    body = b'{"tokens": 4}'
    pieces, decoder = small(body[:5], body[5:], max_bytes=len(body))
    assert [(piece.data, piece.has_content) for piece in pieces] == [(b'{"input_tokens":4}', True)]
    assert decoder.complete

    pieces, decoder = small(body[:5], body[5:], body, max_bytes=len(body) - 1)
    assert [p.error.message for p in pieces if p.error] == [f"an answer of more than {len(body) - 1} bytes"]
    assert not decoder.complete


def test_nothing_of_an_answer_that_is_too_large_is_held() -> None:
    decoder = answers.Small(answers.count, 1000)
    for _ in range(1000):
        decoder.feed(b"x" * 500)

    assert decoder._whole is None
    assert decoder.end() == []


SORTS = {b"": "nothing", b"<p>": "an HTML page", b'{"tokens": -1}': "JSON", b"no": "text"}


@pytest.mark.parametrize(("body", "sort"), SORTS.items())
def test_a_small_answer_that_is_another_is_a_fault(body: bytes, sort: str) -> None:
    pieces, decoder = small(body)

    assert [(p.error.status, p.error.message) for p in pieces if p.error] == [
        (502, f"{sort} where something else was expected")
    ]
    assert not decoder.complete


JUNK: list[Any] = [
    None,
    5,
    2.5,
    True,
    "",
    "x",
    [],
    {},
    [5],
    {"type": "text"},
    {"text": 5},
    {"usage": 5},
    {"type": 5},
    -1,
]
KINDS = [
    "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop",
    "ping", "error", "new", 5, None,
]  # fmt: skip
junk = st.sampled_from(JUNK)
odd_blocks = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "thinking", "tool_use", "new", 5]),
        "text": junk,
        "thinking": junk,
        "input": junk,
        "citations": junk,
        "id": junk,
        "name": junk,
    },
)
odd_deltas = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text_delta", "thinking_delta", "input_json_delta", "signature_delta", "citations_delta", "compaction_delta", 5]),
        "text": junk, "thinking": junk, "partial_json": junk, "signature": junk, "citation": junk, "content": junk,
        "encrypted_content": junk, "stop_reason": junk,
    },
)  # fmt: skip
odd_events = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional={
        "index": st.sampled_from([0, 1, -1, "0", None]), "message": st.one_of(junk, st.fixed_dictionaries({"usage": junk, "id": junk, "content": junk})),
        "content_block": st.one_of(junk, odd_blocks), "delta": st.one_of(junk, odd_deltas), "usage": junk, "error": junk,
    },
)  # fmt: skip
odd_lines = st.one_of(
    odd_events, st.builds(lambda event: {"event": event}, st.one_of(junk, odd_events)), st.sampled_from(EVENTS),
    st.builds(lambda value: {"status": value}, st.one_of(junk, st.builds(lambda failed: {"failed": failed}, junk))),
)  # fmt: skip


@given(st.lists(odd_lines, max_size=10), st.booleans(), st.booleans())
def test_no_answer_is_so_odd_that_it_crashes(odd: list[Any], stream: bool, wrapped: bool) -> None:
    decoder, pieces, _ = decode(b"".join(map(line, [EVENTS[0], *odd])), stream=stream, wrapped=wrapped)

    assert decoder.complete or pieces[-1].error
    answers.text_of(b"".join(map(line, [EVENTS[0], *odd, *EVENTS[3:]])))


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
        {"type": "text", "text": "nowhere"},  # its start was lost; its words are not
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
