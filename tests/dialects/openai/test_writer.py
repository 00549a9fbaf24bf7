"""Answers as they are written."""

from __future__ import annotations

import json

from anthropic.types import Message

from balancer.dialects.openai.writer import Ending, MessageWriter, Shell
from balancer.model import Usage


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
