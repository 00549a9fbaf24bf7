"""What people order about a provider while the balancer runs: wake, pause, resume, and injected faults.

Nothing of this is configuration: it holds until it is taken back or the balancer ends, over reloads too. With several
workers the others follow the one that was told (`control/workers.py`). Every order raises
`KeyError` for a provider that is not configured.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from balancer.dialects.simulated.faults import Drill, due
from balancer.events import Bus, Drilled, ProviderPaused, ProviderResumed, ProviderWoken
from balancer.state.health import HealthTable
from balancer.state.stats import StatsTable


class Orders:
    """Carries orders out, and ends those that end by themselves."""

    def __init__(self, stats: StatsTable, health: HealthTable, bus: Bus, on_usable: Callable[[], None]) -> None:
        self._configured: Collection[str] = ()
        self._injected: set[str] = set()
        """Providers into whose answers a fault is, or was just, injected."""
        self._followed: set[str] = set()
        """Those of which another worker tells the end."""
        self._stats = stats
        self._health = health
        self._bus = bus
        self._on_usable = on_usable

    def apply(self, providers: Collection[str]) -> None:
        """Take orders for these providers from now on."""
        self._configured = providers

    def wake(self, provider: str, wall: float) -> None:
        """End a provider's cooldowns, in all scopes: it is asked again as if it had never failed."""
        self._check(provider)
        self._health.forget(provider)
        self._tell_woken(provider, wall, "operator")

    def pause(self, provider: str, wall: float) -> None:
        """Take a provider out until `resume`: it gets no new requests, and keeps those that it has."""
        self._check(provider)
        self._health.paused.add(provider)
        self._bus.emit(ProviderPaused(wall, provider))

    def resume(self, provider: str, wall: float) -> None:
        """Put a paused provider back."""
        self._check(provider)
        self._health.paused.discard(provider)
        self._bus.emit(ProviderResumed(wall, provider))
        self._on_usable()

    def follow(self, order: str, provider: str) -> None:
        """Carry out what another worker was told, and has logged: `wake`, `pause`, `resume`. The provider may be gone.

        What `wake` does to a provider's health is known already.
        """
        if order == "pause":
            self._health.paused.add(provider)
            return
        if order == "resume":
            self._health.paused.discard(provider)
        self._on_usable()

    def end_early(self, provider: str, now: float, wall: float) -> None:
        """End the cooldown of a provider as a whole: a probe has shown that its cause is gone."""
        self._health.end_early(provider, now)
        self._tell_woken(provider, wall, "probe")

    # Injected faults

    def inject(self, provider: str, drill: Drill | None, now: float, wall: float) -> None:
        """Inject a fault into a provider's answers; None: stop doing so. What an earlier one caused is undone."""
        self._check(provider)
        self._followed.discard(provider)
        self._set(provider, drill, now, wall, "off")
        if drill is not None:
            self._injected.add(provider)

    def follow_drill(self, provider: str, drill: Drill | None, now: float) -> None:
        """Inject the fault that another worker was told to, and has logged."""
        if provider not in self._configured:
            return
        self._stats[provider].drill = drill
        if drill is not None:
            self._injected.add(provider)
            self._followed.add(provider)
        else:
            self._injected.discard(provider)
            self._health.end_injected(provider, now)
            self._on_usable()

    def met(self, provider: str, now: float, wall: float) -> None:
        """Note that a request has met an injected fault; it may have been the last."""
        self._injected.add(provider)
        self.end_due(now, wall)

    def end_due(self, now: float, wall: float) -> None:
        """End the faults whose time or number of requests is used up, and undo the cooldowns that they caused."""
        for provider in sorted(self._injected):
            drill = self._stats[provider].drill
            if drill is None:
                self._undo(provider, now, wall)
            elif not due(drill, now):
                self._set(provider, None, now, wall, "over")

    def next_end(self) -> float | None:
        """Return when the next injected fault ends by its time; None: none does."""
        drills = (self._stats[provider].drill for provider in self._injected)
        return min((drill.until for drill in drills if drill and drill.until is not None), default=None)

    def _set(self, provider: str, drill: Drill | None, now: float, wall: float, end: str) -> None:
        """Replace the fault that is injected into a provider's answers, and undo what it has caused."""
        self._stats[provider].drill = drill
        fault, until = ("", end) if drill is None else (drill.fault, drill.in_words(now))
        if provider not in self._followed:
            self._bus.emit(Drilled(wall, provider, fault, until))
        self._undo(provider, now, wall)

    def _undo(self, provider: str, now: float, wall: float) -> None:
        self._injected.discard(provider)
        if self._health.end_injected(provider, now):
            self._tell_woken(provider, wall, "drill")

    def _tell_woken(self, provider: str, wall: float, by: str) -> None:
        self._bus.emit(ProviderWoken(wall, provider, by))
        self._on_usable()

    def _check(self, provider: str) -> None:
        if provider not in self._configured:
            raise KeyError(provider)
