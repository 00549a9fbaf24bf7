"""What requests share over all workers of a machine. With one process nothing of this is used."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from balancer.config import Config
from balancer.events import Bus
from balancer.model import Candidate, Operation, Outcome
from balancer.policy.verdicts import Verdict
from balancer.sharing.protocol import Fact, News, Sharing
from balancer.state.admission import SlotQueue
from balancer.state.fleet import Fleet
from balancer.state.prepared import Prepared
from balancer.state.shared_admission import SharedAdmission
from balancer.state.shared_health import SharedHealth
from balancer.state.shared_keys import KeyUses
from balancer.state.shared_pins import SharedPins

FREE_PROBE_S = 120.0
"""So long a worker that has probed a provider is the one that does so."""


class SharedFleet(Fleet):
    """A fleet of which other workers have the same."""

    health: SharedHealth
    admission: SharedAdmission
    pins: SharedPins

    def __init__(self, config: Config, bus: Bus, rng: random.Random, sharing: Sharing) -> None:
        self.sharing = sharing
        self.keys = KeyUses(sharing, self.learn)
        super().__init__(config, bus, rng)
        self._take([one for one in sharing.history() if not isinstance(one, Fact)])

    def _parts(self, queue: SlotQueue) -> tuple[SharedHealth, SharedAdmission, SharedPins]:
        health = SharedHealth(self._stats, self.bus, self.rng, queue.wake, self.sharing)
        health.learn = self.learn
        health.on_change = lambda: self.on_news()
        return health, SharedAdmission(self._stats, health, queue, self.sharing), SharedPins(self.sharing)

    def _apply(self, prepared: Prepared) -> None:
        config = prepared.config
        self.health.know(config.providers)
        self.pins.know(config.providers)
        self._drilled = {self._drill_of(name): name for name in config.providers}
        super()._apply(prepared)
        # What was told of a provider before it was configured here was passed over.
        self.learn()
        self._take([one for one in self.sharing.history() if isinstance(one, Fact)])

    def learn(self) -> None:
        """Learn what other workers have told."""
        if self.sharing.changed():
            self._take(self.sharing.news())

    def may_probe(self, provider: str) -> bool:
        """Say whether it is for this worker to ask a provider that cools down what costs nothing: one of all does."""
        return self.sharing.lease(f"free probe {provider}", FREE_PROBE_S)

    def observe(self, candidate: Candidate, outcome: Outcome, verdict: Verdict, **more: Any) -> None:
        """Learn from an attempt, and tell the others of an injected fault that was met: it may be the last of them."""
        super().observe(candidate, outcome, verdict, **more)
        if more.get("injected"):
            self.sharing.use(self._drill_of(candidate.provider.name), 1, 0)

    def _drill_of(self, provider: str) -> int:
        return self.sharing.hash_of(f"drill {provider}")

    def _met_elsewhere(self, drill: int) -> bool:
        """Count an injected fault that another worker's request has met; say whether it is one."""
        provider = self._drilled.get(drill)
        if provider is None:
            return False
        stats = self.stats(provider)
        if stats.drill is not None:
            stats.drill = stats.drill.spent()
        return True

    def _take(self, news: Sequence[News]) -> None:
        for one in news:
            if isinstance(one, Fact):
                self.health.take(one)
            elif not self._met_elsewhere(one.name):
                self.keys.take(one)

    def _next_turn(self, taking: tuple[str, Operation]) -> int:
        pattern, operation = taking
        return self.sharing.turn(f"{operation.word} {pattern}")
