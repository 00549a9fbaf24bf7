"""Whose thread a request belongs to, which prompt it is part of, and where a long thread is cut.

Zed's service keeps no thread: ids are for its books, every request carries the whole history. So
ids are derived, not drawn, and a thread is shortened by shortening what is sent.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from balancer.model import Request, header

_NAMESPACE = uuid.UUID("6d1c2f0a-54d5-5d51-9f0e-2e5d6a1f7c11")
_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_SESSION = re.compile(r"_session_([0-9a-fA-F-]{36})$")
_COMPACTION = "create a detailed summary of the conversation"
SMALL_ANSWER_TOKENS = 512
"""Without tools and with no more to say than this, a request is a title or a probe."""

MARK = "[Summary of the earlier part of this conversation, made automatically]\n"
TRUNCATED = "[The earlier part of this conversation ({messages} messages) was left out]"


@dataclass(slots=True)
class Thread:
    """What is remembered of a thread."""

    generation: int = 0
    last_seen: float = 0.0
    cut: int = 0
    """So many messages of the client's history are replaced by `summary`."""
    prefix: str = ""
    """Digest of those messages."""
    summary: str = ""
    burst: int = 0
    """How often the service's limit of tool calls was reached in the prompt `burst_of`."""
    mode_of: str = ""
    mode: str = "normal"
    rotations: int = 0


def digest(*parts: Any) -> str:
    """Return a short hash of values that JSON can tell apart."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def user_text(message: dict[str, Any]) -> str:
    """Return what the user typed in a message, without what the client put around it."""
    if message.get("role") != "user":
        return ""
    texts = [block.get("text", "") for block in message["content"] if block.get("type") == "text"]
    return _REMINDER.sub("", "\n".join(texts)).strip()


def session_of(request: Request, body: dict[str, Any]) -> str:
    """Return what names the conversation: header, metadata, or a hash of how it began."""
    if named := header(request.headers, b"x-claude-code-session-id"):
        return named.decode(errors="replace")
    metadata = body.get("metadata")
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else None
    if isinstance(user_id, str):
        try:
            parsed = json.loads(user_id)
        except ValueError:
            parsed = None
        if isinstance(parsed, dict) and isinstance(parsed.get("session_id"), str):
            return str(parsed["session_id"])
        if match := _SESSION.search(user_id):
            return match[1]
    return digest(request.client, _first_text(body))


def task_of(request: Request, body: dict[str, Any]) -> str:
    """Return what names the task within a conversation: subagents and titles are their own."""
    if named := header(request.headers, b"x-claude-code-agent-id"):
        return named.decode(errors="replace")
    system = body.get("system") or [{}]
    return digest(_first_text(body), system[0].get("text", ""))


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


def intent(body: dict[str, Any]) -> str:
    """Return what the request is for, in Zed's words."""
    messages = body["messages"]
    last = user_text(messages[-1]) if messages else ""
    if _COMPACTION in last.lower():
        return "thread_context_summarization"
    if not body.get("tools") and body.get("max_tokens", 0) <= SMALL_ANSWER_TOKENS and len(messages) == 1:
        return "thread_summarization"
    return "user_prompt" if last or not messages else "tool_results"


def is_side(purpose: str) -> bool:
    """Say whether such a request goes without ids, as Zed's own do."""
    return purpose in ("thread_summarization", "thread_context_summarization")


def tool_calls(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tool calls of the current prompt."""
    start = max(0, prompt_start(messages))
    return [b for message in messages[start:] for b in message["content"] if b.get("type") == "tool_use"]


def boundaries(messages: list[dict[str, Any]]) -> list[int]:
    """Return where a history may be cut: at a user's words, never between a call and its result."""
    return [
        at
        for at, message in enumerate(messages)
        if at and user_text(message) and not any(b.get("type") == "tool_result" for b in message["content"])
    ]


def weight(value: Any) -> int:
    """Estimate the tokens of a part of a request; an image counts the same whatever its size."""
    if isinstance(value, dict):
        if value.get("type") == "image":
            return 1600
        return sum(map(weight, value.values())) + len(value)
    if isinstance(value, list):
        return sum(map(weight, value))
    return len(value.encode()) // 4 + 1 if isinstance(value, str) else 1


def cut_for(messages: list[dict[str, Any]], keep_turns: int, room_tokens: int, after: int = 0) -> int:
    """Return where to cut: `keep_turns` turns are left, or fewer where they are too large; 0: nowhere.

    Only a cut later than `after` counts, so that repeated rotation comes to an end.
    """
    found = boundaries(messages)
    wanted = found[-keep_turns:] if len(found) >= keep_turns else found
    wanted = [at for at in wanted if at > after]
    fits = [at for at in wanted if weight(messages[at:]) <= room_tokens]
    if fits:
        return fits[0]
    return wanted[-1] if wanted else 0


def prefix_of(messages: list[dict[str, Any]], cut: int) -> str:
    """Return the digest of a history's beginning; cache markers wander, so they don't count."""
    return digest(_unmarked(messages[:cut]))


def _unmarked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmarked(item) for item in value]
    if isinstance(value, dict):
        return {key: _unmarked(item) for key, item in value.items() if key != "cache_control"}
    return value


def shortened(messages: list[dict[str, Any]], cut: int, summary: str) -> list[dict[str, Any]]:
    """Return the history with its first `cut` messages replaced by their summary, in the user's block."""
    first = messages[cut]
    return [{"role": "user", "content": [{"type": "text", "text": summary}, *first["content"]]}, *messages[cut + 1 :]]


def transcript(messages: list[dict[str, Any]], limit_chars: int) -> str:
    """Return a history as text for whoever summarises it; the middle of a long one is left out."""
    lines: list[str] = []
    for message in messages:
        for block in message["content"]:
            said = block.get("text") or block.get("content") or block.get("input") or ""
            if block.get("type") in ("text", "tool_use", "tool_result"):
                lines.append(
                    f"{message['role']} {block['type']}: {said if isinstance(said, str) else json.dumps(said)}"
                )
    text = "\n".join(lines)
    half = limit_chars // 2
    return text if len(text) <= limit_chars else f"{text[:half]}\n[...]\n{text[-half:]}"


def remembered(threads: OrderedDict[str, Thread], key: str, wall: float, ttl_s: float, limit: int) -> Thread:
    """Return a thread; an idle one is a new generation, the longest unused are forgotten."""
    thread = threads.setdefault(key, Thread(last_seen=wall))
    threads.move_to_end(key)
    if ttl_s and wall - thread.last_seen > ttl_s:
        thread.generation += 1
    thread.last_seen = wall
    while len(threads) > limit:
        threads.popitem(last=False)
    return thread
