"""The statistics of each provider: how often it was asked, what it answered, how fast it is."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from balancer.dialect import TypedState
from balancer.dialects.simulated.faults import Drill
from balancer.model import Outcome, Usage
from balancer.policy.strategies import Load, peak_ewma
from balancer.policy.verdicts import Verdict

ORGANIZATION_ID = b"anthropic-organization-id"
"""The header in which the Messages API names the organization whose account answered."""

ORGANIZATION_CHARS = 12
"""So much of the hash is kept and shown: enough to tell a fleet's organizations apart, and of no other use."""

ORGANIZATION_KEPT_S = 60.0
"""For so long no answer is looked at again: it would cost every answer a little."""

ORGANIZATION_ABSENT_S = 1.0
"""The same, where an answer named none."""

DURATION_KEEP = 0.8
"""The share of the old average that a new duration leaves."""


@dataclass(slots=True)
class ProviderStats:
    """One provider's statistics. They survive a reload."""

    requests: int = 0
    successes: int = 0
    failures: int = 0
    in_flight: int = 0
    usage: dict[str, int] = field(
        default_factory=lambda: {"input": 0, "output": 0, "cache_read": 0, "cache_creation": 0}
    )
    """Tokens, by kind."""
    first_content_s: float = 0.0
    """Peak EWMA of the time to first content; 0: there was none yet."""
    first_content_at: float = 0.0
    """When the latest answer's content began, on the driver's clock; 0: never."""
    latest_first_content_s: float | None = None
    duration_s: float = 0.0
    """EWMA of the duration of successful attempts."""
    last_error: dict[str, Any] | None = None
    """As `GET /providers` shows it: kind, status, message, at."""
    provider_state: TypedState = field(default_factory=TypedState)
    """What its type has learnt about it."""
    organization: str = ""
    """A short hash of the organization that its answers name; empty: they name none. Thinking is bound to it."""
    _organization_from: float = float("-inf")
    """When an answer is looked at for it again, on the driver's clock."""
    drill: Drill | None = None
    """The fault that is injected at present."""

    def begin_anew(self, *, another_server: bool) -> None:
        """Forget what was learnt of a provider that is asked otherwise now; `another_server`: also of its server."""
        self.last_error = None
        self.organization, self._organization_from = "", float("-inf")
        if another_server:
            self.provider_state = TypedState()
            self.first_content_s, self.latest_first_content_s, self.duration_s = 0.0, None, 0.0

    def content_began(self, took_s: float, now: float, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Note that an answer's content began at `now`, `took_s` after the request arrived, and what its head told.

        `headers` are looked at now and then only: an account seldom changes.
        """
        if now >= self._organization_from:
            self._learn_organization(headers, now)
        self.first_content_s = peak_ewma(self.first_content_s, took_s, now - self.first_content_at)
        self.first_content_at = now
        self.latest_first_content_s = took_s

    def _learn_organization(self, headers: Iterable[tuple[bytes, bytes]], now: float) -> None:
        named = next((value for name, value in headers if name == ORGANIZATION_ID), b"")
        self.organization = hashlib.sha256(named).hexdigest()[:ORGANIZATION_CHARS] if named else ""
        self._organization_from = now + (ORGANIZATION_KEPT_S if named else ORGANIZATION_ABSENT_S)

    def succeeded(self, took_s: float) -> None:
        """Count a good answer that took `took_s`."""
        self.successes += 1
        known_s = self.duration_s
        self.duration_s = known_s * DURATION_KEEP + took_s * (1 - DURATION_KEEP) if known_s else took_s

    def failed(self, outcome: Outcome, verdict: Verdict, wall: float) -> None:
        """Count a failure, and keep it as the last error."""
        self.failures += 1
        fault = getattr(outcome, "fault", None)
        self.last_error = {
            "kind": fault.kind if fault else getattr(outcome, "cause", "error"),
            "status": fault.status if fault else None,
            "message": verdict.reason,
            "at": wall,
        }

    def count(self, usage: Usage) -> None:
        """Add the tokens of one answer."""
        total = self.usage
        if count := usage.input_tokens:
            total["input"] += count
        if count := usage.output_tokens:
            total["output"] += count
        if count := usage.cache_read_tokens:
            total["cache_read"] += count
        if count := usage.cache_creation_tokens:
            total["cache_creation"] += count


StatsTable: TypeAlias = defaultdict[str, ProviderStats]
"""The statistics of all providers, by name. Not a class of ours: its methods would be called six times a request."""


class Loads(Mapping[str, Load]):
    """The providers' loads, as strategies see them. Each is made when it is asked for: most strategies never do."""

    def __init__(self, stats: StatsTable) -> None:
        self._stats = stats

    def __getitem__(self, name: str) -> Load:
        stats = self._stats.get(name, _NEW)
        return Load(stats.in_flight, stats.first_content_s)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stats)

    def __len__(self) -> int:
        return len(self._stats)


_NEW = ProviderStats()
