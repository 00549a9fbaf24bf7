"""The check of actions: taken off where a provider can't do it, and answered with the word that there is no verdict."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from frames import ANSWER, DELTA, START, STOP, TEXT
from stand_ins import request

from balancer.model import Fault, Operation, Piece, Reply, Request
from balancer.wire import safeguards, sse
from balancer.wire.answer import MessageDecoder
from balancer.wire.errors import fault_of
from balancer.wire.safeguards import Known, Watched, WithoutVerdict
from balancer.wire.stream import StreamDecoder

TOOL = {"type": "dangerous_tool_use", "classifier_context": {"cwd": "/x"}}
BETAS = "dangerous-tool-use-2026-09-03, afk-mode-2026-01-31"
UNAVAILABLE = [{"type": "dangerous_tool_use", "status": {"type": "unavailable", "reason": "error"}}]
VERDICT = [{"type": "dangerous_tool_use", "status": {"type": "available", "tool_uses": {}}}]
DAY_S = 86400.0


def asking(field: Any = (TOOL,), betas: str = BETAS, **more: Any) -> Request:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    if field is not None:
        body["safeguards"] = field
    return request(json.dumps(body).encode(), ((b"anthropic-beta", betas.encode()), (b"x-other", b"kept")))


def delta_of(pieces: list[Piece]) -> dict[str, Any]:
    frames = sse.frames(b"".join(piece.data for piece in pieces))
    found = [json.loads(sse.fields(frame)[1]) for frame in frames if b"message_delta" in frame]
    (delta,) = [event["delta"] for event in found if event["type"] == "message_delta"]
    return dict(delta)


# Requests


@pytest.mark.parametrize(
    ("field", "kinds"),
    [
        ([TOOL], ("dangerous_tool_use",)),
        ([TOOL, {"type": "other"}, TOOL], ("dangerous_tool_use", "other")),
        ([{"type": 5}, "dangerous_tool_use", {}], ()),
        ([], ()),
        (None, ()),
        ({"x": 1}, ()),
        ([{"type": f"t{number}"} for number in range(99)], tuple(f"t{number}" for number in range(8))),
    ],
)
def test_it_is_asked_for_by_the_field_and_for_its_kinds(field: Any, kinds: tuple[str, ...]) -> None:
    assert safeguards.kinds(asking(field)) == kinds


def test_the_word_in_a_conversation_asks_for_nothing() -> None:
    said = asking(None, messages=[{"role": "user", "content": '"safeguards": [{"type": "dangerous_tool_use"}]'}])
    deep = asking(None, metadata={"safeguards": [TOOL]})

    assert safeguards.kinds(said) == safeguards.kinds(deep) == ()


def test_counting_asks_for_no_check() -> None:
    counting = asking()
    counting.operation = Operation.COUNT_TOKENS

    assert safeguards.kinds(counting) == ()


def test_field_and_betas_are_taken_off_and_nothing_else_is_changed() -> None:
    body = (
        b'{"model": "m", "n": 1.50, "messages" : [ {"role":"user", "content":"\\u00e9"} ], "safeguards": [{}],'
        b'"betas":["a-2026-01-01","afk-mode-2026-01-31"]}'
    )
    asked = request(body, ((b"anthropic-beta", f"interleaved-2025-05-14,{BETAS}".encode()), (b"x-other", b"kept")))

    left, dropped = safeguards.without(asked)

    assert left.body == (
        b'{"model":"m","n":1.50,"messages":[ {"role":"user", "content":"\\u00e9"} ],"betas":["a-2026-01-01"]}'
    )
    assert left.headers == ((b"anthropic-beta", b"interleaved-2025-05-14"), (b"x-other", b"kept"))
    assert dropped == (
        "dropped beta afk-mode-2026-01-31",
        "dropped beta dangerous-tool-use-2026-09-03",
        "dropped safeguards",
    )
    assert asked.body == body, "the request itself was changed"


def test_a_header_of_nothing_but_the_betas_goes_with_them() -> None:
    left, _ = safeguards.without(asking())

    assert left.headers == ((b"x-other", b"kept"),)


def test_a_request_that_asks_for_no_check_is_the_same_object() -> None:
    plain = asking(None, "interleaved-2025-05-14,dangerous-tool-use,afk-mode-2026-01-31-x")

    assert safeguards.without(plain) == (plain, ())
    assert safeguards.without(plain)[0] is plain


def test_a_body_with_half_a_character_is_read_as_well() -> None:
    asked = request(b'{"model":"m","messages":[{"role":"user","content":"\\ud83d"}],"safeguards":[{"type":"t"}]}')

    assert safeguards.kinds(asked) == ("t",)
    assert b"safeguards" not in safeguards.without(asked)[0].body


def test_a_body_that_is_no_json_is_left_alone() -> None:
    broken = request(b'{"safeguards": [')

    assert safeguards.kinds(broken) == ()
    assert safeguards.without(broken)[0] is broken


# Refusals


@pytest.mark.parametrize(
    "words",
    [
        "safeguards: Extra inputs are not permitted",
        "safeguards.0.classifier_context: Extra inputs are not permitted",
        "Unknown field: safeguards",
        "Unrecognized request argument supplied: 'safeguards'",
        "The parameter `safeguards` is not supported",
        "Unexpected value(s) `dangerous-tool-use-2026-09-03` for the `anthropic-beta` header.",
        "afk-mode-2026-01-31 is not a valid beta",
        "Unsupported beta feature: dangerous-tool-use-2027-01-01",
        "body.safeguards: Extra inputs are not permitted",
        "$.safeguards: property is not allowed",
        'json: unknown field "safeguards"',
        'Unrecognized field "safeguards" (class Request), not marked as ignorable',
    ],
)
def test_a_refusal_is_known_by_its_words(words: str) -> None:
    assert safeguards.is_refused(Fault(400, "invalid_request_error", words))
    assert safeguards.is_refused(Fault(422, "invalid_request_error", words))
    assert not safeguards.is_refused(Fault(529, "overloaded_error", words))


def test_a_refusal_in_a_foreign_form_is_known_as_well() -> None:
    said = [{"type": "extra_forbidden", "loc": ["body", "safeguards"], "msg": "Extra inputs are not permitted"}]
    reply = Reply(422, (), json.dumps({"detail": said}).encode())

    assert safeguards.is_refused(fault_of(reply, 0.0))
    assert not safeguards.is_refused(fault_of(Reply(422, (), b'{"detail": "no"}'), 0.0))


@pytest.mark.parametrize(
    "words",
    [
        "messages.3.content.0.safeguards: Extra inputs are not permitted",
        "tools.0.custom.defer_loading: Extra inputs are not permitted",
        "Unexpected value(s) `interleaved-thinking-2025-05-14` for the `anthropic-beta` header.",
        "prompt is too long: 9 tokens > 8 maximum",
        "x" * 5000 + " safeguards: Extra inputs are not permitted",
        "",
    ],
)
def test_another_refusal_is_not_taken_for_it(words: str) -> None:
    assert not safeguards.is_refused(Fault(400, "invalid_request_error", words))


def test_what_a_provider_did_is_believed_for_a_day() -> None:
    known = Known()
    known.refused("m", 100.0)

    assert known.refuses("m", 100.0 + DAY_S - 1)
    assert not known.refuses("m", 100.0 + DAY_S)
    assert not known.refuses("m", 99.0), "the clock was put back"
    assert not known.refuses("other", 100.0)
    assert known.returns("m", 101.0) is False
    assert known.returns("m", 101.0 + DAY_S) is None


def test_verdicts_that_come_back_end_a_refusal() -> None:
    known = Known()
    known.refused("m", 100.0)
    known.answered("m", 200.0, verdicts=True)

    assert (known.returns("m", 201.0), known.doubt("m")) == (True, 0)
    assert known.described() == {"m": "returned"}


def test_it_is_kept_of_so_many_models_and_no_more() -> None:
    known = Known()
    for number in range(safeguards.MODELS_MAX + 5):
        known.refused(f"m{number}", 1.0)
        known.answered(f"n{number}", 1.0, verdicts=False)

    assert len(known.refused_at) == len(known.returned) == safeguards.MODELS_MAX
    assert not known.refuses("m0", 1.0)
    assert known.refuses(f"m{safeguards.MODELS_MAX + 4}", 1.0)


# Answers


def test_a_stream_is_told_in_its_last_delta_however_it_is_cut() -> None:
    for size in (1, 7, 100, len(ANSWER)):
        decoder = WithoutVerdict(StreamDecoder(), ("dangerous_tool_use",), ("noted",), stream=True)
        pieces = [p for at in range(0, len(ANSWER), size) for p in decoder.feed(ANSWER[at : at + size])]

        assert delta_of(pieces)["safeguard_results"] == UNAVAILABLE
        assert decoder.complete
        assert decoder.notes == ("noted",)


@pytest.mark.parametrize(
    "delta",
    [
        b'data: {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}}\n\n',
        b'event: message_delta\r\ndata: {"delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":1}}\r\n\r\n',
        b': note\nevent: message_delta\ndata: {"type":"message_delta",\ndata: "delta":{"stop_reason":"tool_use"}}\n\n',
    ],
)
def test_the_delta_is_found_however_it_is_written(delta: bytes) -> None:
    decoder = WithoutVerdict(StreamDecoder(), ("dangerous_tool_use",), (), stream=True)

    told = delta_of(decoder.feed(START + TEXT + DELTA + delta))

    assert told == {"stop_reason": "tool_use", "safeguard_results": UNAVAILABLE}


def test_content_that_speaks_of_it_is_handed_on_as_it_came() -> None:
    said = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"event: message_delta\\n{}"}}'
    frame = sse.frame("content_block_delta", said)
    decoder = WithoutVerdict(StreamDecoder(), ("dangerous_tool_use",), (), stream=True)

    assert b"".join(piece.data for piece in decoder.feed(START + TEXT + frame)) == START + TEXT + frame


@pytest.mark.parametrize(
    "data",
    [b"{", b'{"type":"message_delta"}', b'{"type":"message_delta","delta":5}', b'{"type":5,"delta":{}}', b"[]"],
)
def test_a_delta_that_is_none_is_left_alone(data: bytes) -> None:
    frame = sse.frame("message_delta", data)

    assert safeguards._in_frames(frame, msgspec.Raw(b"[]")) == frame


def test_a_whole_message_is_told_at_its_top() -> None:
    decoder = WithoutVerdict(MessageDecoder(Operation.MESSAGES), ("dangerous_tool_use",), (), stream=False)
    body = {"type": "message", "content": [{"type": "text", "text": "hi"}], "usage": {"output_tokens": 1}}

    pieces = decoder.feed(json.dumps(body).encode()) + decoder.end()

    assert json.loads(pieces[-1].data) == {**body, "safeguard_results": UNAVAILABLE}
    assert decoder.complete


@pytest.mark.parametrize("stream", [True, False])
def test_a_providers_own_result_is_never_replaced(stream: bool) -> None:
    if stream:
        data = ANSWER.replace(b'"delta":{"stop_reason"', b'"delta":{"safeguard_results":[],"stop_reason"')
        decoder = WithoutVerdict(StreamDecoder(), ("t",), (), stream=True)
        assert delta_of(decoder.feed(data))["safeguard_results"] == []
    else:
        data = b'{"type":"message","content":[],"safeguard_results":[]}'
        decoder = WithoutVerdict(MessageDecoder(Operation.MESSAGES), ("t",), (), stream=False)
        assert (decoder.feed(data) + decoder.end())[-1].data == data


def test_an_error_is_handed_on() -> None:
    decoder = WithoutVerdict(StreamDecoder(), ("t",), (), stream=True)

    (piece,) = decoder.feed(b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n')

    assert piece.error is not None
    assert not decoder.complete


def watched(known: Known, answer: bytes) -> Known:
    decoder = Watched(StreamDecoder(), known, "m", 100.0)
    assert b"".join(piece.data for piece in decoder.feed(answer)) == answer
    return known


CALL = b'event: content_block_start\ndata: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use"}}\n\n'
JUDGED = sse.frame(
    "message_delta", json.dumps({"type": "message_delta", "delta": {"safeguard_results": VERDICT}}).encode()
)


def test_it_is_found_out_whether_verdicts_come_back() -> None:
    assert watched(Known(), START + TEXT + DELTA + CALL + JUDGED + STOP).returns("m", 100.0) is True
    assert watched(Known(), START + TEXT + DELTA + CALL + STOP).returns("m", 100.0) is False
    nothing_to_check = watched(Known(), START + TEXT + DELTA + STOP)
    assert (nothing_to_check.returns("m", 100.0), nothing_to_check.doubt("m")) == (None, 1)
    assert nothing_to_check.described() == {}
    assert watched(nothing_to_check, START + TEXT + DELTA + CALL + STOP).doubt("m") == 2
    assert watched(Known(), START + TEXT + DELTA + CALL).returns("m", 100.0) is None, "it has not ended"
