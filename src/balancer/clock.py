"""Time as an argument: what needs a clock is handed one."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for durations, one for dates."""

    def now(self) -> float:
        """Return monotonic seconds: for deadlines and durations only."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch: for what people read, and for what has a date."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()
