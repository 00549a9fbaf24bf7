"""Pins: the provider at which each conversation's prompt cache is warm."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import TypeAlias

from balancer.model import Request, Route
from balancer.policy.affinity import LONG_CACHE_S, asks_long_cache, cache_ttl_s

PINS_MAX = 100_000
"""A pin is two hashes and a name: this many take about 30 MB."""


LOOK_S = 10.0
"""How often the requests of a conversation are looked at for how long their prompt cache lives, if it is written in an
unusual way: that takes as long as a tenth of everything else that is done for a large request."""

_Pin: TypeAlias = tuple[str, float, float, float]
"""Provider, when it answered last, for how long at least the pin lives, and when to look at that again."""


class Pins:
    """Conversations and their providers. Bounded: the least recently used pin goes first. Holds hashes only."""

    def __init__(self, limit: int = PINS_MAX) -> None:
        self._enabled = True
        self._ttl_s = 0.0
        self._limit = limit
        self._pins: OrderedDict[tuple[str, str], _Pin] = OrderedDict()

    def apply(self, *, enabled: bool, ttl_s: float) -> None:
        """Use these settings from now on. `ttl_s` is how long a pin lives at least without an answer.

        Pins that exist stay.
        """
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
        provider, answered_at, cached_s, _ = found
        if now - answered_at > self._ttl_s and now - answered_at > cached_s:
            del self._pins[key]
            return None
        return provider

    def put(self, request: Request, route: Route, provider: str, now: float) -> str | None:
        """Pin the request's conversation to a provider that has begun to answer it.

        The pin lives as long as the longest prompt cache that the conversation has asked for. Returns the provider to
        which the conversation was pinned, if that was another.
        """
        if request.conversation is None or not self._enabled:
            return None
        key = (request.conversation, route.pattern)
        before = self._pins.get(key)
        cached_s, look_at = (0.0, now) if before is None else before[2:]
        if cached_s < LONG_CACHE_S:
            if asks_long_cache(request):
                cached_s = LONG_CACHE_S
            elif now >= look_at:
                cached_s, look_at = max(cached_s, cache_ttl_s(request)), now + LOOK_S
        self._pins[key] = (provider, now, cached_s, look_at)
        self._pins.move_to_end(key)
        if len(self._pins) > self._limit:
            self._pins.popitem(last=False)
        return None if before is None or before[0] == provider else before[0]

    def latest(self, most: int) -> list[tuple[tuple[str, str], str, float, float]]:
        """Return the pins used last, the latest at the end: key, provider, when it answered, how long it lives."""
        skipped = max(0, len(self._pins) - most)
        return [(key, pin[0], pin[1], pin[2]) for key, pin in islice(self._pins.items(), skipped, None)]

    def restore(self, key: tuple[str, str], provider: str, answered_at: float, cached_s: float) -> None:
        """Take over a pin of another process, unless there is one."""
        if key not in self._pins and len(self._pins) < self._limit:
            self._pins[key] = (provider, answered_at, cached_s, answered_at)
