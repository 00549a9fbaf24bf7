"""How long to wait before a worker is started again."""

from __future__ import annotations

FIRST_S = 1.0
MOST_S = 60.0
GOOD_S = 30.0
"""A worker that has served for so long was well: the next one is started at once."""


class Backoff:
    """The waits of one worker's place. The first restart is at once, then 1 s, and twice as long each time."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def ended(self, served_s: float) -> float:
        """Return the seconds to wait after a worker ended that had served for `served_s`; 0: it never did."""
        if served_s >= GOOD_S:
            self._next_s = 0.0
        wait_s = self._next_s
        if served_s == 0:
            wait_s = max(wait_s, FIRST_S)
        self._next_s = min(MOST_S, max(FIRST_S, wait_s * 2))
        return wait_s
