"""A balancer in the background lives as long as somebody uses it, and not longer.

Each user holds a shared lock on one file; the balancer waits for the exclusive lock on it. The
system gives it that when the last user has gone, however that one ended, and the balancer ends
itself. Until its process is gone it keeps the lock, so whoever comes meanwhile waits, and then
finds nobody.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

KNOWS_USERS = bool(fcntl)
"""Not on Windows, which has no such locks: there whoever started a balancer ends it."""

VARIABLE = "BALANCER_LEASE"
"""Names the file to a balancer in the background."""

EVERY_S = 0.05


class Lease:
    """A user's hold on a balancer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, on_wait: Callable[[], None], within_s: float) -> bool:
        """Hold it. False: a balancer that is ending did not end in time. `on_wait` is called once, before a wait."""
        waits_until = time.monotonic() + within_s
        told = False
        while not self._lock(exclusive=False):
            if time.monotonic() >= waits_until:
                return False
            if not told:
                told = True
                on_wait()
            time.sleep(EVERY_S)
        return True

    def release(self) -> bool:
        """Let go of it. Returns whether nobody else holds it."""
        # The balancer may get its lock in the middle of this: then neither of these two is given to us.
        shared = not self._lock(exclusive=True) and self._lock(exclusive=False)
        os.close(self._file)
        return not shared

    def _lock(self, exclusive: bool) -> bool:
        if not KNOWS_USERS:
            return True
        try:
            fcntl.flock(self._file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: as if nobody else were there
            return True
        return True


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time do what is inside; the others wait."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if KNOWS_USERS:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def end_when_unused(path: str, end: Callable[[], None]) -> None:
    """Call `end` in a thread of its own when nobody holds the lease any more. Returns at once."""
    if KNOWS_USERS:
        threading.Thread(target=_wait, args=(path, end), name="lease", daemon=True).start()


def _wait(path: str, end: Callable[[], None]) -> None:
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return  # whoever started this balancer ends it then
    end()  # and the lock is kept until the process is gone


def folder() -> Path:
    """Return a folder of this user's for locks and logs of balancers in the background. Raises `OSError`."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    for path in (Path(state) / "balancer", Path(tempfile.gettempdir()) / f"balancer-{_user()}"):
        with contextlib.suppress(OSError):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Nobody else's, and no link: a folder for everybody's temporary files is anybody's to prepare.
            if os.access(path, os.W_OK | os.X_OK) and not path.is_symlink() and path.stat().st_uid == _user():
                return path
    return Path(tempfile.mkdtemp(prefix="balancer-"))


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0
