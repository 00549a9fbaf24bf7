"""The memory that the workers of a machine share: anonymous, mapped by all, with a lock for what needs one."""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import tempfile
import time

import xxhash

from balancer.sharing import layout
from balancer.sharing.layout import Layout

LOCK_WITHIN_NS = 3_000_000
"""How long the lock is tried for. Who holds it needs some microseconds; one that is stopped then holds nobody up."""

SIGN = 1 << 63


class OtherVersion(Exception):
    """The memory is of another version of the balancer, or none of ours."""


class Memory:
    """The shared memory as one process sees it."""

    def __init__(self, fd: int) -> None:
        """Map the memory behind `fd`. Raises `OtherVersion` and `OSError`."""
        self.fd = fd
        size = os.fstat(fd).st_size
        if size < layout.HEADER_BYTES:
            raise OtherVersion
        self.buffer = mmap.mmap(fd, size)
        self.words = memoryview(self.buffer).cast("q")
        words = self.words
        if words[layout.H_MAGIC] != layout.MAGIC or words[layout.H_VERSION] != layout.VERSION:
            self.close()
            raise OtherVersion
        self.workers = words[layout.H_WORKERS]
        """How many columns there are: more than workers, since while they are replaced the old ones still answer."""
        self.expected = words[layout.H_EXPECTED]
        """How many workers there are to be."""
        self.layout = Layout(self.workers)
        self._seed = words[layout.H_SEED]
        if size < self.layout.size:
            self.close()
            raise OtherVersion

    def close(self) -> None:
        """Unmap it, but where parts of it are still in use. The descriptor stays open."""
        self.words.release()
        try:
            self.buffer.close()
        except BufferError:
            return

    def hash_of(self, name: str | bytes) -> int:
        """Return a keyed hash of a name, never 0: the key is known to these workers alone."""
        data = name.encode("utf-8", "replace") if isinstance(name, str) else name
        return xxhash.xxh3_64_intdigest(data, self._seed) - SIGN or 1

    def digest_of(self, name: str) -> bytes:
        """Return a keyed hash of a name as 16 bytes."""
        return xxhash.xxh3_128_digest(name.encode(), self._seed)

    def lock(self) -> bool:
        """Take the lock; say whether that was possible in a short time. It ends with the process, too."""
        ends_ns = 0
        while True:
            try:
                fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
            except OSError:
                now_ns = time.monotonic_ns()
                ends_ns = ends_ns or now_ns + LOCK_WITHIN_NS
                if now_ns > ends_ns:
                    return False
                os.sched_yield()
            else:
                return True

    def unlock(self) -> None:
        """Give the lock back."""
        fcntl.lockf(self.fd, fcntl.LOCK_UN, 1, 0)

    @property
    def generation(self) -> int:
        """How often the configuration was replaced, by whichever worker."""
        return self.words[layout.H_GENERATION]

    @generation.setter
    def generation(self, number: int) -> None:
        self.words[layout.H_GENERATION] = number


def made(workers: int, columns: int = 0) -> int:
    """Return a descriptor of new memory for this many workers: anonymous, gone with its last user. Raises `OSError`.

    `columns` is how many may be there at a time; 0: no more than workers.
    """
    columns = columns or workers
    if not 1 <= workers <= columns <= layout.COLUMNS_MAX:
        raise ValueError(f"columns: from 1 to {layout.COLUMNS_MAX}")
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("balancer", os.MFD_CLOEXEC)
    else:  # a file of the owner's alone, without a name
        with tempfile.TemporaryFile(prefix="balancer-") as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, Layout(columns).size)
    with mmap.mmap(fd, layout.HEADER_BYTES) as header, memoryview(header).cast("q") as words:
        words[layout.H_VERSION], words[layout.H_WORKERS] = layout.VERSION, columns
        words[layout.H_EXPECTED] = workers
        words[layout.H_SEED] = secrets.randbits(62)
        words[layout.H_MAGIC] = layout.MAGIC
    return fd
