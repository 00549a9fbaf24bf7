"""Ways of writing: which request a refusal is about."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.dialects.openai import ways
from balancer.dialects.openai.profiles import PROFILES

HI: dict[str, Any] = {"role": "user", "content": "hi"}
PLAIN: dict[str, Any] = {"model": "m", "stream": True, "messages": [HI]}

OTHERS = (
    "stream must be set to true",
    "tool call id was x but must have a length of 9",
    "unexpected role 'user' after role 'tool'",
    "the last message must be from the user",
    "reasoning_content is missing",
    "reasoning_content is not supported",
    "the encrypted content could not be verified",
    "invalid signature in thinking block",
    "system message must be at the beginning",
    "content must not be null",
    "cache_control is not permitted",
    "invalid function name",
    "stop: at most 4 sequences",
    "unknown name 'exclusiveminimum': cannot find field",
)


@pytest.mark.parametrize("text", OTHERS)
def test_a_refusal_that_is_not_about_this_request_teaches_nothing(text: str) -> None:
    assert ways.find(text, PLAIN, PROFILES["compat"], "chat", template_only=False) is None


@pytest.mark.parametrize("text", OTHERS)
def test_nor_one_about_a_request_of_the_other_api(text: str) -> None:
    body = {"model": "m", "stream": True, "input": [{"type": "message", "role": "user", "content": "hi"}]}

    assert ways.find(text, body, PROFILES["compat"], "responses", template_only=False) is None


def test_marks_for_the_cache() -> None:
    marked = {**HI, "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}
    said = "messages.0.content.0.cache_control: extra inputs are not permitted"

    found = ways.find(said, {"messages": [marked]}, PROFILES["openrouter"], "chat", template_only=False)

    assert found == "config:cache_marks=none"


def test_the_role_of_developers() -> None:
    can = PROFILES["openai"].__class__(system_role="developer")
    body = {"messages": [{"role": "developer", "content": "x"}, HI]}

    found = ways.find("developer is not one of ['system', 'user']", body, can, "chat", template_only=False)

    assert found == "config:system_role=system"
