"""The Responses API, both ways."""

from __future__ import annotations

import json
from typing import Any

import grammar
import pytest
from anthropic.types import Message
from conversion import assistant, decoder, messages_request, played, result, text, use, user, written
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response
from openai_schema import check_responses

from balancer.dialects.openai import request, responses
from balancer.dialects.openai.profiles import PROFILES
from balancer.wire.signatures import signed, unsigned

ITEM = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "zzz"}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}}
TOOL = {"name": "t", "input_schema": {"type": "object"}}


def asked(*messages: Any, **more: Any) -> dict[str, Any]:
    body = json.dumps(messages_request(*messages, **more)).encode()
    chat = request.chat(body, "gpt", PROFILES["openai_reasoning"], "up", items=True).body
    out = json.loads(request.encoded(responses.from_chat(chat)))
    check_responses(out)
    return out  # type: ignore[no-any-return]


def test_a_conversation() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": signed({"provider": "up", "item": ITEM})}
    body = asked(
        user(text("look"), PNG, PDF), assistant(thinking, text("so"), use("t1", "t", a=1)), user(result("t1")),
        system="Be good.", tools=[TOOL], tool_choice={"type": "tool", "name": "t"}, output_config={"effort": "low"},
        stream=True,
    )  # fmt: skip

    assert body["instructions"] == "Be good."
    assert [item["type"] for item in body["input"]] == [
        "message", "reasoning", "message", "function_call", "function_call_output",
    ]  # fmt: skip
    assert [part["type"] for part in body["input"][0]["content"]] == ["input_text", "input_image", "input_file"]
    assert body["tools"][0]["strict"] is False
    assert body["tool_choice"] == {"type": "function", "name": "t"}
    assert (body["max_output_tokens"], body["store"], body["stream"]) == (100, False, True)
    assert body["reasoning"] == {"effort": "low", "summary": "auto"}
    assert "stream_options" not in body


def test_reasoning_of_others_is_not_given_back() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": signed({"provider": "else", "item": ITEM})}

    assert "zzz" not in json.dumps(asked("a", assistant(thinking, text("b")), "c"))


def test_the_least_limit_and_structured_outputs() -> None:
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    body = asked("a", max_tokens=1, output_config={"format": {"type": "json_schema", "schema": schema}})

    assert body["max_output_tokens"] == 16
    assert body["text"]["format"] == {"type": "json_schema", "name": "response", "schema": schema, "strict": True}


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events)


def of(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **more}


USAGE = {
    "input_tokens": 10,
    "output_tokens": 5,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
    "total_tokens": 15,
}
CREATED, COMPLETED = of("created", response={}), of("completed", response={"status": "completed", "usage": USAGE})
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "Read", "arguments": ""}


def read(*events: dict[str, Any]) -> grammar.Read:
    return grammar.read(written(played(decoder(responses=True), sse(*events))))


def test_thinking_and_text_streamed() -> None:
    seen = read(
        CREATED,
        of("reasoning_summary_part.added", output_index=0),
        of("reasoning_summary_text.delta", output_index=0, delta="one"),
        of("reasoning_summary_part.added", output_index=0),
        of("reasoning_summary_text.delta", output_index=0, delta="two"),
        of("output_item.done", output_index=0, item=ITEM),
        of("output_text.delta", output_index=1, delta="so"),
        COMPLETED,
    )

    assert (seen.text("thinking"), seen.text(), seen.stop_reason) == ("one\n\ntwo", "so", "end_turn")
    assert unsigned(seen.blocks[0]["signature"]) == {"provider": "up", "item": ITEM}
    assert (seen.usage["input_tokens"], seen.usage["cache_read_input_tokens"]) == (6, 4)


def test_reasoning_that_nobody_may_read_is_redacted() -> None:
    seen = read(
        CREATED, of("output_item.done", output_index=0, item=ITEM), of("output_text.delta", delta="a"), COMPLETED
    )

    assert seen.kinds == ["redacted_thinking", "text"]


def test_parts_and_items_of_reasoning_are_kept_apart() -> None:
    def thought(item: int, part: int, words: str) -> dict[str, Any]:
        return of("reasoning_summary_text.delta", output_index=item, summary_index=part, delta=words)

    seen = read(
        CREATED,
        thought(0, 0, "o"),
        thought(0, 0, "ne"),
        thought(0, 1, "two"),
        of("output_item.done", output_index=0, item=ITEM),
        thought(1, 0, "three"),
        of("output_item.done", output_index=1, item={**ITEM, "id": "rs_2"}),
        COMPLETED,
    )

    assert [block["thinking"] for block in seen.blocks] == ["one\n\ntwo", "three"]
    assert [unsigned(block["signature"])["item"]["id"] for block in seen.blocks] == ["rs_1", "rs_2"]  # type: ignore[index]


