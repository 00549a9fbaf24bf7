"""Shortages of this machine: descriptors, memory, ports, disk, threads. None of them is a provider's fault."""

from __future__ import annotations

import errno

DESCRIPTORS, MEMORY, PORTS, DISK, THREADS = "descriptors", "memory", "ports", "disk", "threads"

KINDS = (DESCRIPTORS, MEMORY, PORTS, DISK, THREADS)

_BY_NUMBER = {
    errno.EMFILE: DESCRIPTORS,
    errno.ENFILE: DESCRIPTORS,
    errno.ENOMEM: MEMORY,
    errno.ENOBUFS: MEMORY,
    errno.EADDRNOTAVAIL: PORTS,
    errno.EADDRINUSE: PORTS,  # of a connection that goes out: no port was free for its own end
    errno.ENOSPC: DISK,
    errno.EDQUOT: DISK,
    errno.EFBIG: DISK,
}


def kind_of(error: BaseException | None) -> str | None:
    """Return which shortage an error tells of, one of `KINDS`; None: it tells of none.

    What asyncio makes of several addresses that failed is looked through, as is the cause of an error.
    """
    if isinstance(error, MemoryError):
        return MEMORY
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return THREADS
    if not isinstance(error, OSError):
        return None
    return _BY_NUMBER.get(error.errno) if error.errno is not None else _among_several(error)


def _among_several(error: OSError) -> str | None:
    """Return the shortage in the text of an error that stands for several: asyncio keeps nothing else of them."""
    text = str(error)
    return next((kind for number, kind in _BY_NUMBER.items() if f"[Errno {number}]" in text), None)
