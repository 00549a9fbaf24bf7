"""A fleet with providers on loopback, and short ways to make them fail and succeed."""

from __future__ import annotations

import random
from typing import Any

from stand_ins import request

from balancer import config, events
from balancer.model import Candidate, Completed, Fault, Operation, Outcome, Refused, Route, Stage
from balancer.policy.failover import Availability
from balancer.policy.verdicts import Mark, Verdict
from balancer.state.fleet import Fleet

BAD = Verdict(Mark.BAD, retry_elsewhere=True, reason="529 overloaded_error", status=529)
GOOD = Verdict(Mark.GOOD)
OVERLOADED = Refused(Fault(529, "overloaded_error"), Stage.WAIT)


def read(settings: str = "", names: str = "abc", secret: str = "s", port: int = 1, provider: str = "") -> config.Config:
    """Return a configuration with a provider for each letter of `names`, and one route for all models."""
    lines = [
        f'  - {{name: {n}, type: anthropic, base_url: "http://127.0.0.1:{port}", auth_value: {secret}-{n}{provider}}}'
        for n in names
    ]
    targets = ", ".join(f"{{provider: {n}}}" for n in names)
    text = "\n".join(["providers:", *lines, f'model_routes: {{"*": [{targets}]}}', f"settings: {{{settings}}}"])
    return config.parse(text, "p.yaml", {})


class World:
    """A fleet, and what it has emitted."""

    def __init__(self, settings: str = "", names: str = "abc", provider: str = "") -> None:
        self.told: list[Any] = []
        bus = events.Bus()
        bus.add(self.told.append)
        self.fleet = Fleet(read(settings, names, provider=provider), bus, random.Random(4))
        self.health = self.fleet.health

    @property
    def route(self) -> Route:
        route = self.fleet.route("m")
        assert route is not None
        return route

    def order(self, now: float = 0.0, conversation: str | None = None) -> str:
        """Return the names of the candidates, in the order in which they are to be asked."""
        candidates, _ = self.fleet.candidates(request(conversation=conversation), self.route, now)
        return "".join(c.provider.name for c in candidates)

    def candidate(self, name: str, operation: Operation = Operation.MESSAGES, model: str = "m") -> Candidate:
        """Return a candidate, also of a provider that is paused."""
        route = self.fleet.route(model)
        assert route is not None
        return next(c for c in self.fleet._everybody(route, model, operation) if c.provider.name == name)

    def availability(self, name: str, now: float) -> Availability:
        return self.health.availability(self.candidate(name), now)

    def observe(
        self, candidate: Candidate, outcome: Outcome, verdict: Verdict, at: float, began: float | None = None
    ) -> None:
        started = at if began is None else began
        self.fleet.observe(candidate, outcome, verdict, began=started, now=at, wall=1000.0 + at)

    def fail(self, name: str, at: float, verdict: Verdict = BAD) -> World:
        self.observe(self.candidate(name), OVERLOADED, verdict, at)
        return self

    def succeed(self, name: str, at: float, began: float | None = None) -> None:
        self.observe(self.candidate(name), Completed(), GOOD, at, began)

    def pin(self, name: str, conversation: str | None, at: float) -> None:
        self.fleet.pins.put(request(conversation=conversation), self.route, name, at)