ARGUMENTS = '{"a": 1}'
ADDED = of("output_item.added", output_index=0, item=CALL)
ENDED = of("output_item.done", output_index=0, item={**CALL, "arguments": ARGUMENTS})
CALLS: dict[str, list[dict[str, Any]]] = {
    "as deltas": [
        ADDED,
        of("function_call_arguments.delta", output_index=0, delta=ARGUMENTS[:4]),
        of("function_call_arguments.delta", output_index=0, delta=ARGUMENTS[4:]),
        of("function_call_arguments.done", output_index=0, arguments=ARGUMENTS),
        ENDED,
    ],
    "at the end only": [ADDED, of("function_call_arguments.done", output_index=0, arguments=ARGUMENTS), ENDED],
    "with the item only": [ADDED, ENDED],
    "with its end only": [ENDED],
    "with the response only": [of("completed", response={"output": [ENDED["item"]]})],
    "with reasoning in between": [
        ADDED,
        of("function_call_arguments.delta", output_index=0, delta=ARGUMENTS[:4]),
        of("output_item.done", output_index=1, item=ITEM),
        of("function_call_arguments.delta", output_index=0, delta=ARGUMENTS[4:]),
    ],
}


OTHER_ENDS: dict[str, dict[str, Any]] = {
    "the arguments": of("function_call_arguments.done", output_index=0, arguments='{"a": 2}'),
    "the item": of("output_item.done", output_index=0, item={**CALL, "arguments": '{"a": 2}'}),
}


@pytest.mark.parametrize("end", OTHER_ENDS.values(), ids=OTHER_ENDS)
def test_a_call_whose_end_says_something_else_is_a_failure(end: dict[str, Any]) -> None:
    deltas = [
        of("function_call_arguments.delta", output_index=0, delta=part) for part in (ARGUMENTS[:4], ARGUMENTS[4:])
    ]
    pieces = played(decoder(responses=True), sse(CREATED, ADDED, *deltas, end, COMPLETED))

    assert [piece.error.status for piece in pieces if piece.error] == [502]


ENDS: dict[str, tuple[list[Any], bool]] = {
    "done": ([of("done", response={"status": "completed"})], True),
    "[DONE] alone": (["[DONE]"], True),
    "[DONE] within an item": ([of("output_item.added", output_index=1, item=CALL), "[DONE]"], False),
    "nothing": ([], False),
}


@pytest.mark.parametrize(("events", "whole"), ENDS.values(), ids=ENDS)
def test_what_ends_a_response(events: list[Any], whole: bool) -> None:
    said = of("output_text.delta", output_index=0, delta="so")
    data = sse(CREATED, said) + b"".join(b"data: [DONE]\n\n" if event == "[DONE]" else sse(event) for event in events)
    pieces = played(decoder(responses=True), data)

    assert (b"message_stop" in b"".join(piece.data for piece in pieces)) is whole
    assert any(piece.error for piece in pieces) is not whole


@pytest.mark.parametrize("events", CALLS.values(), ids=CALLS)
def test_a_tool_call_streamed(events: list[dict[str, Any]]) -> None:
    seen = read(CREATED, *events, COMPLETED)

    assert seen.calls == [("Read", ARGUMENTS)]
    assert (seen.blocks[0]["id"], seen.stop_reason) == ("call_1", "tool_use")


def test_two_calls_interleaved_and_the_second_cut() -> None:
    events = [
        of("output_item.added", output_index=at, item={**CALL, "call_id": f"c{at}", "name": f"T{at}"}) for at in (0, 1)
    ]
    parts = [(0, '{"a"'), (1, '{"b"'), (0, ": 1}"), (1, ": ")]
    events += [of("function_call_arguments.delta", output_index=at, delta=part) for at, part in parts]
    response = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    seen = read(CREATED, *events, of("incomplete", response=response))

    assert seen.calls == [("T0", '{"a": 1}'), ("T1", '{"b": ')]
    assert (seen.open, seen.stop_reason) == (1, "max_tokens")


MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "so"}]}
TEXT_AT_ONCE: dict[str, list[dict[str, Any]]] = {
    "with its item": [of("output_item.done", output_index=0, item=MESSAGE), COMPLETED],
    "with the response": [of("completed", response={"output": [None, MESSAGE]})],
    "as deltas and with its item": [
        of("output_text.delta", output_index=0, delta="so"),
        of("output_item.done", output_index=0, item=MESSAGE),
        of("completed", response={"output": [MESSAGE]}),
    ],
}


@pytest.mark.parametrize("events", TEXT_AT_ONCE.values(), ids=TEXT_AT_ONCE)
def test_text_that_does_not_come_as_deltas(events: list[dict[str, Any]]) -> None:
    assert read(CREATED, *events).text() == "so"


