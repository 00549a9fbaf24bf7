"""Leases in shared memory: what only one worker may have at a time, as the probe of a provider.

A lease ends when it is given back, when its time is over, or with the process that has it.
"""

from __future__ import annotations

import os
import time

from balancer.sharing import layout
from balancer.sharing.layout import LEASE_WORDS, WAYS, WORD
from balancer.sharing.memory import Memory

_HASH, _OWNER, _PID, _END = range(LEASE_WORDS)


class Leases:
    """All leases, as one worker sees them. `worker` -1: the supervisor, which has none."""

    def __init__(self, memory: Memory, worker: int) -> None:
        self._memory = memory
        self._owner = worker + 1
        self._pid = os.getpid()

    def lease(self, name: str, within_s: float) -> bool:
        """Take a lease; say whether it is this worker's now. Where nobody can be asked, it is."""
        memory = self._memory
        name_hash, now_ns = memory.hash_of(name), time.monotonic_ns()
        if not memory.lock():
            return True
        try:
            at = self._find(name_hash)
            if at is not None and self._is_anothers(at, now_ns):
                return False
            at = self._free(name_hash, now_ns) if at is None else at
            if at is not None:
                words = memory.words
                words[at + _OWNER] = 0
                words[at + _HASH], words[at + _PID] = name_hash, self._pid
                words[at + _END] = now_ns + int(within_s * 1e9)
                words[at + _OWNER] = self._owner
            return True
        finally:
            memory.unlock()

    def release(self, name: str) -> None:
        """Give a lease back; another's is not touched."""
        memory = self._memory
        at = self._find(memory.hash_of(name))
        if at is None or memory.words[at + _OWNER] != self._owner:
            return
        locked = memory.lock()
        if memory.words[at + _OWNER] == self._owner:
            memory.words[at + _OWNER] = 0
        if locked:
            memory.unlock()

    def leased(self, name: str) -> bool:
        """Say whether another worker has the lease."""
        at = self._find(self._memory.hash_of(name))
        return at is not None and self._is_anothers(at, time.monotonic_ns())

    def clear(self, worker: int) -> None:
        """End the leases of a worker that has ended."""
        words, start = self._memory.words, self._memory.layout.leases // WORD
        for at in range(start, start + layout.LEASE_SETS * WAYS * LEASE_WORDS, LEASE_WORDS):
            if words[at + _OWNER] == worker + 1:
                words[at + _OWNER] = 0

    def _is_anothers(self, at: int, now_ns: int) -> bool:
        words = self._memory.words
        owner, pid = words[at + _OWNER], words[at + _PID]
        if owner in (0, self._owner) or now_ns >= words[at + _END]:  # of an earlier process of this number: free
            return False
        return lives(pid)

    def _find(self, name_hash: int) -> int | None:
        """Return where the row of a name is, in words."""
        words, first = self._memory.words, self._first(name_hash)
        for at in range(first, first + WAYS * LEASE_WORDS, LEASE_WORDS):
            if words[at + _HASH] == name_hash:
                return at
        return None

    def _free(self, name_hash: int, now_ns: int) -> int | None:
        """Return where there is a row that nobody needs; None: there is none."""
        first = self._first(name_hash)
        for at in range(first, first + WAYS * LEASE_WORDS, LEASE_WORDS):
            if not self._memory.words[at + _OWNER] or self._memory.words[at + _END] <= now_ns:
                return at
        return None

    def _first(self, name_hash: int) -> int:
        return self._memory.layout.leases // WORD + name_hash % layout.LEASE_SETS * WAYS * LEASE_WORDS


def lives(pid: int) -> bool:
    """Say whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
