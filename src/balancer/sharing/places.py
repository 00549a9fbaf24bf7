"""Places in shared memory: each worker counts in a column of its own what it holds, and reads those of all."""

from __future__ import annotations

import logging
from typing import Protocol

from balancer.sharing import layout
from balancer.sharing.layout import WORD
from balancer.sharing.memory import Memory

_log = logging.getLogger(__name__)

NO_ROOM = "the table of the workers has no room for more names"


class SharedPlace:
    """The places of one name, in one row."""

    __slots__ = ("_cells", "_freed", "_memory", "_worker", "_workers")

    def __init__(self, memory: Memory, row: int, worker: int) -> None:
        start = (memory.layout.places + row * memory.layout.place_bytes) // WORD + 1
        self._memory = memory
        self._cells = memory.words[start : start + memory.workers]
        freed = memory.layout.freed // WORD
        self._freed = memory.words[freed : freed + memory.workers]
        self._worker = worker
        self._workers = memory.workers

    def held(self) -> int:
        """Return how many are held by all workers."""
        return sum(self._cells)

    def take(self, limit: int) -> bool:
        """Take a place if fewer than `limit` are held by all workers; say whether there was one.

        Far from the limit nobody can be in the way: each worker takes one at a time. Near to it the lock decides, so
        that neither two take the last place nor both leave it.
        """
        cells, worker = self._cells, self._worker
        held = sum(cells)
        if held >= limit:
            return False
        if held + self._workers <= limit:
            cells[worker] += 1
            if held < limit >> 1 or sum(cells) <= limit:
                return True
            cells[worker] -= 1  # this process was held up, and others have taken them all meanwhile
        locked = self._memory.lock()
        try:
            if sum(cells) >= limit:
                return False
            cells[worker] += 1
            return True
        finally:
            if locked:
                self._memory.unlock()

    def take_over(self) -> None:
        """Take a place, however many are held."""
        self._cells[self._worker] += 1

    def give_back(self) -> None:
        """Give back a place that was taken."""
        self._cells[self._worker] -= 1
        self._freed[self._worker] += 1

    def turn(self) -> int:
        """Return the next number of a sequence, if this row is one."""
        cells = self._cells
        number = sum(cells)
        cells[self._worker] += 1
        return number


class OwnPlace:
    """The places of one name, as far as this worker knows: the table has no row for it."""

    def __init__(self, workers: int) -> None:
        self._held = 0
        self._workers = workers

    def held(self) -> int:
        """Return how many are held by this worker."""
        return self._held

    def take(self, limit: int) -> bool:
        """Take a place of this worker's share."""
        if self._held >= max(1, limit // self._workers):
            return False
        self._held += 1
        return True

    def take_over(self) -> None:
        """Take a place, however many are held."""
        self._held += 1

    def give_back(self) -> None:
        """Give back a place that was taken."""
        self._held -= 1

    def turn(self) -> int:
        """Return the next number of a sequence."""
        self._held += 1
        return self._held - 1


class Counted(Protocol):
    """A place that counts turns as well."""

    def held(self) -> int: ...

    def take(self, limit: int) -> bool: ...

    def take_over(self) -> None: ...

    def give_back(self) -> None: ...

    def turn(self) -> int: ...


class Places:
    """All places, by name."""

    def __init__(self, memory: Memory, worker: int) -> None:
        self._memory = memory
        self._worker = worker
        self._known: dict[str, Counted] = {}
        freed = memory.layout.freed
        self._freed_span = slice(freed, freed + memory.workers * WORD)
        self._freed = memory.buffer[self._freed_span]
        self.full = False
        """There was a name for which the table had no row."""

    def __getitem__(self, name: str) -> Counted:
        place = self._known.get(name)
        if place is None:
            row = self._row(self._memory.hash_of(name))
            if row is None and not self.full:
                self.full = True
                _log.warning("%s; of further ones each worker counts its share by itself", NO_ROOM)
            place = OwnPlace(self._memory.expected) if row is None else SharedPlace(self._memory, row, self._worker)
            self._known[name] = place
        return place

    def freed(self) -> bool:
        """Say whether any worker has given a place back since this was last asked."""
        now = self._memory.buffer[self._freed_span]
        if now == self._freed:
            return False
        self._freed = now
        return True

    def clear(self, worker: int) -> None:
        """Give back what this worker held: it has ended."""
        memory = self._memory
        step, start = memory.layout.place_bytes // WORD, memory.layout.places // WORD
        for row in range(layout.PLACE_ROWS):
            at = start + row * step
            if memory.words[at] and memory.words[at + 1 + worker]:
                memory.words[at + 1 + worker] = 0
        memory.words[memory.layout.freed // WORD + worker] += 1

    def _row(self, name: int) -> int | None:
        """Return the row of a name, a new one if it has none; None: there is no room."""
        row, found = self._find(name)
        if found or row is None:
            return row
        if not self._memory.lock():
            return None
        try:
            row, found = self._find(name)
            if not found and row is not None:
                self._memory.words[self._at(row)] = name
            return row
        finally:
            self._memory.unlock()

    def _find(self, name: int) -> tuple[int | None, bool]:
        """Return the row of a name, or the one that it may have."""
        for n in range(layout.PLACE_ROWS):
            row = (name + n) % layout.PLACE_ROWS
            has = self._memory.words[self._at(row)]
            if has in (0, name):
                return row, has == name
        return None, False

    def _at(self, row: int) -> int:
        return (self._memory.layout.places + row * self._memory.layout.place_bytes) // WORD
