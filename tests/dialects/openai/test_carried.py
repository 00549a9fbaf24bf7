"""What a provider gave with an answer goes back to it as it came, and to nobody else."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import grammar
import pytest
from conversion import DONE, decoder, messages_request, played, result, sse, text, use, user, written

from balancer.dialects.openai import carried, request, responses
from balancer.dialects.openai.profiles import PROFILES, Profile
from balancer.dialects.openai.turns import UNKNOWN_THOUGHT

SIGNED: dict[str, Any] = {"extra_content": {"google": {"thought_signature": "SIG=="}}}


def call(identifier: str = "c1", arguments: str = '{"a":1}', **more: Any) -> dict[str, Any]:
    function: dict[str, Any] = {"name": "Read", "arguments": arguments}
    made: dict[str, Any] = {"index": 0, "id": identifier, "type": "function", "function": function}
    return made | more


def answered(*deltas: dict[str, Any], stream: bool = True) -> list[dict[str, Any]]:
    """Return the blocks of an answer that came in these deltas."""
    events: list[Any] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    data = written(played(decoder(stream=stream), sse(*events, DONE)))
    return grammar.read(data).blocks if stream else json.loads(data)["content"]


def answered_whole(message: dict[str, Any]) -> list[dict[str, Any]]:
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return json.loads(written(played(decoder(stream=False), json.dumps(body).encode())))["content"]  # type: ignore[no-any-return]


def next_request(
    blocks: list[dict[str, Any]],
    profile: Profile = "compat",
    provider: str = "up",
    model: str = "m",
    *,
    items: bool = False,
) -> Any:
    """Return the assistant's message of the next request; with `items` the whole input."""
    blocks = [
        {**block, "input": json.loads(block["input"])} if isinstance(block.get("input"), str) else block
        for block in blocks
    ]
    results = [result(block["id"]) for block in blocks if block["type"] == "tool_use"]
    asked = messages_request("go", {"role": "assistant", "content": blocks}, user(*(results or [text("and?")])))
    body = request.chat(json.dumps(asked).encode(), model, PROFILES[profile], provider, items=items).body
    if items:
        return responses.from_chat(body)["input"]
    (message,) = [one for one in body["messages"] if one["role"] == "assistant"]
    return message


FIELDS: dict[str, dict[str, Any]] = {
    "Gemini's signature of a call": {"tool_calls": [call(**SIGNED)]},
    "signatures of two calls": {
        "tool_calls": [call(**SIGNED), {**call("c2", extra_content={"google": {"thought_signature": "S2"}}), "index": 1}]
    },
    "Gemini's signature of a text": {"content": "so", **SIGNED},
    "LiteLLM's fields of a call": {"tool_calls": [call(provider_specific_fields={"thought_signature": "S"})]},
    "a field of the function": {
        "tool_calls": [{**call(), "function": {"name": "Read", "arguments": "{}", "thought_signature": "S"}}]
    },
    "LiteLLM's blocks": {
        "content": "so", "reasoning_content": "hm",
        "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "S"}],
    },
    "Copilot's reasoning": {"reasoning_text": "hm", "reasoning_opaque": "A", "content": "so"},
    "OpenRouter's details": {
        "reasoning": "hm", "content": "so",
        "reasoning_details": [
            {"type": "reasoning.text", "text": "hm", "signature": "S", "format": "anthropic-claude-v1", "index": 0},
            {"type": "reasoning.encrypted", "data": "D", "id": "rs", "index": 1},
        ],
    },
    "an encrypted field of any name": {"content": "so", "encrypted_reasoning": "E"},
}  # fmt: skip
LOST = frozenset({"reasoning_content", "reasoning"})
"""They go back only where the profile says so."""


