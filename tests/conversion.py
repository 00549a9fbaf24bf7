"""Conversions in one line, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from openai_schema import check_chat

from balancer.dialects.openai import request
from balancer.dialects.openai.chat import ChatReader
from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.decoder import OpenAIDecoder, Reader, writer_for
from balancer.dialects.openai.profiles import PROFILES, Capabilities, Profile
from balancer.dialects.openai.responses import ResponsesReader
from balancer.dialects.openai.writer import Shell
from balancer.model import Piece

FOREIGN_FIELDS = frozenset(
    {
        "top_k", "thinking", "reasoning", "reasoning_content", "reasoning_details", "enable_thinking",
        "thinking_budget", "cache_control", "extra_content",
    }
)  # fmt: skip


def messages_request(*messages: Any, **more: Any) -> dict[str, Any]:
    """Return a Messages request; a string is a user's turn."""
    turns = [{"role": "user", "content": one} if isinstance(one, str) else one for one in messages or ("hi",)]
    return {"model": "claude", "max_tokens": 100, "messages": turns, **more}


def converted(asked: dict[str, Any], profile: Profile = "compat", **over: Any) -> request.Converted:
    can: Capabilities = replace(PROFILES[profile], **over)
    return request.chat(json.dumps(asked).encode(), "gpt-x", can, "up")


def chat(asked: dict[str, Any], profile: Profile = "compat", **over: Any) -> dict[str, Any]:
    """Convert, and hold the result against the SDK's types."""
    body = json.loads(request.encoded(converted(asked, profile, **over).body))
    check_chat(body, FOREIGN_FIELDS)
    return body  # type: ignore[no-any-return]


def turns(*messages: Any, profile: Profile = "compat", **over: Any) -> list[dict[str, Any]]:
    """Return the Chat messages of a conversation."""
    return chat(messages_request(*messages), profile, **over)["messages"]  # type: ignore[no-any-return]


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def use(identifier: str, name: str = "Read", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identifier, "name": name, "input": arguments}


def result(identifier: str, content: Any = "done", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identifier, "content": content, **more}


def decoder(
    *,
    stream: bool = True,
    names: dict[str, str] | None = None,
    responses: bool = False,
    think_tags: bool | str = False,
    keep: Callable[[str, str], None] | None = None,
) -> OpenAIDecoder:
    shell = Shell("claude", "nonce", 9)
    writer = writer_for(shell, stream=stream)
    composer = Composer(shell, writer, "up", names or {}, keep)
    reader: Reader = ResponsesReader(composer) if responses else ChatReader(composer, think_tags=think_tags)
    return OpenAIDecoder(composer, writer, reader, ())


def played(to: OpenAIDecoder, data: bytes, cuts: list[int] | None = None) -> list[Piece]:
    """Feed data, cut where it is said, and end."""
    pieces: list[Piece] = []
    edges = [0, *sorted(cut for cut in set(cuts or ()) if 0 < cut < len(data)), len(data)]
    for start, end in pairwise(edges):
        if not to.complete:
            pieces += to.feed(data[start:end])
    return pieces if to.complete else pieces + to.end()


def written(pieces: list[Piece]) -> bytes:
    assert not [piece.error for piece in pieces if piece.error]
    return b"".join(piece.data for piece in pieces)


def sse(*events: Any) -> bytes:
    """Return a Chat stream: dicts are JSON, strings go as they are."""
    return b"".join(
        b"data: " + (event if isinstance(event, str) else json.dumps(event)).encode() + b"\n\n" for event in events
    )


def chunk(finish: str | None = None, usage: Any = None, **delta: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return {**body, "usage": usage} if usage else body


def fragment(index: int | None = 0, arguments: Any = None, **more: Any) -> dict[str, Any]:
    """Return a chunk with a piece of a tool call."""
    call: dict[str, Any] = {} if index is None else {"index": index}
    if "id" in more:
        call["id"] = more["id"]
    call["function"] = {
        key: value for key, value in (("name", more.get("name")), ("arguments", arguments)) if value is not None
    }
    return chunk(more.get("finish"), tool_calls=[call])


DONE = "[DONE]"
