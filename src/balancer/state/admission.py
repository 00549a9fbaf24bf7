"""Slots at a provider: held while a request is there, and who is woken when one is free."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from balancer.state.stats import ProviderStats


class Slot(msgspec.Struct, eq=False):
    """A place at a provider, while it is held. A class: `contextlib` costs three times as much."""

    _ledger: ProviderStats
    _probes: dict[tuple[str, str], int]
    _mine: Sequence[tuple[str, str]]
    _queue: dict[asyncio.Future[None], None]

    def __enter__(self) -> ProviderStats:
        for key in self._mine:
            self._probes[key] = self._probes.get(key, 0) + 1
        stats = self._ledger
        stats.in_flight += 1
        stats.requests += 1
        return stats

    def __exit__(self, *_: object) -> None:
        self._ledger.in_flight -= 1
        for key in self._mine:
            self._probes[key] -= 1
            if not self._probes[key]:
                del self._probes[key]
        if self._queue:
            _wake(self._queue)


def _wake(queue: dict[asyncio.Future[None], None]) -> None:
    """Have those who wait for a place look whether there is one."""
    for freed in queue:
        if not freed.done():
            freed.set_result(None)
    queue.clear()
