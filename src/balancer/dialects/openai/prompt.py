"""The system prompt of a converted request: where it stands, and what is added to it."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from balancer.dialects.openai.profiles import SystemRole

Said: TypeAlias = str | list[dict[str, Any]]
"""What a message holds: text, or parts."""


def schema_hint(schema: dict[str, Any]) -> str:
    """Return what tells a model of a schema that its server does not know."""
    return f"Answer with one JSON object that satisfies this schema:\n{msgspec.json.encode(schema).decode()}"


def demand(choice: Any) -> str:
    """Return what tells a model that it must call a tool, where its server can't be told so."""
    if not isinstance(choice, dict):
        return "You must call one of the tools now."
    return f"You must call the tool {choice.get('function', choice)['name']} now."


def instructed(messages: list[dict[str, Any]], system: Said, role: SystemRole) -> list[dict[str, Any]]:
    """Return the conversation behind a system prompt; for servers that know no such role it begins the user's turn."""
    if role != "user":
        return [{"role": role, "content": system}, *messages]
    if messages[0]["role"] != "user":
        return [{"role": "user", "content": system}, *messages]
    return [{**messages[0], "content": _joined(system, messages[0]["content"])}, *messages[1:]]


def with_words(body: dict[str, Any], words: str, role: SystemRole = "system") -> dict[str, Any]:
    """Return a request, of either API, with `words` at the end of its system prompt."""
    if "input" in body:
        return {**body, "instructions": "\n\n".join(filter(None, [body.get("instructions"), words]))}
    first, *rest = body["messages"]
    if first["role"] not in ("system", "developer"):
        return {**body, "messages": instructed(body["messages"], words, role)}
    return {**body, "messages": [{**first, "content": _joined(first["content"], words)}, *rest]}


def _joined(first: Said, second: Said) -> Said:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*_parts(first), *_parts(second)]


def _parts(said: Said) -> list[dict[str, Any]]:
    return [{"type": "text", "text": said}] if isinstance(said, str) else said
