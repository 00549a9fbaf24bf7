"""How the C library treats memory that is free again."""

from __future__ import annotations

import ctypes
from contextlib import suppress

KEPT_BYTES = 8 * 1024 * 1024
"""Free memory up to this much is kept instead of being given back at once."""

FROM_HEAP_BYTES = 32 * 1024 * 1024
"""What is smaller comes from the heap instead of a mapping of its own (glibc takes no more than this)."""

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep() -> None:
    """Keep what was freed, where the C library is glibc (`mallopt(3)`); elsewhere do nothing.

    Bodies of some 100 KB come and go all the time. Left alone, glibc gives their pages back and
    takes them again for the next request: 20 page faults and 60 us of a request of 400 KB.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, FROM_HEAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