def without_index(value: Any) -> Any:
    return [{k: v for k, v in one.items() if k != "index"} for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("said", FIELDS.values(), ids=FIELDS)
def test_every_field_goes_back_as_it_came_or_is_one_of_those_that_are_dropped(
    said: dict[str, Any], stream: bool
) -> None:
    streamed, at_once = next_request(answered(said, stream=stream)), next_request(answered_whole(said))

    assert streamed == at_once
    for key, value in said.items():
        if key not in LOST:
            assert (
                without_index(streamed[key]) == without_index(value) if key == "tool_calls" else streamed[key] == value
            )
    assert not LOST & set(streamed)


@pytest.mark.parametrize("said", FIELDS.values(), ids=FIELDS)
def test_nobody_else_gets_it(said: dict[str, Any]) -> None:
    message = next_request(answered(said), provider="another")

    assert set(message) <= {"role", "content", "tool_calls"}
    assert all(set(one) == {"id", "type", "function"} for one in message.get("tool_calls", ()))


FRAGMENTS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "a signature behind the call": (
        [{"tool_calls": [call(arguments="")]}, {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]},
         {"tool_calls": [{"index": 0, **SIGNED}]}],
        {"tool_calls": [call(**SIGNED)]},
    ),
    "details in fragments": (
        [
            {"reasoning": "h", "reasoning_details": [{"type": "reasoning.text", "text": "h", "index": 0, "format": "f"}]},
            {"reasoning": "m", "reasoning_details": [{"type": "reasoning.text", "text": "m", "index": 0, "format": "f"}]},
            {"reasoning_details": [{"type": "reasoning.text", "signature": "S", "index": 0, "format": "f"}]},
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "D", "index": 1}]},
            {"content": "so"},
        ],
        {
            "reasoning": "hm", "content": "so",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "hm", "signature": "S", "index": 0, "format": "f"},
                {"type": "reasoning.encrypted", "data": "D", "index": 1},
            ],
        },
    ),
    "details without an index": (
        [
            {"reasoning_details": [{"type": "reasoning.summary", "summary": "a"}]},
            {"reasoning_details": [{"type": "reasoning.summary", "summary": "b"}]},
            {"content": "so"},
        ],
        {"content": "so", "reasoning_details": [{"type": "reasoning.summary", "summary": "ab"}]},
    ),
    "blocks in fragments": (
        [
            {"thinking_blocks": [{"type": "thinking", "thinking": "h", "signature": None}]},
            {"thinking_blocks": [{"type": "thinking", "thinking": "m", "signature": None}]},
            {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "S"}]},
            {"content": "so"},
        ],
        {"content": "so", "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "S"}]},
    ),
    "a name of its own for reasoning": (
        [{"reasoning_text": "h"}, {"reasoning_text": "m"}, {"reasoning_opaque": "A"}, {"content": "so"}],
        {"reasoning_text": "hm", "reasoning_opaque": "A", "content": "so"},
    ),
    "state behind the text": (
        [{"content": "so"}, {"content": "", **SIGNED}],
        {"content": "so", **SIGNED},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("deltas", "at_once"), FRAGMENTS.values(), ids=FRAGMENTS)
def test_a_stream_and_the_same_in_one_piece_are_given_back_alike(
    deltas: list[dict[str, Any]], at_once: dict[str, Any]
) -> None:
    assert next_request(answered(*deltas)) == next_request(answered_whole(at_once))


def test_what_a_call_needs_stands_in_front_of_it() -> None:
    assert [block["type"] for block in answered({"content": "so"}, {"tool_calls": [call(**SIGNED)]})] == [
        "text", "redacted_thinking", "tool_use",
    ]  # fmt: skip
    assert [block["type"] for block in answered({"reasoning": "hm"}, {"tool_calls": [call(**SIGNED)]})] == [
        "thinking", "tool_use",
    ]  # fmt: skip


def test_what_comes_behind_a_last_text_is_remembered_where_nothing_may_stand_there() -> None:
    memory = carried.Memory()
    deltas = [{"content": "All "}, {"content": "done."}, {"content": "", **SIGNED}]
    events: list[Any] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    to = decoder(keep=partial(memory.keep, "a conversation"))
    blocks = grammar.read(written(played(to, sse(*events, DONE)))).blocks
    asked = json.dumps(messages_request("go", {"role": "assistant", "content": blocks}, "and?")).encode()

    def given_back(conversation: str | None, provider: str = "up") -> Any:
        body = request.chat(asked, "m", PROFILES["compat"], provider, recall=memory.of(conversation)).body
        return body["messages"][1].get("extra_content")

    assert [block["type"] for block in blocks] == ["text"]
    assert given_back("a conversation") == SIGNED["extra_content"]
    assert (given_back("another"), given_back(None), given_back("a conversation", "else")) == (None, None, None)


def test_only_so_many_answers_are_remembered() -> None:
    memory = carried.Memory()
    for at in range(carried.REMEMBERED + 1):
        memory.keep("c", f"text {at}", "data")
    memory.keep("c", "long", "x" * (carried.REMEMBERED_MAX_CHARS + 1))
    recall = memory.of("c")

    assert recall is not None
    assert [recall(text) for text in ("text 0", "text 1", " text 1\n", "long")] == [None, "data", "data", None]


DUMMY = {"google": {"thought_signature": carried.DUMMY_SIGNATURE}}
MODELS = {
    "gemini-3-pro-preview": DUMMY,
    "gemini-2.5-pro": None,
    "models/gemini-2.0-flash": None,
    "gemini-flash-latest": DUMMY,
}


@pytest.mark.parametrize(("model", "extra"), MODELS.items())
def test_a_foreign_call_gets_the_dummy_that_google_takes(model: str, extra: Any) -> None:
    message = next_request([use("t1"), use("t2")], "gemini", model=model)

    assert [one.get("extra_content") for one in message["tool_calls"]] == [extra, None]


