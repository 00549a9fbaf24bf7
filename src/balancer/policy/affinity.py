"""The conversation of a request: a conversation stays with the provider where its prompt cache is warm.

It is known by the session and agent that Claude Code names. A request that names none belongs to no conversation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
import xxhash

from balancer import claude_code
from balancer.model import Request
from balancer.wire.messages import Head
from balancer.wire.openai_requests import OpenAIHead

CODEX_SESSION_HEADERS = (b"session_id", b"session-id", b"conversation_id")
"""How releases of Codex call the header that names the session."""


SESSION_CHARS = 16
"""So much of a session's hash is shown."""


def of_request(first: Mapping[bytes, bytes], head: Head, client: str, by: str) -> tuple[str | None, str]:
    """Return the name of the conversation, a hash, and that of its session, which all its agents share.

    None: this request is not pinned. An empty session: the client names none.

    `first` has the first value of each header.

    `by: session` goes by Claude Code's session and agent; `by: prefix` also knows requests that
    carry `cache_control`, by their system prompt and first message.
    """
    session = first.get(claude_code.SESSION_HEADER)
    if session is None and (user_id := head.user_id) and (named := claude_code.session_of(user_id)):
        session = named.encode()
    if session is not None:
        who = client.encode()
        own = _name(who, session, b"")
        agent = first.get(claude_code.AGENT_HEADER)
        return (_name(who, session, agent) if agent else own), own[:SESSION_CHARS]
    if by == "prefix":
        system, messages = bytes(head.system), bytes(head.messages)
        if b'"cache_control"' in system or b'"cache_control"' in messages:
            return _name(client.encode(), system, _without_cache_control(_opening(messages))), ""
    return None, ""


ELEMENTS_MAX = 100_000
"""A list that may hold more elements is not decoded: a client can send millions of them, each an object of Python's."""

OPENING_BYTES = 64 * 1024
"""Of such a list so much counts as the opening."""


def _opening(messages: bytes) -> bytes:
    """Return the first message, as it stands in the list; of a list beyond measure its beginning."""
    if messages.count(b",") > ELEMENTS_MAX:
        return messages[:OPENING_BYTES]
    listed = msgspec.json.decode(messages, type=list[msgspec.Raw])
    return bytes(listed[0]) if listed else b""


LONG_CACHE_MARK = b"extended-cache-ttl-"
"""Begins the name of the beta by which a request asks for the longer prompt cache."""

LONG_CACHE_S = 3600.0
"""How long that cache lives."""

CACHE_MAX_S = 86400.0
"""The longest prompt cache that is believed in: a client writes the number."""

LOOKED_AT_BYTES = 1024 * 1024
"""So much of a body is looked at, from its end: it has the newest messages, and mostly all else but old ones."""

_MARKS_MAX = 16
"""So many marks are looked at. The API takes four."""

_MARK = b'"cache_control"'
_LONG_COMPACT = b'"cache_control":{"type":"ephemeral","ttl":"1h"'
_LONG_SPACED = b'"cache_control": {"type": "ephemeral", "ttl": "1h"'
_TTL = re.compile(rb'"cache_control"\s{0,16}:\s{0,16}\{[^{}]{0,200}?"ttl"\s{0,16}:\s{0,16}"(\d{1,5})([smhd])"')
_UNIT_S = {b"s": 1, b"m": 60, b"h": 3600, b"d": 86400}


def asks_long_cache(request: Request) -> bool:
    """Return whether a request asks for the longer prompt cache, as nearly all clients write it.

    What is sought is long, and so found fast: 30 us for a body of 400 KB, where a short word takes 150 us.
    """
    if request.long_cache:
        return True
    body = request.body
    mark = _LONG_SPACED if body.find(b'": ', 0, 64) >= 0 else _LONG_COMPACT
    return body.rfind(mark, max(0, len(body) - LOOKED_AT_BYTES)) >= 0


def cache_ttl_s(request: Request) -> float:
    """Return how long the longest prompt cache lives that a request asks for, however that is written.

    In seconds; 0: it names no time. This takes some times as long as `asks_long_cache`.
    """
    body = request.body
    start = max(0, len(body) - LOOKED_AT_BYTES)
    longest_s = LONG_CACHE_S if request.long_cache else 0.0
    at = body.rfind(_MARK, start)
    for _ in range(_MARKS_MAX):
        if at < 0:
            break
        if ttl := _TTL.match(body, at):
            longest_s = max(longest_s, min(CACHE_MAX_S, float(int(ttl[1]) * _UNIT_S[ttl[2]])))
        at = body.rfind(_MARK, start, at)
    return longest_s


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
