"""Admission: how many requests are served at once, by the balancer and by each provider, and who waits for a slot."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self

import msgspec

from balancer.model import Candidate
from balancer.state.entries import HealthKey
from balancer.state.health import HealthTable
from balancer.state.stats import ProviderStats, StatsTable


class SlotTaken(Exception):
    """Another worker has taken the slot, or the probe, since it was decided to ask this provider: decide again."""


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


SHARE = 0.8
"""Where several keys are configured, so much of all places one client may hold: no key can lock the others out."""


class Place(msgspec.Struct, eq=False):
    """A place in the balancer as a whole that counts against its client's share."""

    _admission: Admission
    _client: str

    def __enter__(self) -> None:
        self._admission.take(self._client)

    def __exit__(self, *_: object) -> None:
        self._admission.give_back(self._client)


class Admission:
    """Counts the requests that are being served. `with admission:` holds one's place in the balancer as a whole.

    Where places are shared fairly (`apply`), a client holds at most `SHARE` of them, and of those that wait the one
    goes first whose client holds the fewest.
    """

    def __init__(self, stats: StatsTable, health: HealthTable, queue: SlotQueue) -> None:
        self.in_flight = 0
        self.full = False
        """No further request may come in. Kept, not computed: every request asks."""
        self.fair = False
        """Places are shared between clients."""
        self.selective = False
        """That there is a place is not enough: `may_come` has to be asked."""
        self._max_in_flight = 1
        self._queue_s = 0.0
        self._held: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._stats = stats
        self._health = health
        self._queue = queue

    def apply(self, *, max_in_flight: int, queue_s: float, fair: bool = False) -> None:
        """Use these limits from now on; whoever waits looks again. `queue_s` is the longest wait for a place.

        `fair`: places are shared between clients. What is held when this changes is not counted for its client.
        """
        if fair != self.fair:
            self.fair = self.selective = fair
            self._held.clear()
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

    def place(self, client: str) -> Place:
        """Return a place that counts against this client's share, to be held with `with`."""
        return Place(self, client)

    def take(self, client: str) -> None:
        """Take a place for a request of this client."""
        self._held[client] += 1
        self.__enter__()

    def give_back(self, client: str) -> None:
        """Give back a place that was taken for this client."""
        self._held[client] -= 1
        if self._held[client] <= 0:  # less: it was taken before places were shared
            del self._held[client]
        self.__exit__()

    def may_come(self, client: str) -> bool:
        """Say whether a request of this client may come in now: there is a place, and it is this client's turn."""
        if self.full or not self.fair:
            return not self.full
        held = self._held[client]
        if held >= max(1, int(self._max_in_flight * SHARE)):
            return False
        return all(self._held[other] >= held for other in self._waiting if other != client)

    def has_place(self) -> bool:
        """Say whether a request may come in now, whoever's it is."""
        return not self.full

    async def wait(self, now: Callable[[], float], within_s: float = math.inf, client: str = "") -> float:
        """Wait until this client's request may come in, `within_s` at most; return how long it took, in seconds."""
        began = now()
        longest_s = min(self._queue_s, within_s)
        self._waiting[client] += 1
        try:
            while not self.may_come(client) and (left_s := began + longest_s - now()) > 0:
                await self._queue.freed(left_s)
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]
                if self.fair:
                    self._queue.wake()  # others may have waited for this one to go first
        return now() - began

    def slot(self, candidate: Candidate, now: float, insists: bool = False) -> Slot:
        """Return a slot at the candidate's provider, to be held with `with` at once; it probes what is half-open.

        With several workers another one may have been faster: `SlotTaken`. `insists`: not because it probes as well.
        """
        health = self._health
        probed = health.half_open(candidate, now) if health.entries else ()
        return Slot(self._stats[candidate.provider.name], health.probes, health.shown, probed, self._queue)

    def slot_beyond(self, candidate: Candidate, now: float) -> Slot:
        """Return a slot at the candidate's provider, however many requests are there."""
        return self.slot(candidate, now)

    async def slot_freed(self, within_s: float) -> None:
        """Return when a slot may be free, or after `within_s`."""
        await self._queue.freed(within_s)
