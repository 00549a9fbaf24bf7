"""What has happened with each provider, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from balancer.dialects.simulated.faults import Drill
from balancer.model import Usage


@dataclass(slots=True)
class ProviderStats:
    """What has happened with one provider, in numbers. Survives a reload."""

    requests: int = 0
    successes: int = 0
    failures: int = 0
    in_flight: int = 0
    usage: dict[str, int] = field(
        default_factory=lambda: {"input": 0, "output": 0, "cache_read": 0, "cache_creation": 0}
    )
    first_content_s: float = 0.0
    """Peak EWMA of the time to first substance."""
    first_content_at: float = 0.0
    latest_first_content_s: float | None = None
    duration_s: float = 0.0
    """EWMA of the whole attempt."""
    last_error: dict[str, Any] | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    """The dialect's own."""
    drill: Drill | None = None

    def count(self, usage: Usage) -> None:
        """Add what an answer used."""
        total = self.usage
        if count := usage.input_tokens:
            total["input"] += count
        if count := usage.output_tokens:
            total["output"] += count
        if count := usage.cache_read_tokens:
            total["cache_read"] += count
        if count := usage.cache_creation_tokens:
            total["cache_creation"] += count
