"""Where the system prompt stands, and what is added to it."""

from __future__ import annotations

from typing import Any

from balancer.dialects.openai.prompt import instructed, with_words

HI: dict[str, Any] = {"role": "user", "content": "hi"}
PARTS: list[dict[str, Any]] = [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}]


def test_a_role_of_its_own() -> None:
    assert instructed([HI], "S", "developer") == [{"role": "developer", "content": "S"}, HI]


def test_no_role_of_its_own() -> None:
    assert instructed([HI], "S", "user") == [{"role": "user", "content": "S\n\nhi"}]
    assert instructed([{"role": "assistant", "content": "x"}], "S", "user")[0] == {"role": "user", "content": "S"}


def test_words_are_added_to_parts() -> None:
    body = with_words({"messages": [{"role": "system", "content": PARTS}, HI]}, "more")

    assert body["messages"][0]["content"] == [*PARTS, {"type": "text", "text": "more"}]


def test_words_without_a_system_prompt() -> None:
    assert with_words({"messages": [HI]}, "more", "user")["messages"] == [{"role": "user", "content": "more\n\nhi"}]
    assert with_words({"input": []}, "more") == {"input": [], "instructions": "more"}
