"""Whether the event loop stands still: its lag as a number, and in the log where it stood.

One loop serves everybody, so whatever keeps it for long keeps all. A timer on the loop is due four times a second; how
late it comes is the lag. A thread looks at the loop's stack while the timer is late, as nobody can tell afterwards
where it was. Both tell of places in the code (file, function, line), never of values.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import PurePath
from types import FrameType

_log = logging.getLogger(__name__)
_log.setLevel(logging.INFO)

BEAT_S = 0.25
"""How often the timer is due."""
LATE_S = 0.25
"""A larger lag is logged."""
LONG_S = 5.0
"""After so long it is logged while the loop still stands: it may never go on."""
LOOK_S = 0.1
"""How often the thread looks whether the timer is late."""
SILENT_S = 10.0
"""So long after a line about a lag there is none about another; those are counted."""
FRAMES_MAX = 8
"""The innermost calls that are told."""
SAMPLES_MAX = 50


class LoopWatchdog:
    """Watches the loop that it is made on, until it is closed. `observe` is given each lag in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, observe: Callable[[float], None]) -> None:
        self._loop = loop
        self._observe = observe
        self._thread_id = threading.get_ident()
        self._due = time.monotonic() + BEAT_S
        self._computed_s = time.thread_time()
        self._samples: Counter[str] = Counter()
        self._silent_until = 0.0
        self._untold = 0
        self._closed = threading.Event()
        self._timer = loop.call_later(BEAT_S, self._beat)
        self._thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching, and wait for the thread."""
        self._timer.cancel()
        self._closed.set()
        self._thread.join()

    # On the loop

    def _beat(self) -> None:
        now, computed_s = time.monotonic(), time.thread_time()
        lag_s = max(0.0, now - self._due)
        self._observe(lag_s)
        if lag_s > LATE_S:
            samples, self._samples = self._samples, Counter()
            self._tell(now, lag_s, computed_s - self._computed_s, samples)
        self._computed_s = computed_s
        self._due = now + BEAT_S
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    def _tell(self, now: float, lag_s: float, computed_s: float, samples: Counter[str]) -> None:
        """Log a lag. Where the loop hardly computed, the machine was busy or the process was stopped: no warning."""
        if now < self._silent_until:
            self._untold += 1
            return
        where = samples.most_common(1)[0][0] if samples else "unknown: it was over before anybody looked"
        more = f"; {self._untold} lags before it were not logged" if self._untold else ""
        level = logging.WARNING if computed_s > LATE_S else logging.INFO
        _log.log(
            level, "the event loop was late by %.2f s and computed for %.2f s; it stood in %s%s",
            lag_s, computed_s, where, more,
        )  # fmt: skip
        self._silent_until, self._untold = now + SILENT_S, 0

    # In the thread

    def _watch(self) -> None:
        told_of = 0.0
        while not self._closed.wait(LOOK_S):
            due = self._due
            late_s = time.monotonic() - due
            if late_s < LOOK_S:
                continue
            where = self._where()
            if self._samples.total() < SAMPLES_MAX:
                self._samples[where] += 1
            if late_s > LONG_S and told_of != due:
                told_of = due
                _log.warning("the event loop has been late for more than %.0f s; it stands in %s", LONG_S, where)

    def _where(self) -> str:
        frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001 # there is no other way to see it
        return stack_of(frame)


def stack_of(frame: FrameType | None) -> str:
    """Return the innermost calls of a stack as `file:function:line`, the innermost first."""
    calls: list[str] = []
    while frame is not None and len(calls) < FRAMES_MAX:
        file = "/".join(PurePath(frame.f_code.co_filename).parts[-2:])
        calls.append(f"{file}:{frame.f_code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(calls) or "no Python code"
