"""The health of the providers: what has failed lately, what cools down, and what is being probed.

Health is kept for three scopes, each under its own key: a provider as a whole, one model of it, and its counting of
tokens. A candidate is usable when all scopes that it needs are. Only what has failed has an entry; while everything
is well the table is empty, and nobody pays for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

from balancer.events import Bus, CooldownStarted, ProviderRecovered
from balancer.model import Candidate, Provider, RefusalClass
from balancer.policy import circuit
from balancer.policy.circuit import Circuit, CooldownPolicy, Health
from balancer.policy.classify import is_model_unknown
from balancer.policy.exhausted import Failure
from balancer.policy.failover import Availability
from balancer.policy.remedies import in_words
from balancer.policy.verdicts import Proof, Scope, Statement, Trouble, Verdict
from balancer.state.entries import Entries, HealthKey
from balancer.state.stats import StatsTable
from balancer.state.suspects import Suspects

PROVEN_S = 60.0
"""A provider whose content began within this time, and that has not failed since, is known to work."""

MODELS_MAX = 1000
"""The most models whose health is kept: clients choose names, and each name that failed has an entry."""


class HealthTable:
    """The health of everything that has failed, by key; and the probes that are under way."""

    def __init__(self, stats: StatsTable, bus: Bus, rng: random.Random, on_recovery: Callable[[], None]) -> None:
        self.entries = Entries()
        """Empty: nothing has failed, or nothing since it recovered."""
        self.probes: dict[HealthKey, int] = {}
        """How many requests probe what is half-open; `admission.Slot` counts them."""
        self.shown: set[HealthKey] = set()
        """Of `probes`, those in which content has begun: others need not wait for the end of the answer."""
        self.paused: set[str] = set()
        """Providers that a person has taken out, by name: not configuration, so a reload leaves it."""
        self._without_faults: dict[HealthKey, Health] = {}
        """What the health would be without injected faults, where one has changed it."""
        self._suspects = Suspects()
        self._policy = CooldownPolicy()
        self._only_models: Mapping[str, frozenset[str]] = {}
        self._stats = stats
        self._bus = bus
        self._rng = rng
        self._on_recovery = on_recovery

    def apply(self, policy: CooldownPolicy, only_models: Mapping[str, frozenset[str]]) -> None:
        """Use this policy for cooldowns that begin from now on.

        `only_models` are all models that each provider is asked for, where these are known.
        """
        self._policy = policy
        self._only_models = only_models

    # What may be asked

    def availability(self, candidate: Candidate, now: float) -> Availability:
        """Return whether a candidate may be asked right now, and what else failover has to know of it."""
        stats = self._stats[candidate.provider.name]
        limit = candidate.provider.max_in_flight
        full = limit is not None and stats.in_flight >= limit
        if not self.entries and not self.paused:
            return Availability(True, full, 0.0, 0.0, 0.0 < stats.first_content_at > now - PROVEN_S, stats.in_flight)
        paused = candidate.provider.name in self.paused
        usable, cooldown_until, last_failure = not paused, 0.0, 0.0
        named_until, needs_operator, suspected_at = 0.0, False, 0.0
        for key in needed(candidate):
            health = self.entries.get(key)
            if health is None:
                continue
            last_failure = max(last_failure, health.last_failure)
            suspected_at = max(suspected_at, health.suspected_at)
            named_until = max(named_until, health.named_until)
            state = health.circuit(now)
            probed = state is Circuit.HALF_OPEN and key in self.probes and key not in self.shown
            if state is Circuit.OPEN or probed:
                usable = False
                needs_operator = needs_operator or health.needs_operator is not None
                cooldown_until = max(cooldown_until, health.cooldown_until)
        return Availability(
            usable=usable,
            full=full,
            cooldown_until=cooldown_until,
            last_failure=max(last_failure, suspected_at),
            proven=stats.first_content_at > max(last_failure, now - PROVEN_S),
            in_flight=stats.in_flight,
            paused=paused,
            named_until=named_until,
            needs_operator=needs_operator,
        )

    def half_open(self, candidate: Candidate, now: float) -> list[HealthKey]:
        """Return the keys that a request to this candidate probes."""
        return [
            key
            for key in _tested(candidate)
            if (health := self.entries.get(key)) is not None and health.circuit(now) is Circuit.HALF_OPEN
        ]

    # What was learnt

    def content_began(self, candidate: Candidate, began: float, now: float) -> None:
        """Note that content has begun of an answer to an attempt that began at `began`: what is probed works.

        An attempt that is older than the last failure shows nothing of the probes since.
        """
        for key in _tested(candidate):
            health = self.entries.get(key)
            if health is None:
                continue
            if key in self.probes and key not in self.shown and began >= health.last_failure:
                self.shown.add(key)
                self._on_recovery()
            if health.content_at <= health.last_failure:
                self.entries[key] = replace(health, content_at=now)

    def observe(
        self,
        candidate: Candidate,
        verdict: Verdict,
        began: float,
        now: float,
        wall: float,
        *,
        injected: bool,
        witness: int = 0,
        said: Statement | None = None,
    ) -> None:
        """Learn from an attempt that began at `began` and ended at `now`, well or badly (`verdict.mark`).

        `injected`: it met a fault that was ordered, so it says nothing about the provider (`end_injected`). `witness`
        names the request: a hash of its body; 0: not known. `said` is what the provider said.
        """
        if verdict.mark.good:
            keys = [key for key in _tested(candidate) if key in self.entries]
        else:
            if verdict.proof is Proof.LIKELY and self._is_the_requests(candidate, verdict, witness, now):
                self._make_room()
                key = _blamed(candidate, verdict.scope)
                self.entries[key] = replace(self.entries.get(key, HEALTHY), suspected_at=now)
                return
            keys = [_blamed(candidate, self._reach(candidate, verdict, now))]
            self._make_room()
            self.shown.difference_update(keys)
        for key in keys:
            before, chance = self.entries.get(key, HEALTHY), self._rng.random()
            seen = partial(circuit.observe, witness=witness, said=said)
            after = self.entries[key] = seen(before, verdict, now, self._policy, chance, began)
            if injected:
                self._without_faults.setdefault(key, before)
            elif (real := self._without_faults.get(key)) is not None:
                self._without_faults[key] = seen(real, verdict, now, self._policy, chance, began)
            self._announce(key, before, after, now, wall)

    def _is_the_requests(self, candidate: Candidate, verdict: Verdict, witness: int, now: float) -> bool:
        """Say whether it is the request on which this provider failed, since another has failed on it alike."""
        failure = verdict.reason.partition(" (")[0] if verdict.status is None else str(verdict.status)
        return self._suspects.met(witness, failure, candidate.provider.name, now)

    def _reach(self, candidate: Candidate, verdict: Verdict, now: float) -> Scope:
        """Return what a failure speaks against: overload of a second model is the whole provider's."""
        if verdict.scope is not Scope.MODEL or verdict.refusal is not RefusalClass.PROVIDER:
            return verdict.scope
        others = (
            health
            for (name, scope, model), health in self.entries.items()
            if name == candidate.provider.name and scope is Scope.MODEL and model != candidate.model
        )
        widened = any(one.status == verdict.status and one.circuit(now) is Circuit.OPEN for one in others)
        return Scope.PROVIDER if widened else Scope.MODEL

    def _announce(self, key: HealthKey, before: Health, after: Health, now: float, wall: float) -> None:
        """Emit that a cooldown began, was prolonged, or is over because of a good answer."""
        provider, scope, model = key
        if before.cooldown_until and not after.cooldown_until:
            self._bus.emit(ProviderRecovered(wall, provider, model or "", scope.value))
            self._on_recovery()
        elif after.cooldown_until > max(before.cooldown_until, now):
            trouble = after.needs_operator
            self._bus.emit(
                CooldownStarted(
                    wall,
                    provider,
                    after.cooldown_until - now,
                    after.reason,
                    after.failures,
                    model or "",
                    trouble is not None,
                    scope.value,
                    in_words(provider, trouble, after.reason) if trouble else "",
                )
            )

    def forget(self, provider: str) -> None:
        """Forget a provider's health in all scopes: a person says that it works, or it has a new key or address."""
        for key in [key for key in self.entries if key[0] == provider]:
            del self.entries[key]
            self._without_faults.pop(key, None)

    def end_injected(self, provider: str, now: float) -> bool:
        """Undo what injected faults have done to a provider's health; say whether that ended a cooldown."""
        ended = False
        for key in [key for key in self._without_faults if key[0] == provider]:
            before, real = self.entries.pop(key, HEALTHY), self._without_faults.pop(key)
            if real != HEALTHY:
                self.entries[key] = real
            ended = ended or before.cooldown_until > max(now, real.cooldown_until)
        return ended

    def end_early(self, provider: str, now: float) -> None:
        """End the cooldown of a provider as a whole before its time; its next request is a probe."""
        key = (provider, Scope.PROVIDER, None)
        if (health := self.entries.get(key)) is not None:
            self.entries[key] = circuit.end_early(health, now)

    def own_cooldown(self, provider: str, now: float) -> Health | None:
        """Return the health of a provider as a whole while it cools down for its own faults; None: it does not."""
        key = (provider, Scope.PROVIDER, None)
        health = self.entries.get(key)
        if health is None or key in self._without_faults or health.circuit(now) is not Circuit.OPEN:
            return None
        return health

    def _make_room(self) -> None:
        """Forget models, those whose cooldown ends first, if there are too many."""
        if len(self.entries) < MODELS_MAX:
            return
        models = [key for key in self.entries if key[1] is Scope.MODEL]
        for key in sorted(models, key=lambda key: self.entries[key].cooldown_until)[: MODELS_MAX // 2]:
            del self.entries[key]
            self._without_faults.pop(key, None)

    # What is shown

    def failures(self, candidates: Iterable[Candidate], now: float) -> list[Failure]:
        """Return what is known against each candidate: of several scopes what needs a person, or lasts longest."""
        return [self._failure(candidate, now) for candidate in candidates]

    def _failure(self, candidate: Candidate, now: float) -> Failure:
        name = candidate.provider.name
        if name in self.paused:
            return Failure(name, needs_operator=Trouble.PAUSED)
        known = [(key, health) for key in needed(candidate) if (health := self.entries.get(key)) and health.failures]
        if not known:
            return Failure(name)
        (_, scope, _), health = max(known, key=lambda one: (bool(one[1].needs_operator), one[1].cooldown_until))
        unknown = is_model_unknown(scope, health.status)
        left_s = max(0.0, health.cooldown_until - now)
        return Failure(name, health.reason, health.status, health.needs_operator, unknown, health.said, left_s)

    def recovery_s(self, candidates: Iterable[Candidate], now: float) -> float | None:
        """Return the seconds until the earliest of the candidates may be asked; None: there are none."""
        return min((self.availability(candidate, now).cooldown_until - now for candidate in candidates), default=None)

    def state_of(self, provider: Provider, now: float) -> tuple[str, Health]:
        """Return a provider's state in the words of `GET /providers`, and its health as a whole.

        Where all models that it is asked for cool down, so does the provider: until the first of them may be asked.
        """
        whole = self.entries.get((provider.name, Scope.PROVIDER, None), HEALTHY)
        if not provider.enabled:
            return "disabled", whole
        if provider.name in self.paused:
            return "paused", whole
        if any(name == provider.name and scope is not Scope.COUNTING for name, scope, _ in self.probes):
            return "probing", whole
        if whole.circuit(now) is Circuit.OPEN:
            return "resting", whole
        if provider.name not in self.entries.providers:  # nothing has failed; it may have many models
            return "healthy", whole
        only = self._only_models.get(provider.name, ())
        models = [self.entries.get((provider.name, Scope.MODEL, model), HEALTHY) for model in only]
        if models and all(model.circuit(now) is Circuit.OPEN for model in models):
            return "resting", min(models, key=lambda model: model.cooldown_until)
        return "healthy", whole

    def cooling_models(self, provider: str, now: float) -> dict[str, float]:
        """Return the provider's models that cool down on their own, with the seconds left."""
        if provider not in self.entries.providers:
            return {}
        return {
            model: round(health.cooldown_until - now, 1)
            for (name, _, model), health in self.entries.items()
            if name == provider and model is not None and health.circuit(now) is Circuit.OPEN
        }

    def counting_cooldown_s(self, provider: str, now: float) -> float:
        """Return for how long the provider is not asked to count tokens; 0: it is asked."""
        health = self.entries.get((provider, Scope.COUNTING, None), HEALTHY)
        return round(max(0.0, health.cooldown_until - now), 1)


HEALTHY = Health()


def needed(candidate: Candidate) -> tuple[HealthKey, ...]:
    """Return what has to be usable for this candidate to be asked."""
    name = candidate.provider.name
    whole, model = (name, Scope.PROVIDER, None), (name, Scope.MODEL, candidate.model)
    if candidate.operation.counts:
        return whole, model, (name, Scope.COUNTING, None)
    return whole, model


def _tested(candidate: Candidate) -> tuple[HealthKey, ...]:
    """Return what a good answer of this candidate proves. Counting proves counting alone: answers may still fail."""
    if candidate.operation.counts:
        return ((candidate.provider.name, Scope.COUNTING, None),)
    return needed(candidate)


def _blamed(candidate: Candidate, scope: Scope) -> HealthKey:
    """Return what a failure of this candidate with this scope speaks against."""
    return candidate.provider.name, scope, candidate.model if scope is Scope.MODEL else None
