"""Whole completions; chunks are in test_composing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message
from conversion import decoder, played, written
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
    assert message({"content": ""}).content == []


def test_mistrals_parts() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}]

    assert [block.type for block in message({"content": parts}).content] == ["thinking", "text"]


def test_a_call_without_an_id_gets_one() -> None:
    body = {"choices": [{"message": {"tool_calls": [call({"a": 1}, identifier=None)]}, "finish_reason": "stop"}]}
    (use,) = json.loads(written(played(decoder(stream=False), json.dumps(body).encode())))["content"]

    assert use["id"].startswith("toolu_")
    assert use["input"] == {"a": 1}
