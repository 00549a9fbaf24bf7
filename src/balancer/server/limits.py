"""How long clients may take, how much they may send before a body, and the timer that a body runs against."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

TIMER_SLACK_S = 0.001
"""A timer may run this much early: that is the resolution of the event loop's clock."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds on what a client may do before its request is whole."""

    head_s: float = 30.0
    """How long a head may take to come whole, and how long a new connection may say nothing."""
    head_max_bytes: int = 64 * 1024
    """The longest request line with headers, and the longest trailers. Claude Code's head has 2 KB."""
    body_idle_s: float = 30.0
    """A body of which nothing came for this long is given up."""
    body_min_bytes_per_s: float = 256.0
    """So is one that comes more slowly than this on average, once `body_idle_s` are over."""
    watch_after_s: float = 0.03
    """When to begin watching whether a client behind ASGI leaves. That takes a task: short answers do without."""


class BodyTimer:
    """Calls `on_late` once when the body of a request has stopped, or drips.

    It is lazy: as long as a body comes, and when it has ended, the timer runs on and looks only when it fires.
    `asyncio.timeout` costs ten times as much.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: ClientLimits, on_late: Callable[[], None]) -> None:
        self._loop = loop
        self._limits = limits
        self._on_late = on_late
        self._began_s = 0.0
        self._heard_s = 0.0
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self.waiting = False
        """A body is being received. Set it to False when the body is whole."""

    def add(self, size: int) -> None:
        """`size` bytes more have come; with the first of a body, its time begins."""
        self._heard_s = self._loop.time()
        if self.waiting:
            self._bytes += size
            return
        self.waiting = True
        self._began_s, self._bytes = self._heard_s, size
        if self._timer is None:
            self._timer = self._loop.call_later(self._limits.body_idle_s, self._look)

    def close(self) -> None:
        """Stop for good."""
        self.waiting = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self.waiting:
            return
        left_s = self._left_s(self._loop.time())
        if left_s > TIMER_SLACK_S:
            self._timer = self._loop.call_later(left_s, self._look)
            return
        self.waiting = False
        self._on_late()

    def _left_s(self, now: float) -> float:
        """Return how long the next bytes may still take; 0 or less: the body is late."""
        limits, waited_s = self._limits, now - self._began_s
        if waited_s >= limits.body_idle_s and self._bytes < waited_s * limits.body_min_bytes_per_s:
            return 0.0
        return self._heard_s + limits.body_idle_s - now