def test_a_signature_is_not_replaced_by_the_dummy() -> None:
    message = next_request(answered({"tool_calls": [call(**SIGNED)]}), "gemini", model="gemini-3-pro")

    assert message["tool_calls"][0]["extra_content"] == SIGNED["extra_content"]


@pytest.mark.parametrize("blocks", [[text("b")], [text("b"), use("t1")], [use("t1")]], ids=["text", "both", "call"])
def test_deepseek_gets_reasoning_on_every_turn(blocks: list[dict[str, Any]]) -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "of somebody else"}

    assert next_request([thinking, *blocks], "deepseek")["reasoning_content"] == "hm"
    assert next_request(blocks, "deepseek")["reasoning_content"] == UNKNOWN_THOUGHT


# The Responses API

REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "hm"}],
    "encrypted_content": "E1",
}
COMMENTARY = {
    "type": "message",
    "id": "m1",
    "role": "assistant",
    "phase": "commentary",
    "content": [{"type": "output_text", "text": "I look"}],
}
FINAL = {**COMMENTARY, "id": "m2", "phase": "final_answer", "content": [{"type": "output_text", "text": "Done"}]}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "ca",
    "name": "Read",
    "arguments": '{"a":1}',
    "status": "completed",
}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}
OUTPUTS: dict[str, list[dict[str, Any]]] = {
    "reasoning, text, a call": [REASONING, COMMENTARY, CALL],
    "reasoning between the calls": [REASONING, CALL, {**REASONING, "id": "rs_2", "encrypted_content": "E2"}, {**CALL, "call_id": "cb"}],
    "a commentary and the answer": [COMMENTARY, FINAL],
    "text behind a call": [CALL, FINAL],
    "another tool's item": [REASONING, SEARCH, FINAL],
    "reasoning that nobody may read": [{**REASONING, "summary": []}, COMMENTARY, CALL],
    "reasoning in plain text": [{"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}, FINAL],
    "a field of a call": [{**CALL, "thought_signature": "S"}],
}  # fmt: skip


def events_of(output: list[dict[str, Any]], *, deltas: bool) -> bytes:
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {}}]
    for index, item in enumerate(output):
        begun: dict[str, Any] = {
            **item,
            **({"content": []} if item["type"] == "message" else {"arguments": ""} if "arguments" in item else {}),
        }
        events.append({"type": "response.output_item.added", "output_index": index, "item": begun})
        if deltas and item["type"] == "message":
            (part,) = item["content"]
            events.append({"type": "response.output_text.delta", "output_index": index, "delta": part["text"]})
        if deltas and "arguments" in item:
            events.append(
                {"type": "response.function_call_arguments.delta", "output_index": index, "delta": item["arguments"]}
            )
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    return sse(*events, {"type": "response.completed", "response": {"status": "completed", "output": output}})


def expected(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item as it is to go back."""
    if item["type"] == "message":
        words = item["content"][0]["text"]
        return {"type": "message", "role": "assistant", "content": words, "phase": item["phase"]}
    if item["type"] == "function_call":
        return {key: value for key, value in item.items() if key not in ("id", "status")}
    return item


@pytest.mark.parametrize("deltas", [True, False])
@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
def test_items_go_back_whole_and_in_their_order(output: list[dict[str, Any]], deltas: bool) -> None:
    streamed = grammar.read(written(played(decoder(responses=True), events_of(output, deltas=deltas)))).blocks
    body = json.dumps({"status": "completed", "output": output}).encode()
    at_once = json.loads(written(played(decoder(stream=False, responses=True), body)))["content"]
    first = next_request(streamed, items=True)
    turn = [item for item in first if item["type"] != "function_call_output" and item.get("role") != "user"]

    assert first == next_request(at_once, items=True)
    assert turn == [expected(item) for item in output]
    others = json.dumps(next_request(streamed, provider="another", items=True))
    assert not [word for word in ("rs_1", "E1", "ws_1", "thought_signature", "phase") if word in others]


RULE: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "a text": ([text("a")], ["final_answer"]),
    "a text before a call": ([text("a"), use("t")], ["commentary"]),
    "a call before a text": ([use("t"), text("a")], ["commentary"]),
}


@pytest.mark.parametrize(("blocks", "phases"), RULE.values(), ids=RULE)
def test_texts_of_others_get_a_phase_by_rule(blocks: list[dict[str, Any]], phases: list[str]) -> None:
    def found(profile: Profile) -> list[Any]:
        items = next_request(blocks, profile, items=True)
        return [item.get("phase") for item in items if item.get("role") == "assistant"]

    assert found("openai_reasoning") == phases
    assert found("compat") == [None for _ in phases]
