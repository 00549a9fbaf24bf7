"""What is known of the providers, kept apart from the balancer's own tables: from its events, and from what was said."""

from __future__ import annotations

from typing import TypeAlias

from simulation.upstream import EDGE_S

from balancer.events import (
    CooldownStarted,
    Event,
    ProviderPaused,
    ProviderRecovered,
    ProviderResumed,
    ProviderWoken,
)
from balancer.model import Candidate

Key: TypeAlias = tuple[str, str, str]
"""Provider, scope, and the model where the scope is one."""


def needed(candidate: Candidate) -> tuple[Key, ...]:
    """Return what has to be usable for a candidate to be asked."""
    name = candidate.provider.name
    keys = (name, "provider", ""), (name, "model", candidate.model)
    return (*keys, (name, "counting", "")) if candidate.operation.counts else keys


def tested(candidate: Candidate) -> tuple[Key, ...]:
    """Return what a good answer of a candidate proves."""
    return ((candidate.provider.name, "counting", ""),) if candidate.operation.counts else needed(candidate)


class Knowledge:
    """Which circuits are not closed, who is paused, and what is being probed."""

    def __init__(self) -> None:
        self.until: dict[Key, float] = {}
        """Circuits that are not closed, and when their cooldown ends."""
        self.named: dict[Key, float] = {}
        """Until when the provider itself asked to be left in peace."""
        self.paused: set[str] = set()
        self.probes: dict[Key, int] = {}
        self.shown: set[Key] = set()
        """Of those, what has begun to answer: others need not wait for the end of that answer."""
        self.troubled: dict[str, float] = {}
        """When a provider was last paused, or its health last changed for the worse or the better."""
        self.secrets: dict[str, str] = {}
        """The present keys of providers whose key was changed."""

    def was_replaced(self, candidate: Candidate) -> bool:
        """Say whether a provider has another key by now: what was answered to the old one says nothing of it."""
        provider = candidate.provider
        return self.secrets.get(provider.name, provider.secret) != provider.secret

    def told(self, event: Event, now: float) -> None:
        """Learn from an event."""
        if isinstance(event, CooldownStarted):
            self.until[event.provider, event.scope, event.model] = now + event.cooldown_s
        elif isinstance(event, ProviderRecovered):
            self.until.pop((event.provider, event.scope, event.model), None)
        elif isinstance(event, ProviderWoken):
            self.forget(event.provider)
        elif isinstance(event, ProviderPaused):
            self.paused.add(event.provider)
        elif isinstance(event, ProviderResumed):
            self.paused.discard(event.provider)
        else:
            return
        self.troubled[event.provider] = now

    def forget(self, provider: str) -> None:
        """A person, or another key, says that the provider works."""
        for known in (self.until, self.named):
            for key in [key for key in known if key[0] == provider]:
                del known[key]

    def usable(self, candidate: Candidate, now: float) -> bool | None:
        """Say whether a candidate may be asked; None: it is about to change."""
        if candidate.provider.name in self.paused:
            return False
        said: bool | None = True
        for key in needed(candidate):
            until = self.until.get(key)
            if until is None:
                continue
            if now < until - EDGE_S:
                return False
            if now < until + EDGE_S:
                said = None
            elif self.probes.get(key) and key not in self.shown:
                return False
        return said

    def closed(self, candidate: Candidate) -> bool:
        """Say whether nothing is held against a candidate, and it is not paused."""
        return candidate.provider.name not in self.paused and not any(key in self.until for key in needed(candidate))

    def half_open(self, candidate: Candidate, now: float) -> list[Key]:
        """Return what a request to this candidate would probe."""
        return [key for key in tested(candidate) if (until := self.until.get(key)) is not None and now >= until]
