"""How much an event matters."""

from __future__ import annotations

import pytest

from balancer.events import (
    CooldownStarted,
    Drilled,
    ProviderRecovered,
    ReasoningLeft,
    Reloaded,
    ReloadRefused,
    RequestBegan,
)
from balancer.telemetry.levels import Entry, Level, LogLine, level_named, level_of

from .conftest import ended

LEVELS: dict[str, tuple[Entry, Level]] = {
    "a request begins": (RequestBegan("r", 0, "messages", "m", True, 1), Level.INFO),
    "it ends well": (ended(), Level.INFO),
    "the client's own error": (ended(outcome="client_error"), Level.WARNING),
    "the client left": (ended(outcome="abandoned"), Level.INFO),
    "nobody could answer": (ended(outcome="failed"), Level.ERROR),
    "a stream broke": (ended(outcome="broken_stream"), Level.ERROR),
    "a rest": (CooldownStarted(0, "a", 1, "529", 1), Level.WARNING),
    "a rest that needs a human": (CooldownStarted(0, "a", 600, "401", 1, needs_operator=True), Level.ERROR),
    "a recovery": (ProviderRecovered(0, "a"), Level.INFO),
    "reasoning left behind": (ReasoningLeft("r", 0, "a", "b", "m"), Level.WARNING),
    "a reload": (Reloaded(0, 1), Level.INFO),
    "a reload that needs a restart": (Reloaded(0, 1, (), ("port",)), Level.WARNING),
    "a reload that was refused": (ReloadRefused(0, ("x",)), Level.ERROR),
    "a drill": (Drilled(0, "a", "529", "30 s"), Level.WARNING),
    "a library's own": (LogLine(0, Level.CRITICAL, "x", "y"), Level.CRITICAL),
}


@pytest.mark.parametrize(("entry", "level"), LEVELS.values(), ids=LEVELS)
def test_level_of(entry: Entry, level: Level) -> None:
    assert level_of(entry) is level


@pytest.mark.parametrize(
    ("name", "level"), [("debug", Level.DEBUG), (" WARNING", Level.WARNING), ("nonsense", Level.INFO)]
)
def test_a_level_by_its_name(name: str, level: Level) -> None:
    assert level_named(name) is level
