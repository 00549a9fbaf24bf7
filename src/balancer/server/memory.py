"""How freed memory is treated: by the C library, and by Python's collector of cycles."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

KEPT_BYTES = 8 * 1024 * 1024
"""Free memory up to this much is kept instead of being given back at once."""

FROM_HEAP_BYTES = 32 * 1024 * 1024
"""What is smaller comes from the heap instead of a mapping of its own (glibc takes no more than this)."""

COLLECT_AFTER = 10_000
"""So many objects more than before start a collection (Python's own: 700). A request makes hardly any cycles."""

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


def settle() -> None:
    """Exempt what was made for starting from collections of cycles: it stays until the end.

    With Python's own thresholds one profiler sample in twenty of a busy balancer was the collector, looking at objects
    that are all in use.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 10, 10)
