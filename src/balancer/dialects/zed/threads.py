"""Whose thread a request belongs to, which prompt it is part of, and what it is for.

Zed's service keeps no thread: ids are for its books, every request carries the whole history. So
ids are derived, not drawn: every process and every machine comes to the same.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

from balancer import claude_code
from balancer.headers import header
from balancer.model import Request
from balancer.wire.loose import object_of, string_of

_NAMESPACE = uuid.UUID("6d1c2f0a-54d5-5d51-9f0e-2e5d6a1f7c11")
_CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
SMALL_ANSWER_TOKENS = 512
"""Without tools and with no more to say than this, a request to a small model is a title or a probe."""


def digest(*parts: Any) -> str:
    """Return a short hash of values that JSON can tell apart."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def user_text(message: dict[str, Any]) -> str:
    """Return what the user typed in a message, without what the client put around it."""
    if message.get("role") != "user":
        return ""
    texts = [block.get("text", "") for block in message["content"] if block.get("type") == "text"]
    return claude_code.without_reminders("\n".join(texts)).strip()


def session_of(request: Request, body: dict[str, Any]) -> str:
    """Return what names the conversation: header, metadata, or a hash of how it began."""
    if named := header(request.headers, claude_code.SESSION_HEADER):
        return named.decode(errors="replace")
    if session := claude_code.session_of(string_of(object_of(body.get("metadata")).get("user_id"))):
        return session
    asking = [value.decode(errors="replace") for name, value in request.headers if name in _CREDENTIALS]
    return digest(asking, _system_text(body), _first_text(body))


def task_of(request: Request, body: dict[str, Any]) -> str:
    """Return what names the task within a conversation: subagents and titles are their own."""
    if named := header(request.headers, claude_code.AGENT_HEADER):
        return named.decode(errors="replace")
    return digest(_first_text(body), _system_text(body))


def _system_text(body: dict[str, Any]) -> str:
    """Return the first block of the system prompt that is not Claude Code's billing header, which changes."""
    texts = (claude_code.without_billing(block.get("text", "")) for block in body.get("system") or ())
    return next((text for text in texts if text.strip()), "")


def _first_text(body: dict[str, Any]) -> str:
    return next((text for message in body["messages"] if (text := user_text(message))), "")


def thread_id(key: str, generation: int) -> str:
    """Return a thread's id: the same in every process and on every machine."""
    return str(uuid.uuid5(_NAMESPACE, f"{key}|{generation}"))


def prompt_start(messages: list[dict[str, Any]]) -> int:
    """Return the index of the last message that the user typed something in; -1: none."""
    return next((at for at in range(len(messages) - 1, -1, -1) if user_text(messages[at])), -1)


def prompt_id(thread: str, messages: list[dict[str, Any]], burst: int = 0) -> str:
    """Return the prompt's id: kept through tool rounds and retries, new with what the user types."""
    at = prompt_start(messages)
    text = user_text(messages[at]) if at >= 0 else ""
    return str(uuid.uuid5(uuid.UUID(thread), f"{at}|{digest(text)}|{burst}"))


def intent(body: dict[str, Any], *, small: bool) -> str:
    """Return what the request is for, in Zed's words; `small`: it is for a model that titles are made with."""
    messages = body["messages"]
    last = user_text(messages[-1]) if messages else ""
    if claude_code.is_compaction(last):
        return "thread_context_summarization"
    limit = body.get("max_tokens")
    tiny = isinstance(limit, int) and limit <= SMALL_ANSWER_TOKENS
    if small and tiny and not body.get("tools") and len(messages) == 1:
        return "thread_summarization"
    return "user_prompt" if last or not messages else "tool_results"


def is_side(purpose: str) -> bool:
    """Say whether such a request goes without ids, as Zed's own do."""
    return purpose in ("thread_summarization", "thread_context_summarization")


def tool_calls(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tool calls of the current prompt."""
    start = max(0, prompt_start(messages))
    return [b for message in messages[start:] for b in message["content"] if b.get("type") == "tool_use"]
