"""Pins: the provider at which each conversation's prompt cache is warm."""

from __future__ import annotations

from collections import OrderedDict

from balancer.model import Request, Route

PINS_MAX = 100_000
"""A pin is two hashes and a name: this many take about 30 MB."""


class Pins:
    """Conversations and their providers. Bounded: the least recently used pin goes first. Holds hashes only."""

    def __init__(self, limit: int = PINS_MAX) -> None:
        self._enabled = True
        self._ttl_s = 0.0
        self._limit = limit
        self._pins: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    def apply(self, *, enabled: bool, ttl_s: float) -> None:
        """Use these settings from now on. `ttl_s` is how long a pin lives without an answer; pins that exist stay."""
        self._enabled = enabled
        self._ttl_s = ttl_s

    def __len__(self) -> int:
        return len(self._pins)

    def find(self, request: Request, route: Route, now: float) -> str | None:
        """Return the name of the provider to which the request's conversation is pinned.

        This does not prolong the pin. Only an answer does: it is what keeps the prompt cache warm.
        """
        if request.conversation is None or not self._enabled:
            return None
        key = (request.conversation, route.pattern)
        found = self._pins.get(key)
        if found is None:
            return None
        provider, answered_at = found
        if now - answered_at > self._ttl_s:
            del self._pins[key]
            return None
        return provider

    def put(self, request: Request, route: Route, provider: str, now: float) -> None:
        """Pin the request's conversation to a provider that has begun to answer it."""
        if request.conversation is None or not self._enabled:
            return
        key = (request.conversation, route.pattern)
        self._pins[key] = (provider, now)
        self._pins.move_to_end(key)
        if len(self._pins) > self._limit:
            self._pins.popitem(last=False)
