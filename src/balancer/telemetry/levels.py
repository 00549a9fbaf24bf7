"""The levels of log entries. Their names are those of `settings.log_level`."""

from __future__ import annotations

import enum
from typing import TypeAlias, assert_never

import msgspec

from balancer.events import (
    CooldownStarted,
    Drilled,
    Event,
    ProviderPaused,
    ProviderRecovered,
    ProviderResumed,
    ProviderWoken,
    ReasoningLeft,
    Reloaded,
    ReloadRefused,
    RequestBegan,
    RequestEnded,
    WorkerEnded,
)


class Level(enum.IntEnum):
    """The standard library's levels, with its numbers."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50


class LogLine(msgspec.Struct, frozen=True, tag="said"):
    """A log record of a library, or the balancer's own about its log: everything that is no event."""

    wall: float
    level: Level = msgspec.field(name="levelno")
    """Written as `levelno`: every line of the file has a `level` by name already."""
    logger: str
    message: str
    traceback: str = ""


Entry: TypeAlias = Event | LogLine
"""Everything that is logged."""

_INFO = Level.INFO
"""A name of the module's is found in a tenth of the time that the class takes to find its member."""

_ALWAYS = {
    RequestBegan: _INFO,
    ProviderRecovered: Level.INFO,
    ProviderWoken: Level.INFO,
    ProviderPaused: Level.WARNING,
    ReasoningLeft: Level.WARNING,
    ProviderResumed: Level.INFO,
    Drilled: Level.WARNING,
    ReloadRefused: Level.ERROR,
    WorkerEnded: Level.ERROR,
}

_ENDS = {"failed": Level.ERROR, "broken_stream": Level.ERROR, "client_error": Level.WARNING}


def level_of(entry: Entry) -> Level:
    """Return the level of an entry."""
    level = _ALWAYS.get(type(entry))
    if level is not None:
        return level
    if isinstance(entry, RequestEnded):
        return _ENDS.get(entry.outcome, _INFO)
    match entry:
        case Reloaded(needs_restart=waiting):
            return Level.WARNING if waiting else Level.INFO
        case CooldownStarted(needs_operator=long):
            return Level.ERROR if long else Level.WARNING
        case LogLine(level=level):
            return level
        case RequestBegan() | ReloadRefused() | Drilled() | ReasoningLeft():
            raise AssertionError("in the table above")
        case ProviderRecovered() | ProviderWoken() | ProviderPaused() | ProviderResumed() | WorkerEnded():
            raise AssertionError("in the table above")
        case _:
            assert_never(entry)


def level_named(name: str) -> Level:
    """Return the level of that name in whatever case; INFO for one that is not known."""
    return Level.__members__.get(name.strip().upper(), Level.INFO)
