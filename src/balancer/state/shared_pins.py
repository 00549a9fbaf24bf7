"""Pins that all workers know: a conversation stays with its provider, whichever worker its next request comes to."""

from __future__ import annotations

from collections.abc import Iterable

from balancer.model import Request, Route
from balancer.sharing.protocol import Sharing
from balancer.state.pins import PINS_MAX, Pins

TELL_S = 5.0
"""While a conversation stays where it is, the others are told so often that it goes on."""


_put = Pins.put  # `super()` costs more than the rest of it


class SharedPins(Pins):
    """Conversations and their providers. The others are told a keyed hash of each."""

    def __init__(self, sharing: Sharing, limit: int = PINS_MAX) -> None:
        super().__init__(limit)
        self._sharing = sharing
        self._pinned = sharing.pinned
        self._names: dict[int, str] = {}
        self._hashes: dict[str, int] = {}

    def know(self, providers: Iterable[str]) -> None:
        """Know these providers from now on."""
        self._hashes = {name: self._sharing.hash_of(name) for name in providers}
        self._names = {number: name for name, number in self._hashes.items()}

    def find(self, request: Request, route: Route, now: float) -> str | None:
        """Return the name of the provider to which the request's conversation is pinned, at whichever worker."""
        conversation = request.conversation
        if conversation is None or not self._enabled:
            return None
        key = (conversation, route.pattern)
        found = self._pins.get(key)
        shared = self._pinned(conversation + route.pattern)
        if shared is not None and (found is None or found[1] < shared[1] * 1e-9):
            name = self._names.get(shared[0])
            if name is not None:
                found = self._pins[key] = (name, shared[1] * 1e-9, shared[2], now)
                self._bound()
        if found is None:
            return None
        age_s = now - found[1]
        if age_s > self._ttl_s and age_s > found[2]:
            del self._pins[key]
            return None
        return found[0]

    def put(self, request: Request, route: Route, provider: str, now: float) -> str | None:
        """Pin the request's conversation to a provider that has begun to answer it."""
        conversation = request.conversation
        if conversation is None or not self._enabled:
            return None
        key = (conversation, route.pattern)
        before = self._pins.get(key)
        moved = _put(self, request, route, provider, now)
        if before is None or moved is not None or now // TELL_S != before[1] // TELL_S:
            number = self._hashes.get(provider)
            if number is not None:
                self._sharing.pin(conversation + route.pattern, number, self._pins[key][2])
        return moved

    def _bound(self) -> None:
        if len(self._pins) > self._limit:
            self._pins.popitem(last=False)
