"""Where the supervisor says what happens: in the log file, and on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from balancer.events import Bus, RequestEnded, WorkerEnded
from balancer.redact import EMPTY, Inventory
from balancer.telemetry.background import BackgroundWriter
from balancer.telemetry.console import in_words
from balancer.telemetry.jsonlines import JsonLines
from balancer.telemetry.levels import Level, LogLine, level_named


class Report:
    """Says it in both places. The log file is that of the workers."""

    def __init__(self, log_file: str | None, log_level: str, secrets: Callable[[], Inventory] = lambda: EMPTY) -> None:
        """`secrets` returns what is never to be written down, as of now."""
        self._secrets = secrets
        self._file = JsonLines(Path(log_file), level_named(log_level)) if log_file else None
        # A terminal that takes nothing must not hold up the supervisor.
        self._stderr: BackgroundWriter[str] = BackgroundWriter("stderr", _print, lambda error: None)
        self.bus = Bus()
        """Who else is to know of it."""
        if self._file is not None:
            self.bus.add(self._file)

    def ended(self, worker: int, pid: int, reason: str, how: str, wait_s: float) -> None:
        """A worker has ended that should not have, and is started again after `wait_s`."""
        event = WorkerEnded(time.time(), worker, pid, reason, how, round(wait_s, 3))
        self.bus.emit(event)
        self._stderr.put(in_words(event))

    def tell(self, event: RequestEnded) -> None:
        """A request has ended with its worker."""
        if self._file is not None:
            self._file.secrets = self._secrets()  # a client may have named a model like one
        self.bus.emit(event)

    def say(self, message: str) -> None:
        """Something has happened as it should."""
        self._log(Level.INFO, message)

    def warn(self, message: str) -> None:
        """Somebody should look at it."""
        self._log(Level.WARNING, message)
        self._stderr.put(message)

    def _log(self, level: Level, message: str) -> None:
        if self._file is not None:
            self._file(LogLine(time.time(), level, "balancer.supervisor", message))

    def close(self) -> None:
        """Write what is waiting."""
        self._stderr.close()
        if self._file is not None:
            self._file.close()


def _print(messages: list[str], dropped: int) -> None:
    with suppress(OSError, ValueError):  # stderr is closed: the log file has it
        print(*(f"balancer: {message}" for message in messages), sep="\n", file=sys.stderr, flush=True)
