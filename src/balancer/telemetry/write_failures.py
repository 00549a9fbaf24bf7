"""What is said of a file that can't be written: once, on stderr, and once more when it can be written again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TextIO


class WriteFailures:
    """Tells of one file's failures. `without`: what serving goes on without."""

    def __init__(self, path: Path, without: str, stderr: TextIO | None = None) -> None:
        self._path = path
        self._without = without
        self._stderr = stderr
        self._reason = ""
        """Why the file can't be written now; empty: it can."""

    def failed(self, error: Exception) -> None:
        """Report a failure: once, not for every batch of lines."""
        reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        if reason != self._reason:
            self._reason = reason
            self._report(f"balancer: {self._path} can't be written ({reason}); serving goes on without {self._without}")

    def wrote(self, missing: str = "") -> None:
        """Report that it can be written again, if it could not; `missing` says what is not in it."""
        if self._reason:
            self._reason = ""
            self._report(f"balancer: {self._path} can be written again{'; ' if missing else ''}{missing}")

    def _report(self, message: str) -> None:
        try:
            print(message, file=self._stderr if self._stderr is not None else sys.stderr, flush=True)
        except (OSError, ValueError):
            return  # stderr is closed: there is no other place to report to
