"""What requests share over all workers of a machine. With one process nothing of this is used."""

from __future__ import annotations

import random
from collections.abc import Sequence

from balancer.config import Config
from balancer.events import Bus
from balancer.model import Candidate, Operation, Request, Route
from balancer.sharing.protocol import Fact, News, Sharing
from balancer.state.admission import SlotQueue
from balancer.state.fleet import Fleet
from balancer.state.shared_admission import SharedAdmission
from balancer.state.shared_health import SharedHealth
from balancer.state.shared_keys import KeyUses
from balancer.state.shared_pins import SharedPins


class SharedFleet(Fleet):
    """A fleet of which other workers have the same."""

    health: SharedHealth
    admission: SharedAdmission
    pins: SharedPins

    def __init__(self, config: Config, bus: Bus, rng: random.Random, sharing: Sharing) -> None:
        self.sharing = sharing
        self.keys = KeyUses(sharing, self.learn)
        super().__init__(config, bus, rng)
        self._take(sharing.history())

    def _parts(self, queue: SlotQueue) -> tuple[SharedHealth, SharedAdmission, SharedPins]:
        health = SharedHealth(self._stats, self.bus, self.rng, queue.wake, self.sharing)
        health.learn = self.learn
        return health, SharedAdmission(self._stats, health, queue, self.sharing), SharedPins(self.sharing)

    def _apply(self, config: Config) -> None:
        self.health.know(config.providers)
        self.pins.know(config.providers)
        super()._apply(config)

    def learn(self) -> None:
        """Learn what other workers have told."""
        if self.sharing.changed():
            self._take(self.sharing.news())

    def _take(self, news: Sequence[News]) -> None:
        for one in news:
            if isinstance(one, Fact):
                self.health.take(one)
            else:
                self.keys.take(one)

    def candidates(self, request: Request, route: Route, now: float) -> tuple[list[Candidate], bool]:
        """Return the candidates in the order in which they are to be asked, by what all workers know."""
        self.learn()
        return super().candidates(request, route, now)

    def _next_turn(self, taking: tuple[str, Operation]) -> int:
        pattern, operation = taking
        return self.sharing.turn(f"{operation.word} {pattern}")
