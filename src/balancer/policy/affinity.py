"""The conversation of a request: a conversation stays with the provider where its prompt cache is warm.

It is known by the session and agent that Claude Code names. A request that names none belongs to no conversation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
import xxhash

from balancer import claude_code
from balancer.wire.messages import Head


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
        system, messages = bytes(head.system), bytes(head.messages)
        if b'"cache_control"' in system or b'"cache_control"' in messages:
            return _name(client.encode(), system, _without_cache_control(_opening(messages)))
    return None


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


_CACHE_CONTROL = re.compile(rb',?\s{0,64}"cache_control"\s*:\s*\{[^{}]*\}')
"""The blanks in front are bounded: a client may send megabytes of them, and each would be a place to begin."""


def _without_cache_control(message: bytes) -> bytes:
    """Return the message without its marks: they move to the newest message as the conversation grows."""
    return _CACHE_CONTROL.sub(b"", message)


def _name(*parts: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(b"\0".join(parts))
