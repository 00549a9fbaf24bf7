"""Answers as they are written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message

from balancer.dialects.openai.writer import Ending, MessageWriter, Shell, arguments
from balancer.model import Usage

ARGUMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "an object": ('{"a": 1}', {"a": 1}),
    "nothing": ("", {}),
    "null": ("null", {}),
    "garbage": ("{a", {"__unparsedToolInput": {"raw": "{a", "len": 2}}),
    "a list": ("[1]", {"__unparsedToolInput": {"raw": "[1]", "len": 3}}),
    "a string": ('"x"', {"__unparsedToolInput": {"raw": '"x"', "len": 3}}),
}


@pytest.mark.parametrize(("written", "expected"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_are_always_an_object(written: str, expected: dict[str, Any]) -> None:
    assert arguments(written) == expected


def test_a_message_is_one_of_the_sdk() -> None:
    writer = MessageWriter(Shell("claude", "n", 3))
    writer.start()
    writer.open({"type": "thinking", "thinking": "", "signature": ""})
    writer.add("thinking_delta", "thinking", "hm")
    writer.add("signature_delta", "signature", "s")
    writer.close()
    writer.open({"type": "tool_use", "id": "t", "name": "n", "input": {}})
    writer.add("input_json_delta", "partial_json", '{"a":1}')
    writer.close()
    writer.finish(Ending("refusal", None, Usage(3, 4), 2))
    message = Message.model_validate_json(writer.taken()[0])

    assert [block.type for block in message.content] == ["thinking", "tool_use"]
    assert json.loads(writer.taken()[0])["content"][1]["input"] == {"a": 1}
    assert message.stop_reason == "refusal"
    assert message.usage.output_tokens == 4


def test_ids_are_the_attempts_own() -> None:
    assert (
        Shell("m", "a", 1).message()["id"] == Shell("m", "a", 2).message()["id"] != Shell("m", "b", 1).message()["id"]
    )
