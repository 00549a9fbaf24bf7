"""Ends what ends by itself: injected faults when their time is up, and long cooldowns when a probe proves it right.

One task, off the way of every request. It sleeps until something is due, and looks again when something happens to a
provider. What is probed, when, and what an answer proves, stands in `policy/probing.py`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from balancer import dialects, events
from balancer.clock import Clock
from balancer.dialect import FlowFailed, Incapable
from balancer.model import Fault, Operation, Provider
from balancer.policy import probing
from balancer.policy.routes import model_for
from balancer.state.fleet import Fleet
from balancer.transport import TransportError

_log = logging.getLogger(__name__)

WITHIN_S = 5.0
"""How long a probe may take."""

OPERATIONS = (Operation.MODELS, Operation.COUNT_TOKENS)
"""What costs nothing; the second is asked where a provider lacks the first."""


class Asks(Protocol):
    """What can ask a provider a question (`Relay`)."""

    fleet: Fleet

    async def ask_free(self, provider: Provider, operation: Operation, model: str, within_s: float) -> bytes | Fault:
        """Return the answer, or how it was refused. Raises what keeps it from being asked or answered."""
        ...


class _Plan(msgspec.Struct):
    """The probes of one cooldown."""

    opened_at: float
    due_at: float | None
    denied: bool = False
    """A probe was denied access: the endpoint checks who asks."""


class Recovery:
    """Looks after providers that cool down, and after injected faults."""

    KINDS = (
        events.CooldownStarted,
        events.ProviderRecovered,
        events.ProviderWoken,
        events.ProviderPaused,
        events.ProviderResumed,
        events.Reloaded,
        events.Drilled,
    )
    """The events that it has to be told."""

    def __init__(
        self, relay: Asks, clock: Clock, rng: random.Random, at_s: Sequence[float] = probing.PROBE_AT_S
    ) -> None:
        self._relay = relay
        self._fleet = relay.fleet
        self._clock = clock
        self._rng = rng
        self._at_s = at_s
        self._plans: dict[str, _Plan] = {}
        self._believed: set[str] = set()
        """Providers whose cooldown a probe has ended, and that have not answered since."""
        self._deceptive: set[str] = set()
        """Providers that failed again after that: their probes prove nothing until they answer, or a person acts."""
        self._changed = asyncio.Event()

    def on_event(self, event: events.Event) -> None:
        """Note what happened to a provider, and look again at once."""
        match event:
            case events.CooldownStarted(provider=name, scope="provider") if name in self._believed:
                self._believed.discard(name)
                self._deceptive.add(name)
            case events.ProviderRecovered(provider=name) | events.ProviderWoken(provider=name, by="operator"):
                self._believed.discard(name)
                self._deceptive.discard(name)
            case events.Reloaded():
                self.start_anew()
            case _:
                pass
        self._changed.set()

    def start_anew(self) -> None:
        """Forget what probes have shown: the configuration is another one."""
        self._believed.clear()
        self._deceptive.clear()
        self._changed.set()

    def look(self) -> None:
        """Look again at once: another worker has changed what is known of a provider."""
        self._changed.set()

    async def run(self) -> None:
        """Do what is due, for ever."""
        while True:
            self._changed.clear()
            wait_s = await self.step()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    async def step(self) -> float | None:
        """Do what is due now; return the seconds until something is due again. None: nothing is foreseen."""
        fleet = self._fleet
        fleet.learn()
        fleet.orders.end_due(self._clock.now(), self._clock.wall())
        self._replan()
        for provider in list(fleet.config.providers.values()):
            plan = self._plans.get(provider.name)
            if plan is None or plan.due_at is None or plan.due_at > self._clock.now():
                continue
            if fleet.may_probe(provider.name):
                await self._probe(provider, plan)
            else:
                plan.due_at = probing.next_probe(plan.opened_at, self._clock.now(), self._rng.random(), self._at_s)
        dues = [plan.due_at for plan in self._plans.values()] + [fleet.orders.next_end()]
        due_at = min((due for due in dues if due is not None), default=None)
        return None if due_at is None else max(0.0, due_at - self._clock.now())

    def _replan(self) -> None:
        """Keep a plan for every cooldown that is probed, and none for others."""
        now = self._clock.now()
        providers = self._fleet.config.providers
        for name in [name for name in self._plans if name not in providers]:
            del self._plans[name]
        for name, provider in providers.items():
            health = self._fleet.health.own_cooldown(name, now)
            if health is None or not probing.is_probed(health) or not self._may_probe(provider):
                self._plans.pop(name, None)
            elif (plan := self._plans.get(name)) is None or plan.opened_at != health.opened_at:
                due_at = probing.next_probe(health.opened_at, now, self._rng.random(), self._at_s)
                self._plans[name] = _Plan(health.opened_at, due_at)

    def _may_probe(self, provider: Provider) -> bool:
        """Say whether a provider may be asked something now that no client wants."""
        return (
            provider.enabled
            and not provider.passthrough  # there is no credential to ask with
            and provider.name not in self._deceptive
            and provider.name not in self._fleet.health.paused
            and not self._fleet.draining
        )

    async def _probe(self, provider: Provider, plan: _Plan) -> None:
        """Ask a provider something that costs nothing, and end its cooldown if the answer proves it right."""
        name, health = provider.name, self._fleet.health.own_cooldown(provider.name, self._clock.now())
        if health is None:
            return
        answered, fault = await self._ask(provider)
        now = self._clock.now()
        plan.due_at = probing.next_probe(plan.opened_at, now, self._rng.random(), self._at_s)
        still = self._fleet.health.own_cooldown(name, now)
        if still is None or still.opened_at != plan.opened_at or not self._may_probe(provider):
            return  # something has happened to it meanwhile
        if answered and probing.proves(health, fault, denied_before=plan.denied):
            self._fleet.orders.end_early(name, now, self._clock.wall())
            self._believed.add(name)
            del self._plans[name]
        plan.denied = plan.denied or probing.denies_access(fault)

    async def _ask(self, provider: Provider) -> tuple[bool, Fault | None]:
        """Return whether there was an answer of any kind, and how it was refused."""
        dialect = dialects.get(provider.type)
        model = model_for(self._fleet.config.routes, provider.name)
        fault: Fault | None = None
        answered = False
        for operation in OPERATIONS:
            if not dialect.supports(operation):
                continue
            try:
                async with asyncio.timeout(WITHIN_S):
                    answer = await self._relay.ask_free(provider, operation, model, WITHIN_S)
            except FlowFailed as error:
                answer = error.fault
            except Incapable:
                continue
            except (TimeoutError, TransportError):
                break
            except Exception:  # a fault of ours must not end the task that looks after all providers
                _log.exception("probing %s failed in a way that it should not", provider.name)
                break
            answered, fault = True, answer if isinstance(answer, Fault) else None
            if not probing.lacks_endpoint(fault):
                break
        return answered, fault
