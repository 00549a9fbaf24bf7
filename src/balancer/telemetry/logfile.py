"""A file that lines are appended to: rotated by size, followed when it is moved, shared by workers."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from balancer.config.paths import SYSTEMS

try:
    import fcntl
except ImportError:  # not on Windows: there a file is not shared by workers
    fcntl = None  # type: ignore[assignment]

MAX_BYTES = 100 * 1024 * 1024
KEPT = 5
"""How many full files are kept beside the one that is written."""


class LogFile:
    """Appends whole lines. Made by the first `append`; several processes may share one.

    A symbolic link at `path` is never followed, as somebody else may have laid it: it is an `OSError`. Those of the
    system's own are, like `/dev/stdout`. `private`: others lose the right to read the file.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, kept: int = KEPT, *, private: bool = False) -> None:
        self.path = path
        self._flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        self._private = private
        self._is_systems = path.parent in SYSTEMS
        if not self._is_systems:
            self._flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        self._max_bytes = max_bytes
        self._kept = kept
        self._file = -1
        self._is_torn = False
        """The file may end in the middle of a line."""
        self.written_bytes = 0
        """How much of what was appended last is in the file: all or, if that failed, the whole lines in front."""

    def append(self, lines: bytes) -> None:
        """Write `lines` at the end. Raises `OSError`; the next call then starts afresh.

        What is left of a line that did not fit is taken away again, or ended, so that the next one stands alone.
        """
        self.written_bytes = 0
        try:
            if not self._is_ours():
                self._reopen()
            if os.fstat(self._file).st_size + len(lines) > self._max_bytes and not self._is_systems:
                self._rotate()
            if self._is_torn:
                _write_all(self._file, b"\n")
                self._is_torn = False
            self._write_lines(lines)
        except OSError:
            self.close()
            raise

    def _write_lines(self, lines: bytes) -> None:
        view = memoryview(lines)
        try:
            while self.written_bytes < len(lines):
                self.written_bytes += os.write(self._file, view[self.written_bytes :])
        except OSError:
            whole = lines.rfind(b"\n", 0, self.written_bytes) + 1
            if self.written_bytes > whole:
                self._take_away(self.written_bytes - whole)
            self.written_bytes = whole
            raise

    def _take_away(self, torn_bytes: int) -> None:
        """Take away the beginning of a line, if nobody has written behind it."""
        self._is_torn = True
        with contextlib.suppress(OSError):
            end = os.lseek(self._file, 0, os.SEEK_CUR)
            if os.fstat(self._file).st_size == end:
                os.ftruncate(self._file, end - torn_bytes)
                self._is_torn = False

    def close(self) -> None:
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1

    def _is_ours(self) -> bool:
        """Return whether the open file is still the one at `path`; logrotate may have moved it."""
        if self._file < 0:
            return False
        try:
            named = os.stat(self.path, follow_symlinks=self._is_systems)
        except FileNotFoundError:
            return False
        ours = os.fstat(self._file)
        return (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)

    def _reopen(self) -> None:
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._is_systems and self.path.is_symlink():
            raise OSError(errno.ELOOP, "it is a symbolic link")
        # 0600: model names, providers and hours of work are private to the user.
        self._file = os.open(self.path, self._flags, 0o600)
        os.set_blocking(self._file, True)  # not to wait was for the opening: a pipe that nobody reads is an error
        self._is_torn = self._is_torn or _ends_torn(self.path)
        if self._private and hasattr(os, "fchmod"):
            os.fchmod(self._file, 0o600)

    def _rotate(self) -> None:
        """Move the full file aside. Of several workers one does it: the lock is on the file itself."""
        if os.fstat(self._file).st_size == 0:
            return
        if fcntl is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            if self._is_ours():
                self._shift()
        finally:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        self._reopen()

    def _shift(self) -> None:
        if not self._kept:
            self.path.unlink()
            return
        for number in range(self._kept - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self._aside(number), self._aside(number + 1))
        os.replace(self.path, self._aside(1))

    def _aside(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _ends_torn(path: Path) -> bool:
    """Say whether a file ends in the middle of a line, as after a crash or on a disk that was full."""
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait, and has no end
            return False
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)  # an `OSError` where it is empty
            return file.read(1) != b"\n"
    return False


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
