"""What requests share: the one mutable object.

Config is not state: `config` is replaced whole by a reload, while what was learnt (health, pins,
counters, a dialect's memory) stays here, keyed by the provider's name. Everything runs on one
event loop, and no method awaits between reading and changing, so there are no locks.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Self

import msgspec

from balancer import config as configuration
from balancer import events
from balancer.config import Config, Settings
from balancer.dialects.simulated.faults import Drill
from balancer.events import Bus
from balancer.model import Candidate, Mark, Operation, Outcome, Provider, Request, Route, Scope, Verdict
from balancer.policy import routes as routing
from balancer.policy.circuit import Circuit, Health, Policy, observe
from balancer.policy.failover import Availability, Failover
from balancer.policy.retry_budget import Budget
from balancer.policy.strategies import STRATEGIES, Load, View, peak_ewma, priority
from balancer.redact import secrets_of
from balancer.state.admission import Slot, _wake
from balancer.state.pins import Pins
from balancer.state.stats import ProviderStats

PROVEN_S = 60.0
"""A provider that gave substance within this time, and has not failed since, is known to work."""

PINS_MAX = 100_000

HEALTHS_MAX = 1000
"""Clients name models as they like, and each that was refused is remembered."""

COUNTING = "/v1/messages/count_tokens"
"""What stands in the place of a model's name where a provider's counting rests."""

SECONDS_TO_ANSWER_MAX = 300.0
"""The deadline over all attempts of a stream: the client waits about 360 s for a head."""

SECONDS_TO_WHOLE_ANSWER = 600.0
"""The deadline over all attempts of a non-streaming answer: what SDKs wait by default."""

SECONDS_TO_COUNT = 3.0
"""After this an estimate serves better than an exact count."""

CLIENT_MARGIN_S = 5.0
"""How long before the client's own deadline (`x-stainless-timeout`) ours lies."""


class Rules(msgspec.Struct, frozen=True):
    """What every request asks of the settings. They are pydantic's, where an attribute costs ten times as much."""

    max_body_bytes: int
    max_in_flight: int
    queue_s: float
    sticky: bool
    sticky_by: str
    deduplicates: bool
    replay_s: float
    whole_answer_s: float

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        limits, sticky, shared = settings.limits, settings.sticky, settings.deduplication
        return cls(
            limits.max_body_bytes,
            limits.max_in_flight,
            limits.queue_s,
            sticky.enabled,
            sticky.by,
            shared.enabled,
            shared.replay_s,
            max(SECONDS_TO_WHOLE_ANSWER, settings.non_streaming_timeout),
        )


