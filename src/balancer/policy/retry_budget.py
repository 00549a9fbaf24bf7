"""The retry budget: an outage must not be amplified by retries.

There is one for each process: with several workers each has its own, and an outage may cost each of them its tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Budget:
    """One bucket of retries for the whole balancer: an outage is not to be amplified."""

    capacity: float = 10.0
    tokens: float = 10.0
    earned_per_success: float = 0.2
    earned_at: float = -math.inf
    """When a request last succeeded, on the driver's clock."""

    def earn(self, now: float) -> None:
        """A request succeeded."""
        self.earned_at = now
        if self.tokens < self.capacity:
            self.tokens = min(self.capacity, self.tokens + self.earned_per_success)

    def spend(self) -> bool:
        """Take a token for a retry; False: there is none."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True
