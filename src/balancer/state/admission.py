"""Admission: how many requests are served at once, by the balancer and by each provider, and who waits for a slot."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Self

import msgspec

from balancer.model import Candidate
from balancer.state.health import HealthKey, HealthTable
from balancer.state.stats import ProviderStats, StatsTable


class SlotQueue:
    """The requests that wait for a slot, in the order in which they came."""

    def __init__(self) -> None:
        self.waiting: dict[asyncio.Future[None], None] = {}
        """A dict: any of a thousand may stop waiting, and each has to be found at once."""

    def wake(self) -> None:
        """Have all of them look whether there is a slot now."""
        for freed in self.waiting:
            if not freed.done():
                freed.set_result(None)
        self.waiting.clear()

    async def freed(self, within_s: float) -> None:
        """Return when a slot may be free, or after `within_s`."""
        freed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting[freed] = None
        try:
            async with asyncio.timeout(within_s):
                await freed
        except TimeoutError:
            return
        finally:
            self.waiting.pop(freed, None)


class Slot(msgspec.Struct, eq=False):
    """A place at a provider, held while a request is there. A class: `contextlib` costs three times as much."""

    _stats: ProviderStats
    _probes: dict[HealthKey, int]
    _shown: set[HealthKey]
    _probed: Sequence[HealthKey]
    """The half-open circuits that this request probes."""
    _queue: SlotQueue

    def __enter__(self) -> ProviderStats:
        for key in self._probed:
            self._probes[key] = self._probes.get(key, 0) + 1
        stats = self._stats
        stats.in_flight += 1
        stats.requests += 1
        return stats

    def __exit__(self, *_: object) -> None:
        self._stats.in_flight -= 1
        for key in self._probed:
            self._probes[key] -= 1
            if not self._probes[key]:
                del self._probes[key]
                self._shown.discard(key)
        if self._queue.waiting:
            self._queue.wake()


class Admission:
    """Counts the requests that are being served. `with admission:` holds one's place in the balancer as a whole."""

    def __init__(self, stats: StatsTable, health: HealthTable, queue: SlotQueue) -> None:
        self.in_flight = 0
        self.full = False
        """No further request may come in. Kept, not computed: every request asks."""
        self._max_in_flight = 1
        self._queue_s = 0.0
        self._stats = stats
        self._health = health
        self._queue = queue

    def apply(self, *, max_in_flight: int, queue_s: float) -> None:
        """Use these limits from now on; whoever waits looks again. `queue_s` is the longest wait for a place."""
        self._max_in_flight = max_in_flight
        self._queue_s = queue_s
        self.full = self.in_flight >= max_in_flight
        self._queue.wake()

    def __enter__(self) -> Self:
        self.in_flight += 1
        self.full = self.in_flight >= self._max_in_flight
        return self

    def __exit__(self, *_: object) -> None:
        self.in_flight -= 1
        self.full = self.in_flight >= self._max_in_flight
        if self._queue.waiting:
            self._queue.wake()

    async def wait(self, now: Callable[[], float], within_s: float = math.inf) -> float:
        """Wait until the balancer is not full, for `within_s` at most; return how long it took, in seconds."""
        began = now()
        while self.full and (left_s := began + min(self._queue_s, within_s) - now()) > 0:
            await self._queue.freed(left_s)
        return now() - began

    def slot(self, candidate: Candidate, now: float) -> Slot:
        """Return a slot at the candidate's provider, to be held with `with`; it probes what is half-open."""
        health = self._health
        probed = health.half_open(candidate, now) if health.entries else ()
        return Slot(self._stats[candidate.provider.name], health.probes, health.shown, probed, self._queue)

    async def slot_freed(self, within_s: float) -> None:
        """Return when a slot may be free, or after `within_s`."""
        await self._queue.freed(within_s)