class Fleet:
    """The providers as they are now."""

    def __init__(self, config: Config, bus: Bus, rng: random.Random) -> None:
        self.bus = bus
        self.rng = rng
        self.generation = 0
        self.in_flight = 0
        self.draining = False
        self.budget = Budget()
        self._ledgers: dict[str, ProviderStats] = {}
        self._health: dict[tuple[str, str], Health] = {}
        self._probes: dict[tuple[str, str], int] = {}
        self._turns: dict[tuple[str, Operation], int] = {}
        self._queue: dict[asyncio.Future[None], None] = {}
        """Who waits for a place, in the order they came. A dict, as one of a thousand may leave."""
        self._take(config)

    # Configuration

    def reload(self, config: Config, wall: float) -> tuple[str, ...]:
        """Put `config` in force, and return in words what changed."""
        old = self.config
        changes = tuple(configuration.changes(old, config))
        for name, provider in config.providers.items():
            before = old.providers.get(name)
            if before and (before.secret, before.base_url) != (provider.secret, provider.base_url):
                self._forgive(name)
        self._take(config)
        self.generation += 1
        self.bus.emit(events.Reloaded(wall, self.generation, changes))
        return changes

    def _take(self, config: Config) -> None:
        settings = config.settings
        self.config = config
        """What the file says. Requests under way keep the one they began with."""
        self.routing = routing.compile(config.routes)
        self.secrets = _secrets(config)
        self._policy = Policy(settings.cooldown_s, settings.cooldown_constant)
        self._strategy = STRATEGIES[settings.selection_strategy]
        self._pins = getattr(self, "_pins", None) or Pins(PINS_MAX, settings.sticky.ttl)
        self._pins.ttl_s = settings.sticky.ttl
        self.rules = Rules.of(settings)
        _wake(self._queue)
        self._candidates: dict[tuple[str, str, str], tuple[Candidate, ...]] = {}

    def _forgive(self, name: str) -> None:
        """A new key or address: what was said about the old one no longer counts."""
        for key in [key for key in self._health if key[0] == name]:
            del self._health[key]

    # Who may be asked

    def route(self, model: str) -> Route | None:
        return self.routing.match(model)

    def candidates(self, request: Request, route: Route, now: float) -> tuple[list[Candidate], bool]:
        """Return the candidates in the order they are to be asked, and whether a pin decided it.

        Usable ones first, by strategy; then those that rest, by priority, for when nobody else is
        left.
        """
        everybody = self._everybody(route, request.model, request.operation)
        pinned = self._pinned(request, route, now)
        if len(everybody) == 1 and not self._health:
            return list(everybody), pinned == everybody[0].provider.name
        usable = [c for c in everybody if self.availability(c, now).usable] if self._health else list(everybody)
        if len(usable) > 1 and self._strategy is not priority:  # that is the order they are in already
            taking = (route.pattern, request.operation)  # who counts before each request must not take its turn
            if pinned is None:
                self._turns[taking] = self._turns.get(taking, -1) + 1
            usable = self._strategy(usable, View(self._turns.get(taking, 0), self.rng, _Loads(self)))
        ordered = usable
        if len(usable) < len(everybody):
            ordered = usable + [c for c in everybody if not any(c is u for u in usable)]
        if pinned is None:
            return ordered, False
        held = next((c for c in usable if c.provider.name == pinned), None)
        if held is not None and held is not ordered[0]:
            ordered = [held] + [c for c in ordered if c is not held]
        return ordered, held is not None

    def _everybody(self, route: Route, model: str, operation: Operation) -> tuple[Candidate, ...]:
        """Return who may be asked by this route, by priority, then in the order of the file."""
        key = (route.pattern, model, operation.word)
        found = self._candidates.get(key)
        if found is None:
            targets = routing.candidates(route, model, self.config.providers)
            found = tuple(replace(c, operation=operation) for c in priority(targets, _NOBODY))
            if len(self._candidates) >= routing.REMEMBERED:
                self._candidates.clear()
            self._candidates[key] = found
        return found

    def failover(self, request: Request, candidates: list[Candidate], now: float) -> Failover:
        """Return the way of a request that arrived at `now`."""
        optional = request.operation.counts  # an estimate will do
        deadline = now + (SECONDS_TO_COUNT if optional else self._patience_s(request))
        return Failover(candidates, deadline, self.budget, self.rules.queue_s, optional)

    def _patience_s(self, request: Request) -> float:
        longest_s = SECONDS_TO_ANSWER_MAX if request.stream else self.rules.whole_answer_s
        clients_s = request.client_timeout_s
        if clients_s is not None and clients_s > 2 * CLIENT_MARGIN_S:
            return min(longest_s, clients_s - CLIENT_MARGIN_S)
        return longest_s

    def availability(self, candidate: Candidate, now: float) -> Availability:
        """Say how a candidate stands right now."""
        stats = self.stats(candidate.provider.name)
        limit = candidate.provider.max_in_flight
        full = limit is not None and stats.in_flight >= limit
        if not self._health:
            return Availability(True, full, 0.0, 0.0, 0.0 < stats.first_content_at > now - PROVEN_S, stats.in_flight)
        usable, cooldown_until, last_failure = True, 0.0, 0.0
        for key in _keys(candidate):
            health = self._health.get(key)
            if health is None:
                continue
            last_failure = max(last_failure, health.last_failure)
            circuit = health.circuit(now)
            if circuit is Circuit.OPEN or (circuit is Circuit.HALF_OPEN and key in self._probes):
                usable = False
                cooldown_until = max(cooldown_until, health.cooldown_until)
        return Availability(
            usable=usable,
            full=full,
            cooldown_until=cooldown_until,
            last_failure=last_failure,
            proven=stats.first_content_at > max(last_failure, now - PROVEN_S),
            in_flight=stats.in_flight,
        )

    def cooling_down(self, candidates: list[Candidate], now: float) -> tuple[list[tuple[str, str]], float | None]:
        """Return who of `candidates` rests and why, and the time until the earliest is back."""
        reasons: list[tuple[str, str]] = []
        earliest: float | None = None
        for candidate in candidates:
            left_s = self.availability(candidate, now).cooldown_until - now
            earliest = left_s if earliest is None else min(earliest, left_s)
            reason = next((h.reason for key in _keys(candidate) if (h := self._health.get(key)) and h.failures), "")
            if left_s > 0 or reason:
                reasons.append((candidate.provider.name, reason))
        return reasons, earliest

    # Asking

    def slot(self, candidate: Candidate, now: float) -> Slot:
        """Hold a place at the provider, and the probe where its circuit is half-open."""
        probes = [key for key in _own_keys(candidate) if self._is_half_open(key, now)] if self._health else ()
        return Slot(self.stats(candidate.provider.name), self._probes, probes, self._queue)

    def _is_half_open(self, key: tuple[str, str], now: float) -> bool:
        health = self._health.get(key)
        return health is not None and health.circuit(now) is Circuit.HALF_OPEN

    async def slot_freed(self, within_s: float) -> None:
        """Return when a place may be free, or after `within_s`."""
        freed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue[freed] = None
        try:
            async with asyncio.timeout(within_s):
                await freed
        except TimeoutError:
            return
        finally:
            self._queue.pop(freed, None)

    @property
    def full(self) -> bool:
        """No request more may come in."""
        return self.in_flight >= self.rules.max_in_flight

    async def room(self, now: Callable[[], float]) -> float:
        """Wait, for a bounded time, until there is room; return how long it took."""
        began = now()
        while self.full and (left_s := began + self.rules.queue_s - now()) > 0:
            await self.slot_freed(left_s)
        return now() - began

    def __enter__(self) -> Self:
        """Hold a place in the balancer as a whole."""
        self.in_flight += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.in_flight -= 1
        if self._queue:
            _wake(self._queue)

    # What was learnt

    def stats(self, name: str) -> ProviderStats:
        stats = self._ledgers.get(name)
        if stats is None:
            stats = self._ledgers[name] = ProviderStats()
        return stats

    def content_began(self, candidate: Candidate, took_s: float, now: float) -> None:
        """The candidate's answer has begun."""
        stats = self.stats(candidate.provider.name)
        stats.first_content_s = peak_ewma(stats.first_content_s, took_s, now - stats.first_content_at)
        stats.first_content_at = now
        stats.latest_first_content_s = took_s

    def observe(
        self, candidate: Candidate, outcome: Outcome, verdict: Verdict, *, began: float, now: float, wall: float
    ) -> None:
        """Learn from how an attempt ended."""
        stats = self.stats(candidate.provider.name)
        if verdict.mark.good:
            stats.successes += 1
            took_s, known_s = now - began, stats.duration_s
            stats.duration_s = known_s * 0.8 + took_s * 0.2 if known_s else took_s
            self.budget.earn()
            if not self._health:
                return
        elif verdict.mark is Mark.NONE:
            return
        else:
            stats.failures += 1
            stats.last_error = _last_error(outcome, verdict, wall)
        self._learn(candidate, verdict, began, now, wall)

    def _learn(self, candidate: Candidate, verdict: Verdict, began: float, now: float, wall: float) -> None:
        name = candidate.provider.name
        good = verdict.mark.good
        if good:  # a good answer speaks for the provider and for the model
            keys = [key for key in _own_keys(candidate) if key in self._health]
        else:
            within = {Scope.PROVIDER: "", Scope.MODEL: candidate.model, Scope.COUNTING: COUNTING}
            keys = [(name, within[verdict.scope])]
            if len(self._health) >= HEALTHS_MAX:
                self._forget_models()
        for key in keys:
            before = self._health.get(key, _NEW)
            after = observe(before, verdict, now, self._policy, self.rng.random(), began)
            self._health[key] = after
            if good and before.cooldown_until and not after.cooldown_until:
                self.bus.emit(events.ProviderRecovered(wall, name, key[1]))
                _wake(self._queue)
            elif not good and after.cooldown_until > max(before.cooldown_until, now):
                cooldown_s = after.cooldown_until - now
                self.bus.emit(
                    events.CooldownStarted(
                        wall, name, cooldown_s, verdict.reason, after.failures, key[1], verdict.needs_operator
                    )
                )

    def _forget_models(self) -> None:
        """Make room among the models: those go whose rest is over first."""
        models = [key for key in self._health if key[1]]
        for key in sorted(models, key=lambda key: self._health[key].cooldown_until)[: HEALTHS_MAX // 2]:
            del self._health[key]

    # Pins

    def pin(self, candidate: Candidate, request: Request, route: Route, now: float) -> None:
        """The conversation's prompt cache is warm at this provider now."""
        if request.conversation is not None and self.rules.sticky:
            self._pins.put((request.conversation, route.pattern), candidate.provider.name, now)

    def _pinned(self, request: Request, route: Route, now: float) -> str | None:
        if request.conversation is None or not self.rules.sticky:
            return None
        return self._pins.get((request.conversation, route.pattern), now)

    # Drills

    def drill(self, name: str, drill: Drill | None) -> None:
        """Order a provider to misbehave, or to stop doing so. Raises `KeyError` for no such provider."""
        if name not in self.config.providers:
            raise KeyError(name)
        self.stats(name).drill = drill

    # Showing

    def health_of(self, provider: Provider, now: float) -> tuple[str, Health]:
        """Return a provider's state in the words of `GET /providers`, and its health."""
        keys = [key for key in self._health if key[0] == provider.name]
        if not provider.enabled:
            return "disabled", self._health.get((provider.name, ""), _NEW)
        whole = self._health.get((provider.name, ""), _NEW)
        if any(key in self._probes and key[1] != COUNTING for key in keys):
            return "probing", whole
        if whole.circuit(now) is Circuit.OPEN:
            return "resting", whole
        return "healthy", whole

    def cooling_models(self, name: str, now: float) -> dict[str, float]:
        """Return the models of a provider that rest on their own, with the seconds left."""
        return {
            model: round(health.cooldown_until - now, 1)
            for (owner, model), health in self._health.items()
            if owner == name and model and health.circuit(now) is Circuit.OPEN
        }


class _Loads(Mapping[str, Load]):
    """The fleet's ledgers, as strategies see them."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def __getitem__(self, name: str) -> Load:
        stats = self._fleet.stats(name)
        return Load(stats.in_flight, stats.first_content_s)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fleet.config.providers)

    def __len__(self) -> int:
        return len(self._fleet.config.providers)


def _keys(candidate: Candidate) -> tuple[tuple[str, str], ...]:
    """Return what has to be well for a candidate to be asked: the provider, its model, its counting."""
    name = candidate.provider.name
    if candidate.operation.counts:
        return ((name, ""), (name, candidate.model), (name, COUNTING))
    return ((name, ""), (name, candidate.model))


def _own_keys(candidate: Candidate) -> tuple[tuple[str, str], ...]:
    """Return what a good answer of a candidate speaks for. Who can count may yet be unable to answer."""
    keys = _keys(candidate)
    return keys[2:] or keys


_NEW = Health()
_NOBODY = View(0, random.Random())


def _secrets(config: Config) -> tuple[str, ...]:
    """Return every secret of the file: none of them may be in anything that leaves us."""
    ours = (*config.settings.auth.keys, *config.settings.auth.admin_keys)
    theirs = (secret for provider in config.providers.values() for secret in secrets_of(provider))
    return tuple(sorted({*ours, *theirs}, key=len, reverse=True))


def _last_error(outcome: Outcome, verdict: Verdict, wall: float) -> dict[str, Any]:
    fault = getattr(outcome, "fault", None)
    return {
        "kind": fault.kind if fault else getattr(outcome, "cause", "error"),
        "status": fault.status if fault else None,
        "message": verdict.reason,
        "at": wall,
    }
