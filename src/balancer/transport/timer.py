"""One timer for all the waits of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

SLACK_S = 0.001
"""An event loop may call a little early; so little before its time a wait is over all the same."""

NEVER = float("inf")


class LazyTimer:
    """Calls `on_due` when a deadline has passed.

    Most deadlines are moved on long before they pass, by the next byte or the next exchange. So moving one on is one
    assignment, and the timer is not set anew: when it goes off it looks how much is left. (A timer a wait would cost
    more than the wait itself.) Whoever waits assigns `deadline`, and calls `set` only if it lies before `due`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[], None]) -> None:
        self._loop = loop
        self._on_due = on_due
        self._handle: asyncio.TimerHandle | None = None
        self.deadline = 0.0
        """On the loop's clock."""
        self.due = NEVER
        """When the timer goes off; `NEVER`: it is not set."""

    def set(self) -> None:
        """Go off at `deadline`."""
        self.cancel()
        self.due = self.deadline
        self._handle = self._loop.call_at(self.due, self._look)

    def cancel(self) -> None:
        """Do not go off."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self.due = NEVER

    def _look(self) -> None:
        self._handle, self.due = None, NEVER
        if self._loop.time() < self.deadline - SLACK_S:
            self.set()
        else:
            self._on_due()
