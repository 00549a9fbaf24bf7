"""The conversation of a request: a conversation stays with the provider where its prompt cache is warm.

It is known by the session and agent that Claude Code names. A request that names none belongs to no conversation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import xxhash

from balancer import claude_code
from balancer.wire.messages import Head
from balancer.wire.openai_requests import OpenAIHead

CODEX_SESSION_HEADERS = (b"session_id", b"session-id", b"conversation_id")
"""How releases of Codex call the header that names the session."""


def of_request(first: Mapping[bytes, bytes], head: Head, client: str, by: str) -> str | None:
    """Return the name of the conversation, a hash; None: this request is not pinned.

    `first` has the first value of each header.

    `by: session` goes by Claude Code's session and agent; `by: prefix` also knows requests that
    carry `cache_control`, by their system prompt and first message.
    """
    session = first.get(claude_code.SESSION_HEADER)
    if session is None and (user_id := head.user_id) and (named := claude_code.session_of(user_id)):
        session = named.encode()
    if session is not None:
        agent = first.get(claude_code.AGENT_HEADER, b"")
        return _name(client.encode(), session, agent)
    if by == "prefix":
        opening = bytes(head.messages[0]) if head.messages else b""
        system = bytes(head.system)
        if b'"cache_control"' in system or any(b'"cache_control"' in bytes(m) for m in head.messages):
            return _name(client.encode(), system, _without_cache_control(opening))
    return None


def of_openai(first: Mapping[bytes, bytes], head: OpenAIHead, client: str) -> str | None:
    """Return the name of the conversation of a request of OpenAI's API, a hash; None: this request is not pinned.

    It is known by `prompt_cache_key`, which says which requests share a prompt cache, or by the session that Codex
    names in a header.
    """
    named = head.cache_key
    session = named.encode("utf-8", "surrogatepass") if named is not None else _codex_session(first)
    return _name(client.encode(), b"openai", session) if session else None


def _codex_session(first: Mapping[bytes, bytes]) -> bytes | None:
    return next((first[name] for name in CODEX_SESSION_HEADERS if name in first), None)


_CACHE_CONTROL = re.compile(rb',?\s{0,64}"cache_control"\s*:\s*\{[^{}]*\}')
"""The blanks in front are bounded: a client may send megabytes of them, and each would be a place to begin."""


def _without_cache_control(message: bytes) -> bytes:
    """Return the message without its marks: they move to the newest message as the conversation grows."""
    return _CACHE_CONTROL.sub(b"", message)


def _name(*parts: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(b"\0".join(parts))
