"""What the transport takes of a peer, and how long it keeps connections: numbers with their reasons."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one transport. Sizes are bytes, durations seconds."""

    head_max_bytes: int = 64 * 1024
    """A response's head beyond this is refused. Real ones have 1 to 2 KB."""
    fields_max: int = 200
    """More header fields than this are refused, before a body or behind it: there the head's size bounds nothing."""
    interim_max: int = 10
    """How many 1xx responses may come before the real one."""
    unread_max_bytes: int = 64 * 1024
    """More than this unread pauses the upstream: a slow client must not fill our memory."""
    joined_max_bytes: int = 16 * 1024
    """A request up to this size is written at once; a larger body is written piece by piece, uncopied."""
    idle_per_origin: int = 64
    """So many idle connections are kept for one origin."""
    idle_s: float = 55.0
    """How long an idle connection is kept: just less than the 60 s after which most servers and gateways close one."""
    age_s: float = 300.0
    """How long a connection is used for new requests, give or take `age_jitter`: what was true of a provider when it
    was opened (its address, its certificate) is looked at again."""
    age_jitter: float = 0.2
    """So much, as a share of `age_s`, may an age differ: connections that were opened together end one by one."""
    stale_s: float = 0.5
    """A connection that was closed while it was idle shows it within a round trip. One that breaks later was broken by
    a peer that had the request: sending it again could have it answered twice."""


LIMITS = Limits()
