"""Where conversations are pinned: bounded, the least recently used pin goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Pins:
    """Where conversations are pinned: bounded, the least recently used goes first. Holds hashes only."""

    def __init__(self, limit: int, ttl_s: float) -> None:
        self.ttl_s = ttl_s
        """How long a pin lives without being used."""
        self._limit = limit
        self._pins: OrderedDict[Hashable, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pins)

    def get(self, conversation: Hashable, now: float) -> str | None:
        """Return the provider of a conversation. That it is asked for does not let a pin live on: an answer does."""
        found = self._pins.get(conversation)
        if found is None:
            return None
        provider, used = found
        if now - used > self.ttl_s:
            del self._pins[conversation]
            return None
        return provider

    def put(self, conversation: Hashable, provider: str, now: float) -> None:
        """Pin a conversation."""
        self._pins[conversation] = (provider, now)
        self._pins.move_to_end(conversation)
        if len(self._pins) > self._limit:
            self._pins.popitem(last=False)