def test_a_refusal() -> None:
    seen = read(CREATED, of("refusal.delta", output_index=0, delta="no"), COMPLETED)

    assert (seen.text(), seen.stop_reason) == ("no", "refusal")


@pytest.mark.parametrize(
    ("reason", "expected"), [("max_output_tokens", "max_tokens"), ("content_filter", "refusal")]
)  # fmt: skip
def test_incomplete(reason: str, expected: str) -> None:
    response = {"status": "incomplete", "incomplete_details": {"reason": reason}}

    assert read(CREATED, of("incomplete", response=response)).stop_reason == expected


FAILURES: dict[str, tuple[list[dict[str, Any]], int]] = {
    "failed": ([of("failed", response={"error": {"code": "rate_limit_exceeded", "message": "slow"}})], 429),
    "too long": ([of("failed", response={"error": {"code": "context_length_exceeded", "message": "x"}})], 400),
    "error": ([{"type": "error", "code": "server_error", "message": "x"}], 500),
    "failed without a word": ([of("output_text.delta", delta="half"), of("failed")], 500),
    "cancelled": ([of("output_text.delta", delta="half"), of("completed", response={"status": "cancelled"})], 500),
    "cut short": ([of("output_text.delta", delta="half")], 502),
    "nothing": ([], 502),
}


@pytest.mark.parametrize(("events", "status"), FAILURES.values(), ids=FAILURES)
def test_failures(events: list[dict[str, Any]], status: int) -> None:
    pieces = played(decoder(responses=True), sse(*events))

    assert [piece.error.status for piece in pieces if piece.error] == [status]


def test_a_whole_response() -> None:
    part = {"type": "output_text", "text": "so", "annotations": []}
    body = {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed", "tools": [],
        "parallel_tool_calls": True, "tool_choice": "auto", "usage": {**USAGE, "output_tokens_details": {"reasoning_tokens": 0}},
        "output": [
            {**ITEM, "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [part]},
            {**CALL, "arguments": ARGUMENTS, "status": "completed"},
        ],
    }  # fmt: skip
    Response.model_validate(body)
    seen = Message.model_validate_json(
        written(played(decoder(stream=False, responses=True), json.dumps(body).encode()))
    )

    assert [block.type for block in seen.content] == ["thinking", "text", "tool_use"]
    assert seen.stop_reason == "tool_use"


wild = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from(["", "x", "{}", "completed", "failed"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "text", "content", "summary", "reason"]), inner, max_size=3)
    ),
    max_leaves=5,
)
wild_items = wild | st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "reasoning", "function_call", "other"])},
    optional=dict.fromkeys(("id", "call_id", "name", "arguments", "content", "summary", "encrypted_content"), wild),
)
wild_events = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                "response." + kind
                for kind in (
                    "output_text.delta", "reasoning_text.delta", "reasoning_summary_part.added", "refusal.delta",
                    "output_item.added", "output_item.done", "function_call_arguments.delta",
                    "function_call_arguments.done", "other",
                )
            ]
        )
    },
    optional={"delta": wild, "arguments": wild, "item": wild_items, "output_index": wild, "summary_index": wild},
)  # fmt: skip


@given(st.lists(wild_events, max_size=8), st.lists(wild_items, max_size=3), wild, st.booleans())
def test_any_events_obey_the_grammar_or_are_an_error(
    events: list[dict[str, Any]], output: list[Any], rest: Any, stream: bool
) -> None:
    response = {"status": rest, "output": output, "incomplete_details": rest, "usage": rest}
    pieces = played(decoder(stream=stream, responses=True), sse(*events, of("completed", response=response)))
    data = b"".join(piece.data for piece in pieces)
    failed = any(piece.error for piece in pieces)

    if stream:
        grammar.read(data, whole=not failed)
    else:
        assert failed or all(isinstance(b.get("input", {}), dict) for b in json.loads(data)["content"])


def test_odd_members_of_a_whole_response() -> None:
    output = [
        None,
        5,
        {"type": "message", "content": "x"},
        {"type": "reasoning", "summary": "x", "content": [None]},
        MESSAGE,
    ]
    body = {"status": "completed", "output": output, "usage": [], "incomplete_details": ""}
    message = json.loads(written(played(decoder(stream=False, responses=True), json.dumps(body).encode())))

    assert message["content"] == [{"type": "text", "text": "so"}]


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"status": "failed", "output": []}', b'{"error": {"message": "no"}}', b"{"]
)
def test_a_whole_body_that_is_no_response(body: bytes) -> None:
    assert any(piece.error for piece in played(decoder(stream=False, responses=True), body))
