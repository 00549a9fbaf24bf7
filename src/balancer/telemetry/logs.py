"""One listener for everything that is logged: to the log file, to the terminal, with what libraries log.

The event loop only puts an event into a queue. A thread takes many of them at once, and hands each to the file and to
the terminal. Those have a thread each, so that neither can hold up the other.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol

import msgspec

from balancer.redact import EMPTY, Inventory, scrub
from balancer.telemetry.background import DEFAULT, BackgroundWriter, WriterLimits
from balancer.telemetry.console import Console, wants_color
from balancer.telemetry.jsonlines import JsonLines
from balancer.telemetry.levels import Entry, Level, LogLine, level_named, level_of

_LEFT_ON_PURPOSE = "ASGI callable returned without completing response"
"""uvicorn's words for a stream without an end. The balancer leaves one so on purpose where its provider broke it off:
that is how the client learns of it."""


class LogSettings(Protocol):
    """The part of the settings that logging reads."""

    @property
    def log_level(self) -> str: ...

    @property
    def log_color(self) -> bool: ...

    @property
    def log_file(self) -> str | None: ...


class _Change(msgspec.Struct):
    """A reloaded configuration's level and colour. They go through the queue: they hold for the events behind them."""

    level: Level
    color: bool


class Logs:
    """A listener that logs every event, and every record of the standard library's loggers."""

    def __init__(
        self, settings: LogSettings, limits: WriterLimits = DEFAULT, secrets: Inventory = EMPTY, worker: str = ""
    ) -> None:
        level = level_named(settings.log_level)
        self.console = Console(level, wants_color(sys.stdout, os.environ, settings.log_color))
        self.file = JsonLines(Path(settings.log_file), level, worker=worker) if settings.log_file else None
        self._queue: BackgroundWriter[Entry | _Change] = BackgroundWriter(
            "log", self._distribute, lambda error: None, limits
        )
        self.take: Callable[[Entry], None] = self._queue.put
        """The listener: `take(event)` returns at once."""
        self._records = Records(self.take)
        self._keep(secrets)
        logging.getLogger().addHandler(self._records)

    def _distribute(self, batch: list[Entry | _Change], dropped: int) -> None:
        """Hand events to the file and to the terminal."""
        file, console = self.file, self.console
        if dropped:
            console.count_dropped(dropped)
            if file is not None:
                file.count_dropped(dropped)
        for event in batch:
            if isinstance(event, _Change):
                self._change(event)
                continue
            level = level_of(event)
            if file is not None:
                file.take(event, level)
            console.take(event, level)

    def _keep(self, secrets: Inventory) -> None:
        """Keep these out of whatever is logged, also of what was logged before and still waits."""
        self.console.secrets = self._records.secrets = secrets
        if self.file is not None:
            self.file.secrets = secrets

    def apply(self, settings: LogSettings, secrets: Inventory = EMPTY) -> None:
        """Apply a reloaded configuration's level, colour and secrets. The file stays the one it is."""
        self._keep(secrets)
        color = wants_color(sys.stdout, os.environ, settings.log_color)
        self._queue.put_always(_Change(level_named(settings.log_level), color))

    def _change(self, change: _Change) -> None:
        self.console.level, self.console.color = change.level, change.color
        if self.file is not None:
            self.file.level = change.level

    @property
    def lines_lost(self) -> int:
        """How many lines the log file lacks."""
        return 0 if self.file is None else self.file.lost

    def on_shortage(self, call: Callable[[str], None]) -> None:
        """Have `call` called, from another thread, with the kind of the shortage when lines can't be written."""
        if self.file is not None:
            self.file.on_shortage = call

    def close(self) -> None:
        """Write what is waiting. After this, libraries log to stderr again."""
        logging.getLogger().removeHandler(self._records)
        self._queue.close()
        self.console.close()
        if self.file is not None:
            self.file.close()


class Records(logging.Handler):
    """Turns the records of the standard library's logging into entries."""

    def __init__(self, take: Callable[[Entry], None]) -> None:
        super().__init__()
        self._take = take
        self.secrets = EMPTY

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
            if _LEFT_ON_PURPOSE in message:
                return
            self._take(
                LogLine(record.created, _level(record), record.name, scrub(message, self.secrets), _trace(record))
            )
        except Exception:  # a record that can't be formatted must not fail the work that it is about
            self.handleError(record)


def _level(record: logging.LogRecord) -> Level:
    """Return the highest level that is not above the record's."""
    return max((level for level in Level if level <= record.levelno), default=Level.DEBUG)


def _trace(record: logging.LogRecord) -> str:
    """Return where an error happened and its class."""
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    kind, _, tb = record.exc_info
    return _where(kind, tb)


def _where(kind: type[BaseException], tb: TracebackType | None) -> str:
    """Return where an error happened and its class. Its message may hold a secret that is not recognised as one."""
    return "".join(traceback.format_list(traceback.extract_tb(tb))) + kind.__name__


class _OnStderr(logging.Formatter):
    """Formats records for which no log is open: without the messages of exceptions."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(text for text in (scrub(record.getMessage()), _trace(record)) if text)


def keep_crashes_quiet() -> None:
    """Have a crash, and what is logged before and after there is a log, tell where it was and not with which values."""

    def crashed(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
        print(f"balancer: it crashed; this is where:\n{_where(kind, tb)}", file=sys.stderr)

    sys.excepthook = crashed
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_OnStderr())
