"""Which provider keeps which batch, file or skill, and whose it is.

In memory alone, and each worker has its own: after a restart, or at another worker, nothing is known of what was made
before. A reload does not touch it.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

RESOURCES_MAX = 100_000
"""An entry is an id and two names: this many take about 30 MB."""

ID_MAX_CHARS = 256
"""A longer id is none: clients choose what they ask for."""


class Kept(msgspec.Struct, frozen=True, gc=False):
    """Where something is kept."""

    provider: str
    client: str | None = None
    """Who made it (`Request.client`); None: it was found, and is anybody's who knows its id."""


class Resources:
    """What was made through this balancer. Bounded: the least recently used goes first."""

    def __init__(self, limit: int = RESOURCES_MAX) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, name: str) -> Kept | None:
        """Return where the resource of this id is kept; None: it is not known."""
        found = self._kept.get(name)
        if found is not None:
            self._kept.move_to_end(name)
        return found

    def put(self, name: str, kept: Kept) -> None:
        """Note where a resource is kept. Whose it is never changes."""
        known = self._kept.get(name)
        if not 0 < len(name) <= ID_MAX_CHARS or (known is not None and known.client is not None):
            return
        self._kept[name] = kept
        self._kept.move_to_end(name)
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def is_foreign(self, name: str, client: str) -> bool:
        """Say whether the resource of this id is known to be another client's."""
        found = self._kept.get(name)
        return found is not None and found.client is not None and found.client != client
