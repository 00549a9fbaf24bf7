"""A thread that writes entries, so that neither a disk nor a terminal can hold up the event loop.

Handing it an entry costs about a microsecond. An entry that comes faster than entries are written is dropped and
counted: a balancer that stops because its log can't be written would be worse than a gap in the log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar, cast

import msgspec

T = TypeVar("T")


class WriterLimits(msgspec.Struct, frozen=True):
    """How much waits to be written, and for how long."""

    max_waiting: int = 20_000
    """Entries beyond so many are dropped: it bounds the memory that a blocked disk or terminal can take."""
    flush_every_s: float = 0.05
    """How long entries gather before they are written together. It is too short for people to notice."""
    close_within_s: float = 2.0
    """How long closing waits for what is left. A blocked terminal may never take it."""


DEFAULT = WriterLimits()


class _End:
    """Ends the thread."""


class BackgroundWriter(Generic[T]):
    """Hands entries to `write`, in batches and in order, in a thread of its own.

    `write(batch, dropped)` gets at least one entry, and how many entries were dropped since its last call. What it
    raises goes to `on_error`, and the batch is lost.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[list[T], int], None],
        on_error: Callable[[Exception], None],
        limits: WriterLimits = DEFAULT,
    ) -> None:
        self._write = write
        self._on_error = on_error
        self._limits = limits
        self._max_waiting = limits.max_waiting
        self._waiting: SimpleQueue[T | _End] = SimpleQueue()
        self._closing = threading.Event()
        self._closed = False
        self._dropped = 0
        self._reported = 0
        """How many of those dropped `write` knows of."""
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

    def count_dropped(self, count: int) -> None:
        """Count entries that were dropped before they came here, together with those that are dropped here."""
        self._dropped += count

    def close(self) -> None:
        """Write what is waiting, for a bounded time, and end the thread. Entries that come later are dropped."""
        if self._closed:
            return
        self._closed, self._max_waiting = True, 0
        self._closing.set()
        self._waiting.put(_End())
        self._thread.join(self._limits.close_within_s)

    def _run(self) -> None:
        going = True
        while going:
            batch = [self._waiting.get()]
            self._closing.wait(self._limits.flush_every_s)
            batch += [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]  # no other thread takes any
            entries = cast("list[T]", batch)
            if self._closed:  # else the end can't be among them
                going = not any(isinstance(entry, _End) for entry in batch)
                entries = [entry for entry in batch if not isinstance(entry, _End)]
            if entries:
                self._hand_over(entries)

    def _hand_over(self, batch: list[T]) -> None:
        dropped = self._dropped - self._reported
        self._reported += dropped
        try:
            self._write(batch, dropped)
        except Exception as error:
            self._on_error(error)
