"""Which requests a worker has begun and not ended, in shared memory: if it is killed, the supervisor ends them.

A row holds what its writer says of a request, as bytes. There are so many rows; what has none is not ended by anybody.
"""

from __future__ import annotations

from balancer.sharing.layout import IN_FLIGHT_BYTES, IN_FLIGHT_ROWS, WORD
from balancer.sharing.memory import Memory

_MOST_BYTES = IN_FLIGHT_BYTES - WORD


class InFlightRows:
    """The rows of one worker."""

    def __init__(self, memory: Memory, worker: int) -> None:
        self._buffer = memory.buffer
        self._words = memory.words
        start = memory.layout.in_flight + worker * IN_FLIGHT_ROWS * IN_FLIGHT_BYTES
        self._free = [start + row * IN_FLIGHT_BYTES for row in reversed(range(IN_FLIGHT_ROWS))]
        self._rows: dict[str, int] = {}

    def began(self, request_id: str, data: bytes) -> None:
        """Note that a request has begun."""
        if not self._free or len(data) > _MOST_BYTES:
            return
        self._rows[request_id] = at = self._free.pop()
        self._buffer[at + WORD : at + WORD + len(data)] = data
        self._words[at >> 3] = len(data)

    def ended(self, request_id: str) -> None:
        """Note that a request has ended."""
        at = self._rows.pop(request_id, None)
        if at is not None:
            self._words[at >> 3] = 0
            self._free.append(at)


def left(memory: Memory, worker: int) -> list[bytes]:
    """Return what a worker has begun and not ended, and forget it: the worker has ended."""
    found = []
    start = memory.layout.in_flight + worker * IN_FLIGHT_ROWS * IN_FLIGHT_BYTES
    for at in range(start, start + IN_FLIGHT_ROWS * IN_FLIGHT_BYTES, IN_FLIGHT_BYTES):
        size = memory.words[at >> 3]
        if 0 < size <= _MOST_BYTES:
            found.append(memory.buffer[at + WORD : at + WORD + size])
        if size:
            memory.words[at >> 3] = 0
    return found
