"""The retry budget: an outage must not be amplified by retries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Budget:
    """One bucket of retries for the whole balancer: an outage is not to be amplified."""

    capacity: float = 10.0
    tokens: float = 10.0
    earned_per_success: float = 0.2

    def earn(self) -> None:
        """A request succeeded."""
        if self.tokens < self.capacity:
            self.tokens = min(self.capacity, self.tokens + self.earned_per_success)

    def spend(self) -> bool:
        """Take a token for a retry; False: there is none."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True
