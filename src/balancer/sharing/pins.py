"""Pins in shared memory: who answered a conversation last. Any worker writes any of them, and the newest stands.

Each conversation has one row, by its keyed hash. If another one has the same row, the newer has it: then the older is
pinned at its own worker alone.
"""

from __future__ import annotations

import struct
import time

from balancer.sharing.layout import PIN
from balancer.sharing.memory import Memory
from balancer.sharing.protocol import Pinned

_row = struct.Struct("@H").unpack_from
"""Takes a row's number from a hash: there are as many rows as such numbers."""

_unpack, _PIN_BYTES = PIN.unpack_from, PIN.size


class SharedPins:
    """All pins."""

    def __init__(self, memory: Memory) -> None:
        self._buffer = memory.buffer
        self._start = memory.layout.pins
        self._digest_of = memory.digest_of

    def pin(self, conversation: str, provider: int, cached_s: float) -> None:
        """Note who has answered a conversation, just now."""
        digest, now_ns = self._digest_of(conversation), time.monotonic_ns()
        at = self._start + _row(digest)[0] * PIN.size
        PIN.pack_into(self._buffer, at, digest, provider, now_ns, cached_s, ~(provider ^ now_ns))

    def pinned(self, conversation: str) -> Pinned | None:
        """Return who answered a conversation last."""
        digest = self._digest_of(conversation)
        at = self._start + _row(digest)[0] * _PIN_BYTES
        known, provider, at_ns, cached_s, check = _unpack(self._buffer, at)
        if known != digest or check != ~(provider ^ at_ns):
            return None
        return provider, at_ns, cached_s
