"""Admission over all workers: what is in flight anywhere counts, and who waits is woken from anywhere.

Places are taken when it is decided to take them, in shared memory, so that limits hold in a burst. `may_come` takes the
place that the request enters next: nothing is awaited between the two.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Self

from balancer.model import Candidate
from balancer.sharing.protocol import Place as SharedPlace
from balancer.sharing.protocol import Sharing
from balancer.state.admission import SHARE, Admission, Slot, SlotQueue, SlotTaken
from balancer.state.entries import HealthKey
from balancer.state.shared_health import SharedHealth
from balancer.state.stats import ProviderStats, StatsTable

LOOK_S = 0.003
"""While anybody waits, so often is looked for places that other workers have given back."""


class SharedSlot(Slot, eq=False):
    """A place at a provider, held while a request is there."""

    _health: SharedHealth
    _place: SharedPlace | None
    _leased: Sequence[HealthKey]
    """Of what is probed, what this request holds the lease of."""

    def __exit__(self, *_: object) -> None:
        Slot.__exit__(self)
        if self._place is not None:
            self._place.give_back()
        for key in self._leased:
            self._health.probed(key)


class SharedAdmission(Admission):
    """Counts the requests that are being served by all workers."""

    _health: SharedHealth

    def __init__(self, stats: StatsTable, health: SharedHealth, queue: SlotQueue, sharing: Sharing) -> None:
        super().__init__(stats, health, queue)
        self.selective = True
        self._sharing = sharing
        self._everybody = sharing.place("balancer")
        self._take = self._everybody.take
        self._give_back = self._everybody.give_back
        self._changed = sharing.changed
        self._taken = False
        """A place has been taken for the request that enters next."""
        self._clients: dict[str, SharedPlace] = {}
        self._look: asyncio.TimerHandle | None = None

    def apply(self, *, max_in_flight: int, queue_s: float, fair: bool = False) -> None:
        """Use these limits from now on."""
        super().apply(max_in_flight=max_in_flight, queue_s=queue_s, fair=fair)
        self.selective = True

    @property
    def held(self) -> int:
        """How many requests all workers serve."""
        return self._everybody.held()

    # The balancer as a whole

    def has_place(self) -> bool:
        """Say whether a request may come in now, whoever's it is. Its place is taken then."""
        if not self._taken and not self.full:
            self._taken = self._everybody.take(self._max_in_flight)
        return self._taken

    def may_come(self, client: str) -> bool:
        """Say whether a request of this client may come in now. Its place is taken then.

        It is the first that is asked for a request: what others have told is learnt here.
        """
        if self._changed():
            self._health.learn()
        if not self.fair:
            if not self._taken and not self.full:
                self._taken = self._take(self._max_in_flight)
            return self._taken
        if self._taken:
            return True
        held = self._of(client).held()
        if held >= max(1, int(self._max_in_flight * SHARE)):
            return False
        if any(self._of(other).held() < held for other in self._waiting if other != client):
            return False
        return self.has_place()

    def __enter__(self) -> Self:
        if self._taken:
            self._taken = False
        else:
            self._everybody.take_over()
        self.in_flight += 1
        self.full = self.in_flight >= self._max_in_flight
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
        self.in_flight -= 1
        self.full = self.in_flight >= self._max_in_flight
        if self._queue.waiting:
            self._queue.wake()

    def take(self, client: str) -> None:
        """Take a place for a request of this client."""
        self._of(client).take_over()
        super().take(client)

    def give_back(self, client: str) -> None:
        """Give back a place that was taken for this client."""
        self._of(client).give_back()
        super().give_back(client)

    def _of(self, client: str) -> SharedPlace:
        """Return the places of a client. There are no more clients than keys."""
        place = self._clients.get(client)
        if place is None:
            place = self._clients[client] = self._sharing.place(f"client {client}")
        return place

    async def wait(self, now: Callable[[], float], within_s: float = math.inf, client: str = "") -> float:
        """Wait until this client's request may come in; return how long it took, in seconds."""
        self._watch()
        return await super().wait(now, within_s, client)

    # Providers

    def slot(self, candidate: Candidate, now: float, insists: bool = False) -> Slot:
        """Return a slot at the candidate's provider. Raises `SlotTaken` where another worker was faster."""
        limit, place = candidate.provider.max_in_flight, self._health.place_of(candidate.provider.name)
        if place is not None and limit is not None and not place.take(limit):
            raise SlotTaken
        return self._slot(candidate, now, place, insists)

    def slot_beyond(self, candidate: Candidate, now: float) -> Slot:
        """Return a slot at the candidate's provider, however many requests are there."""
        place = self._health.place_of(candidate.provider.name)
        if place is not None:
            place.take_over()
        return self._slot(candidate, now, place, insists=True)

    def _slot(self, candidate: Candidate, now: float, place: SharedPlace | None, insists: bool) -> Slot:
        health, stats = self._health, self._stats[candidate.provider.name]
        if not health.entries:
            if place is None:
                return Slot(stats, health.probes, health.shown, (), self._queue)
            return SharedSlot(stats, health.probes, health.shown, (), self._queue, health, place, ())
        probed = health.half_open(candidate, now)
        leased: list[HealthKey] = []
        for key in probed:
            if key in health.probes:
                continue  # this worker has the lease
            if health.probe(key, candidate.provider.timeouts.request_s):
                leased.append(key)
            elif not insists:
                for one in leased:
                    health.probed(one)
                if place is not None:
                    place.give_back()
                raise SlotTaken
        return self._probing(stats, probed, place, leased)

    def _probing(
        self,
        stats: ProviderStats,
        probed: Sequence[HealthKey],
        place: SharedPlace | None,
        leased: Sequence[HealthKey],
    ) -> Slot:
        health = self._health
        return SharedSlot(stats, health.probes, health.shown, probed, self._queue, health, place, leased)

    async def slot_freed(self, within_s: float) -> None:
        """Return when a slot may be free, or after `within_s`."""
        self._watch()
        await super().slot_freed(within_s)

    # Places that others give back

    def _watch(self) -> None:
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK_S, self._look_for_places)

    def _look_for_places(self) -> None:
        """Wake those who wait if a place was given back; look again while there are any, or have just been."""
        waiting = bool(self._queue.waiting)
        if waiting and self._sharing.freed():
            self._queue.wake()
        self._look = None
        if waiting or self._waiting:
            self._watch()
