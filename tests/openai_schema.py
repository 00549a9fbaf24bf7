"""The `openai` SDK's own types as the schema of what we send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses
from pydantic import TypeAdapter

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
    """Raise if `body` is no Chat Completions request. `extra`: fields of servers other than OpenAI.

    Pydantic leaves out of a TypedDict what it does not know: what differs afterwards was nobody's field.
    """
    assert set(body) - extra <= _CHAT_KEYS
    plain = {key: value for key, value in body.items() if key not in extra}
    plain["messages"] = [_without(message, extra) for message in body["messages"]]
    assert exhausted(_CHAT.validate_python(plain)) == plain
    assert plain["messages"]
    check_adjacency(body["messages"])


def _without(message: dict[str, Any], extra: frozenset[str]) -> dict[str, Any]:
    plain = {key: value for key, value in message.items() if key not in extra}
    if "tool_calls" in plain:
        plain["tool_calls"] = [_without(call, extra) for call in plain["tool_calls"]]
    return plain


def check_responses(body: dict[str, Any]) -> None:
    """Raise if `body` is no Responses request."""
    assert set(body) <= _RESPONSES_KEYS
    assert exhausted(_RESPONSES.validate_python(body)) == body
    check_calls(body["input"])


def check_calls(items: list[dict[str, Any]]) -> None:
    """Every call has one output, behind it."""
    due: list[str] = []
    for item in items:
        if item["type"] == "function_call":
            due.append(item["call_id"])
        elif item["type"] == "function_call_output":
            due.remove(item["call_id"])
    assert not due


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
    roles = [message["role"] for message in messages]
    assert ("user", "user") not in pairwise(roles), "turns that were not merged"
