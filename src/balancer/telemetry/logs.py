"""Everything that is written down, as one listener: the log file, the terminal, and what libraries say.

The event loop only puts an event down. A thread takes them up, many in one go, and gives each to
the file and to the terminal, which have a thread each: neither can hold up the other.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from balancer.redact import scrub
from balancer.telemetry.background import Scribe
from balancer.telemetry.console import Console, wants_color
from balancer.telemetry.jsonlines import JsonLines
from balancer.telemetry.levels import Entry, Level, LogLine, level_named, level_of

_LEFT_ON_PURPOSE = "ASGI callable returned without completing response"
"""uvicorn says so whenever we break a stream that its provider broke: that is how a client learns of it."""


class LogSettings(Protocol):
    """The part of the settings that logging hangs on."""

    @property
    def log_level(self) -> str: ...

    @property
    def log_color(self) -> bool: ...

    @property
    def log_file(self) -> str | None: ...


class _Change(msgspec.Struct):
    """A reloaded configuration's level and colour, in its place among the events: it is for those behind it."""

    level: Level
    color: bool


class Logs:
    """A listener that writes everything down, and takes in what the standard library's loggers say."""

    def __init__(self, settings: LogSettings) -> None:
        level = level_named(settings.log_level)
        self.console = Console(level, wants_color(sys.stdout, os.environ, settings.log_color))
        self.file = JsonLines(Path(settings.log_file), level) if settings.log_file else None
        self._inbox: Scribe[Entry | _Change] = Scribe("log", self._sort, lambda error: None)
        self.take: Callable[[Entry], None] = self._inbox.put
        """The listener: `take(event)` returns at once."""
        self._records = Records(self.take)
        logging.getLogger().addHandler(self._records)

    def _sort(self, batch: list[Entry | _Change], dropped: int) -> None:
        file, console = self.file, self.console
        if dropped:
            console.miss(dropped)
            if file is not None:
                file.miss(dropped)
        for event in batch:
            if isinstance(event, _Change):
                self._change(event)
                continue
            level = level_of(event)
            if file is not None:
                file.take(event, level)
            console.take(event, level)

    def apply(self, settings: LogSettings) -> None:
        """Take a reloaded configuration's level and colour; the file stays the one it is."""
        color = wants_color(sys.stdout, os.environ, settings.log_color)
        self._inbox.put_always(_Change(level_named(settings.log_level), color))

    def _change(self, change: _Change) -> None:
        self.console.level, self.console.color = change.level, change.color
        if self.file is not None:
            self.file.level = change.level

    def close(self) -> None:
        """Write what is waiting; libraries speak to stderr again."""
        logging.getLogger().removeHandler(self._records)
        self._inbox.close()
        self.console.close()
        if self.file is not None:
            self.file.close()


class Records(logging.Handler):
    """Takes in the records of the standard library's logging."""

    def __init__(self, take: Callable[[Entry], None]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
            if _LEFT_ON_PURPOSE in message:
                return
            self._take(LogLine(record.created, _level(record), record.name, scrub(message), _trace(record)))
        except Exception:  # a record that can't be told must not fail the work that it tells of
            self.handleError(record)


def _level(record: logging.LogRecord) -> Level:
    return max((level for level in Level if level <= record.levelno), default=Level.DEBUG)


def _trace(record: logging.LogRecord) -> str:
    """Return where it happened and the error's class. Its words may hold a secret that nobody knows by sight."""
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    kind, _, tb = record.exc_info
    return "".join(traceback.format_list(traceback.extract_tb(tb))) + kind.__name__
