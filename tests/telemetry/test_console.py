"""What people see."""

from __future__ import annotations

import io
import threading

import pytest

from balancer.events import (
    Attempt,
    CooldownStarted,
    Drilled,
    ProviderRecovered,
    Reloaded,
    ReloadRefused,
    RequestBegan,
)
from balancer.model import Usage
from balancer.telemetry.console import COLORS, Console, in_words, render, wants_color
from balancer.telemetry.levels import Entry, Level, LogLine

from .conftest import ended


class Terminal(io.StringIO):
    def __init__(self, tty: bool = True) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


WORDS: dict[str, tuple[Entry, str]] = {
    "a failover": (
        ended(),
        "01234567  claude-x  a 529 -> b ok  200  TTFT 0.42s, 3.25s  105 (5 cached) -> 20 tokens",
    ),
    "one attempt": (
        ended(attempts=(Attempt("b", "claude-x", "completed", "stream", 3.1, 200),), usage=Usage(1200, 20)),
        "01234567  claude-x  b  200  TTFT 0.42s, 3.25s  1,200 -> 20 tokens",
    ),
    "nobody could answer": (
        ended(
            attempts=(
                Attempt("a", "x", "broken", "connect", 0.1, None, "connection refused"),
                Attempt("b", "x", "refused", "wait", 0.1, 500, "500 api_error", drill=True),
            ),
            status=503,
            outcome="failed",
            reason="all failed",
            usage=Usage(),
            first_content_s=None,
        ),
        "01234567  claude-x  a connection refused -> b 500 (drill)  503  3.25s  failed: all failed",
    ),
    "no route": (
        ended(
            attempts=(),
            provider="",
            status=404,
            outcome="client_error",
            usage=Usage(),
            first_content_s=None,
            reason="",
        ),
        "01234567  claude-x  nobody asked  404  3.25s  client error",
    ),
    "queued and shared": (
        ended(attempts=(), queued_s=1.5, dedup="follower", usage=Usage(), first_content_s=None),
        "01234567  claude-x  b  200  3.25s  queued 1.50s; dedup follower",
    ),
    "a count of tokens": (
        ended(operation="count_tokens", attempts=(), usage=Usage(), stream=False),
        "01234567  count_tokens claude-x  b  200  3.25s",
    ),
    "a rest": (
        CooldownStarted(0, "a", 8.25, "529 overloaded_error", 3),
        "a rests for 8.2 s: 529 overloaded_error (failure 3)",
    ),
    "a model's rest": (CooldownStarted(0, "a", 8, "429", 1, "m"), "a for m rests for 8.0 s: 429 (failure 1)"),
    "a long rest": (
        CooldownStarted(0, "a", 600, "401 authentication_error", 1, needs_operator=True),
        "a NEEDS YOU: 401 authentication_error; it is left alone for 10 min (look at its key and account)",
    ),
    "a recovery": (ProviderRecovered(0, "a"), "a answers again"),
    "a reload": (Reloaded(0, 3, ("provider b: added",)), "configuration 3 is in force: provider b: added"),
    "a reload that is not all in effect": (
        Reloaded(0, 3, ("model_routes changed",), ("port",)),
        "configuration 3 is in force: model_routes changed; needs a restart: port",
    ),
    "a reload of the same": (Reloaded(0, 3), "configuration 3 is in force: nothing changed"),
    "a bad file": (
        ReloadRefused(0, ("p.yaml:3: bad",)),
        "the changed configuration can't be used; the old one stays\n  p.yaml:3: bad",
    ),
    "a drill": (Drilled(0, "a", "529", "30 s"), "drill: a is made to fail (529), 30 s"),
    "a drill's end": (Drilled(0, "a", "", "off"), "drill: a behaves again"),
    "a beginning": (RequestBegan("req_abcdefghijk", 0, "messages", "m", True, 4096), "abcdefgh  m  4,096 bytes"),
    "a library": (LogLine(0, Level.ERROR, "asyncio", "oh", "at x\nValueError"), "oh (asyncio)\n  at x\n  ValueError"),
}


@pytest.mark.parametrize(("entry", "words"), WORDS.values(), ids=WORDS)
def test_in_words(entry: Entry, words: str) -> None:
    assert in_words(entry) == words


@pytest.mark.parametrize("nasty", ["\x1b[2J", "\x9b31m", "a\nb", "\u202e", "\x07"])
def test_no_terminal_obeys_what_was_sent(nasty: str) -> None:
    told = render(ended(model=f"m{nasty}", outcome="failed", reason=f"r{nasty}"), color=False)

    assert told.isprintable()


COLOR_CASES = {
    "on a terminal": (True, {}, True, True),
    "into a file": (False, {}, True, False),
    "switched off": (True, {}, False, False),
    "NO_COLOR": (True, {"NO_COLOR": "1"}, True, False),
    "NO_COLOR over FORCE_COLOR": (True, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
    "an empty NO_COLOR says nothing": (True, {"NO_COLOR": ""}, True, True),
    "FORCE_COLOR into a file": (False, {"FORCE_COLOR": "1"}, True, True),
    "FORCE_COLOR=0": (False, {"FORCE_COLOR": "0"}, True, False),
    "switched off over FORCE_COLOR": (True, {"FORCE_COLOR": "1"}, False, False),
    "a terminal that can't": (True, {"TERM": "dumb"}, True, False),
}


@pytest.mark.parametrize(("tty", "env", "log_color", "colored"), COLOR_CASES.values(), ids=COLOR_CASES)
def test_when_lines_are_coloured(tty: bool, env: dict[str, str], log_color: bool, colored: bool) -> None:
    assert wants_color(Terminal(tty), env, log_color) is colored


@pytest.mark.parametrize(("level", "code"), [("DEBUG", 36), ("INFO", 32), ("WARNING", 33), ("ERROR", 31)])
def test_each_level_has_its_colour(level: str, code: int) -> None:
    entry = LogLine(0, Level[level], "x", "y")

    assert f"\x1b[{code}m{level}" in render(entry, color=True)
    assert COLORS[Level[level]] not in render(entry, color=False)


def test_lines_are_written_when_they_are_closed_at_the_latest() -> None:
    out = Terminal()
    console = Console(Level.INFO, color=False, stream=out)

    console(ended())
    console(RequestBegan("r", 0, "messages", "m", True, 1))
    console(Reloaded(0, 1))
    console.close()

    assert len(out.getvalue().splitlines()) == 2


def test_the_beginnings_are_told_to_whoever_debugs() -> None:
    out = Terminal()
    console = Console(Level.DEBUG, color=False, stream=out)

    console(RequestBegan("r", 0, "messages", "m", True, 1))
    console.close()

    assert "DEBUG" in out.getvalue()


def test_a_terminal_that_takes_nothing_holds_nobody_up() -> None:
    class Stopped(Terminal):
        began = threading.Event()
        released = threading.Event()

        def write(self, text: str) -> int:
            self.began.set()
            self.released.wait(20)
            return super().write(text)

    out = Stopped()
    console = Console(Level.INFO, color=False, stream=out)
    console(ended())
    assert out.began.wait(2)
    for _ in range(30_000):
        console(ended())
    out.released.set()
    console.close()

    assert "lines are not shown" in out.getvalue()


def test_a_terminal_without_our_letters_gets_them_written_out() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    console = Console(Level.INFO, color=False, stream=out)

    console(ended(model="modèle"))
    console.close()

    assert b"mod\\xe8le" in raw.getvalue()
