"""The `openai` SDK's own types as the schema of what we send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses
from pydantic import ConfigDict, TypeAdapter

_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
_CHAT: TypeAdapter[Any] = TypeAdapter(chat.CompletionCreateParams, config=None)
_RESPONSES: TypeAdapter[Any] = TypeAdapter(responses.ResponseCreateParams, config=None)
_CHAT_KEYS = set(chat.CompletionCreateParamsNonStreaming.__annotations__) | set(
    chat.CompletionCreateParamsBase.__annotations__
)
_RESPONSES_KEYS = set(responses.ResponseCreateParamsNonStreaming.__annotations__) | set(
    responses.ResponseCreateParamsBase.__annotations__
)


def exhausted(value: Any) -> Any:
    """Validate what pydantic leaves lazy, by going through it."""
    if isinstance(value, str | bytes):
        return value
    if isinstance(value, Mapping):
        return {key: exhausted(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [exhausted(item) for item in value]
    return value


def check_chat(body: dict[str, Any], extra: frozenset[str] = frozenset()) -> None:
    """Raise if `body` is no Chat Completions request. `extra`: fields of servers other than OpenAI."""
    assert set(body) - extra <= _CHAT_KEYS
    seen = exhausted(_CHAT.validate_python({key: value for key, value in body.items() if key not in extra}))
    assert len(seen["messages"]) == len(body["messages"]) > 0
    check_adjacency(body["messages"])


def check_responses(body: dict[str, Any]) -> None:
    """Raise if `body` is no Responses request."""
    assert set(body) <= _RESPONSES_KEYS
    exhausted(_RESPONSES.validate_python(body))


def check_adjacency(messages: list[dict[str, Any]]) -> None:
    """Every tool call is answered at once and once; nothing else is."""
    due: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in due, "a tool message that answers nothing"
            due.remove(message["tool_call_id"])
            continue
        assert not due, "calls without a result"
        due = [call["id"] for call in message.get("tool_calls", ())]
        assert len(set(due)) == len(due)
        assert message["content"] or due, "an empty message"
    assert not due
