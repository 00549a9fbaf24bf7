"""Whole completions; chunks are in test_composing."""

from __future__ import annotations

import json
from typing import Any

import grammar
import pytest
from anthropic.types import Message
from conversion import DONE, chunk, decoder, fragment, played, sse, written
from openai.types.chat import ChatCompletion


def message(said: dict[str, Any], finish: str = "stop", **more: Any) -> Message:
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", **more}
    body["choices"] = [
        {"index": 0, "message": {"role": "assistant", "content": None, **said}, "finish_reason": finish},
        {"index": 1, "message": {"role": "assistant", "content": "another choice"}, "finish_reason": "stop"},
    ]
    if isinstance(said.get("content"), str | None) and not said.get("free"):
        ChatCompletion.model_validate(body)
    return Message.model_validate_json(written(played(decoder(stream=False), json.dumps(body).encode())))


def call(arguments: Any = "{}", name: str = "Read", identifier: str | None = "c1") -> dict[str, Any]:
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_thinking_then_text_then_tools() -> None:
    seen = message({"content": "a", "reasoning_content": "hm", "tool_calls": [call('{"a": 1}')]}, "stop")

    assert [block.type for block in seen.content] == ["thinking", "text", "tool_use"]
    assert seen.stop_reason == "tool_use"


REASONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "the end": ({"content": "a"}, "stop", "end_turn"),
    "the limit": ({"content": "a"}, "length", "max_tokens"),
    "the limit with a call": ({"tool_calls": [call()]}, "length", "max_tokens"),
    "filtered": ({"content": "a"}, "content_filter", "refusal"),
    "refused": ({"refusal": "no"}, "stop", "refusal"),
    "a phantom": ({"content": "a"}, "tool_calls", "end_turn"),
    "a call": ({"tool_calls": [call()]}, "tool_calls", "tool_use"),
}


@pytest.mark.parametrize(("said", "finish", "reason"), REASONS.values(), ids=REASONS)
def test_stop_reason(said: dict[str, Any], finish: str, reason: str) -> None:
    assert message(said, finish).stop_reason == reason


def test_the_stop_sequence_where_the_server_names_it() -> None:
    body = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop", "stop_reason": "END"}]}
    seen = json.loads(written(played(decoder(stream=False), json.dumps(body).encode())))

    assert (seen["stop_reason"], seen["stop_sequence"]) == ("stop_sequence", "END")


def test_nothing_is_no_block() -> None:
    assert message({"content": ""}, "length").content == []


def test_mistrals_parts() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}]

    assert [block.type for block in message({"content": parts}).content] == ["thinking", "text"]


def test_a_call_without_an_id_gets_one() -> None:
    body = {"choices": [{"message": {"tool_calls": [call({"a": 1}, identifier=None)]}, "finish_reason": "stop"}]}
    (use,) = json.loads(written(played(decoder(stream=False), json.dumps(body).encode())))["content"]

    assert use["id"].startswith("toolu_")
    assert use["input"] == {"a": 1}


def whole(body: dict[str, Any]) -> dict[str, Any]:
    return json.loads(written(played(decoder(stream=False), json.dumps(body).encode())))  # type: ignore[no-any-return]


def test_the_first_choice_is_the_answer_whatever_its_index() -> None:
    choices = [{"index": 1, "message": {"content": "a"}}, {"index": 0, "message": {"content": "b"}}]

    assert whole({"choices": choices})["content"] == [{"type": "text", "text": "a"}]
    assert whole({"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]})["content"] == [
        {"type": "text", "text": "a"}
    ]


ARGUMENTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "big numbers": ('{"n": 123456789012345678901234567890}', {"n": 123456789012345678901234567890}),
    "big numbers of an object": ({"n": 123456789012345678901234567890}, {"n": 123456789012345678901234567890}),
    "a lone surrogate": ('{"s": "\\ud83d\\ude00\\ud800"}', {"s": "\U0001f600\ufffd"}),
    "a list": ([1], {"__unparsedToolInput": {"raw": "[1]", "len": 3}}),
}


@pytest.mark.parametrize(("given", "expected"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments(given: Any, expected: dict[str, Any]) -> None:
    (use,) = whole({"choices": [{"message": {"tool_calls": [call(given)]}, "finish_reason": "stop"}]})["content"]

    assert use["input"] == expected


def test_usage_that_is_missing_is_estimated() -> None:
    usage = whole({"choices": [{"message": {"content": "a" * 40}}], "usage": None})["usage"]

    assert (usage["input_tokens"], usage["output_tokens"]) == (9, 10)


@pytest.mark.parametrize("stream", [True, False])
def test_think_tags_where_the_profile_says_so(stream: bool) -> None:
    events = [
        chunk(content="<thi"),
        chunk(content="nk>hm</think>so <"),
        fragment(id="c", name="R"),
        chunk("stop"),
        DONE,
    ]
    on, off = decoder(stream=stream, think_tags=True), decoder(stream=stream)
    seen = [written(played(to, sse(*events))) for to in (on, off)]

    if stream:
        first, second = map(grammar.read, seen)
        assert (first.text("thinking"), first.text(), first.kinds) == ("hm", "so <", ["thinking", "text", "tool_use"])
        assert second.text() == "<think>hm</think>so <"
    else:
        blocks = json.loads(seen[0])["content"]
        assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use"]
        assert json.loads(seen[1])["content"][0]["text"] == "<think>hm</think>so <"
