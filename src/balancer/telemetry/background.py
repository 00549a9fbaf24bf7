"""A thread that writes things down, so that no disk and no terminal can hold up the event loop.

Giving it an entry costs about a microsecond. What can't be written as fast as it comes is dropped
and counted: a balancer that stops because its log can't be written would be worse than a gap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar, cast

T = TypeVar("T")

FLUSH_EVERY_S = 0.05
"""How long entries gather before they are written together."""

MAX_WAITING = 20_000

CLOSE_WITHIN_S = 2.0
"""How long closing waits for what is left; a blocked terminal may never take it."""


class _End:
    """Ends the thread."""


class Scribe(Generic[T]):
    """Hands what it is given to `write`, in batches and in order, in a thread of its own.

    `write(batch, dropped)` is called with at least one entry, and with how many were dropped since
    it was last called. What it raises is told to `complain` and the batch is lost.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[list[T], int], None],
        on_error: Callable[[Exception], None],
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._write = write
        self._on_error = on_error
        self._max_waiting = max_waiting
        self._waiting: SimpleQueue[T | _End] = SimpleQueue()
        self._closing = threading.Event()
        self._closed = False
        self._dropped = 0
        self._told = 0
        # A daemon: a terminal that takes nothing must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many entries were never written because too many were waiting."""
        return self._dropped

    def put(self, entry: T) -> None:
        """Have `entry` written soon. Returns at once; from any thread; raises nothing."""
        waiting = self._waiting
        if waiting.qsize() < self._max_waiting:
            waiting.put(entry)
        else:
            self._dropped += 1

    def put_always(self, entry: T) -> None:
        """Have `entry` written, however many are waiting."""
        self._waiting.put(entry)

    def miss(self, count: int) -> None:
        """So many entries were dropped before they came here: they are told of with those that were dropped here."""
        self._dropped += count

    def close(self) -> None:
        """Write what is waiting, for at most `CLOSE_WITHIN_S`, and end the thread."""
        if self._closed:
            return
        self._closed, self._max_waiting = True, 0
        self._closing.set()
        self._waiting.put(_End())
        self._thread.join(CLOSE_WITHIN_S)

    def _run(self) -> None:
        going = True
        while going:
            batch = [self._waiting.get()]
            self._closing.wait(FLUSH_EVERY_S)
            batch += [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]  # nobody else takes any
            entries = cast("list[T]", batch)
            if self._closed:  # else the end can't be among them
                going = not any(isinstance(entry, _End) for entry in batch)
                entries = [entry for entry in batch if not isinstance(entry, _End)]
            if entries:
                self._hand_over(entries)

    def _hand_over(self, batch: list[T]) -> None:
        dropped = self._dropped - self._told
        self._told += dropped
        try:
            self._write(batch, dropped)
        except Exception as error:
            self._on_error(error)
