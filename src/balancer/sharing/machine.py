"""What the workers of one machine share, as their supervisor has it: the memory, the hub, and who has which column."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from balancer.sharing import layout
from balancer.sharing.hub import Hub
from balancer.sharing.leases import lives
from balancer.sharing.memory import Memory, made
from balancer.sharing.protocol import VERSION
from balancer.sharing.reports import add_up
from balancer.sharing.table import ended
from balancer.sharing.worker import NOTHING, NUMBER, PLACE

SPARE_COLUMNS = 2
"""Beside two for each worker: while workers are replaced, the old ones still answer."""


class Machine:
    """Made once, before the first worker begins."""

    memory: Memory

    def __init__(self, fd: int, folder: Path, trouble: str = "") -> None:
        """`trouble`: why there is nothing to share; each worker says it, and goes on alone. Empty: there is."""
        self._fd = fd
        self._folder = folder
        self._trouble = trouble
        if not trouble:
            self.memory = Memory(fd)
        self.hub = Hub()
        self._given: dict[int, int] = {}
        """By column: the number of the worker for which it is."""

    @classmethod
    def create(cls, workers: int) -> Self:
        """Make what so many workers share. Raises nothing: workers that share nothing serve as well."""
        try:
            folder = Path(tempfile.mkdtemp(prefix="balancer-"))  # its owner's alone
        except OSError as error:
            return cls(-1, Path(), error.strerror or type(error).__name__)
        try:
            return cls(made(workers, min(layout.COLUMNS_MAX, 2 * workers + SPARE_COLUMNS)), folder)
        except (OSError, ValueError) as error:
            return cls(-1, folder, getattr(error, "strerror", None) or str(error))

    @property
    def _path(self) -> Path:
        return self._folder / "hub"

    def environment(self, worker: int) -> dict[str, str]:
        """Return the variables by which a worker that is about to begin finds it. `worker` is its number, from 1."""
        if self._trouble:
            return {NUMBER: str(worker), PLACE: f"{NOTHING}:{self._trouble}"}
        columns = range(self.memory.workers)
        free = [column for column in columns if column not in self._given]
        if not free:
            self._sweep(None)
            free = [column for column in columns if column not in self._given]
        if not free:
            return {NUMBER: str(worker), PLACE: f"{NOTHING}:there are too many workers"}
        column = min(free, key=lambda column: self.memory.words[self.memory.layout.news // layout.WORD + column])
        self._given[column] = worker
        return {NUMBER: str(worker), PLACE: f"{VERSION}:{self._fd}:{column}:{self._path}"}

    def descriptors(self) -> tuple[int, ...]:
        """Return the descriptors that workers inherit."""
        return () if self._trouble else (self._fd,)

    async def start(self) -> None:
        """Begin to serve workers. Where that can't be done they say that they can't reach it."""
        if not self._trouble:
            with contextlib.suppress(OSError):
                await self.hub.start(self._path)

    def worker_ended(self, worker: int) -> list[bytes]:
        """Give back what a worker had taken that has ended. Another one of its number may live.

        Returns what it said of the requests that it had begun and not ended.
        """
        if self._trouble:
            return []
        left = self._sweep(worker)
        if left is None:  # it ended before it came here
            for column in [c for c, number in self._given.items() if number == worker and not self._process(c)]:
                del self._given[column]
        return left or []

    def count(self, counters: Mapping[str, list[float]]) -> None:
        """Add to what ended workers have counted."""
        add_up(self.hub.ended, counters)

    async def close(self) -> None:
        """End."""
        await self.hub.close()
        if self._folder.name:
            shutil.rmtree(self._folder, ignore_errors=True)
        if not self._trouble:
            self.memory.close()
            os.close(self._fd)

    def _sweep(self, worker: int | None) -> list[bytes] | None:
        """Give back what ended processes had, of all workers or of this number; None: there was none."""
        found: list[bytes] | None = None
        for column, number in list(self._given.items()):
            pid = self._process(column)
            if worker not in (None, number) or not pid or lives(pid):
                continue
            self.memory.words[self.memory.layout.processes // layout.WORD + column] = 0
            del self._given[column]
            found = (found or []) + ended(self.memory, column)
            self.hub.worker_ended(column)
        return found

    def _process(self, column: int) -> int:
        return self.memory.words[self.memory.layout.processes // layout.WORD + column]
