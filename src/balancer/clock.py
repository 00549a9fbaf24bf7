"""Time as an argument: what needs a clock is handed one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Two clocks: one for durations, one for dates.

    Fields, not methods: a call of the system's own function costs half of a call through a method.
    """

    now: Callable[[], float] = time.monotonic
    """Monotonic seconds: for deadlines and durations only."""
    wall: Callable[[], float] = time.time
    """Seconds since the epoch: for what people read, and for what has a date."""


SYSTEM = Clock()
"""The machine's own."""
