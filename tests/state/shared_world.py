"""Several workers' fleets that share, in one process: each is a `World`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from state.world import World, read

from balancer import events
from balancer.sharing.in_process import Group
from balancer.state.shared import SharedFleet


class SharedWorld(World):
    """One worker."""

    fleet: SharedFleet

    def __init__(self, group: Group, worker: int, settings: str, names: str, provider: str, secret: str = "s") -> None:
        self.told = []
        bus = events.Bus()
        bus.add(self.told.append)
        self.sharing = group.member(worker)
        config = read(settings, names, secret=secret, provider=provider)
        self.fleet = SharedFleet(config, bus, random.Random(worker), self.sharing)
        self.health = self.shared = self.fleet.health

    def rests(self, name: str, at: float) -> float:
        """Return for how long a provider rests, as this worker knows at its next decision."""
        state = self.fleet.health.availability(self.candidate(name), at)
        return 0.0 if state.usable else state.cooldown_until - at


@contextmanager
def shared_worlds(
    workers: int, settings: str = "", names: str = "ab", provider: str = ""
) -> Iterator[list[SharedWorld]]:
    """Make the fleets of so many workers."""
    group = Group(workers)
    try:
        yield [SharedWorld(group, worker, settings, names, provider) for worker in range(workers)]
    finally:
        group.close()


@contextmanager
def group_of(workers: int) -> Iterator[Group]:
    """Make what so many workers share."""
    group = Group(workers)
    try:
        yield group
    finally:
        group.close()
