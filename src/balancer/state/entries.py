"""The entries of the health table, and which providers they speak of."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

from balancer.policy.circuit import Health
from balancer.policy.verdicts import Scope

HealthKey: TypeAlias = tuple[str, Scope, str | None]
"""Provider, scope, and the model where the scope is one: no name that a client sends is in another scope's place."""


class Entries(dict[HealthKey, Health]):
    """Health by key. Only what has failed has an entry, so `providers` is what most candidates need not look beyond."""

    def __init__(self) -> None:
        super().__init__()
        self.providers: Counter[str] = Counter()
        """How many entries each provider has; those without any are not in it."""

    def __setitem__(self, key: HealthKey, health: Health) -> None:
        if key not in self:
            self.providers[key[0]] += 1
        super().__setitem__(key, health)

    def __delitem__(self, key: HealthKey) -> None:
        super().__delitem__(key)
        self._drop(key[0])

    def pop(self, key: HealthKey, default: Health) -> Health:  # type: ignore[override] # always with a default here
        """Remove an entry and return it; `default` where there is none."""
        if key not in self:
            return default
        health = self[key]
        del self[key]
        return health

    def _drop(self, provider: str) -> None:
        self.providers[provider] -= 1
        if not self.providers[provider]:
            del self.providers[provider]
