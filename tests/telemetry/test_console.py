"""What people see."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios
import threading
import time

import pytest

from balancer.events import (
    Attempt,
    CooldownStarted,
    Drilled,
    ProviderRecovered,
    ReasoningLeft,
    Reloaded,
    ReloadRefused,
    RequestBegan,
)
from balancer.model import Usage
from balancer.telemetry.console import COLORS, Console, in_words, render, wants_color
from balancer.telemetry.levels import Entry, Level, LogLine

from .conftest import ended


def clock(wall: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(wall))


class Terminal(io.StringIO):
    def __init__(self, tty: bool = True) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


CLAUDE_X = "claude-x                    b             "

WORDS: dict[str, tuple[Entry, str]] = {
    "a failover": (
        ended(),
        f"{CLAUDE_X}ok  first token 0.42s total 3.25s  105→20 tokens  4% cached  after a 529  01234567",
    ),
    "one attempt": (
        ended(attempts=(Attempt("b", "claude-x", "completed", "stream", 3.1, 200),), usage=Usage(1200, 20)),
        f"{CLAUDE_X}ok  first token 0.42s total 3.25s  1,200→20 tokens  01234567",
    ),
    "nobody could answer": (
        ended(
            attempts=(
                Attempt("a", "x", "broken", "connect", 0.1, None, "connection refused"),
                Attempt("b", "x", "refused", "wait", 0.1, 500, "500 api_error", drill=True),
            ),
            provider="",
            status=503,
            outcome="failed",
            reason="no provider could answer for 'claude-x': a: connection refused; b: 500 api_error",
            usage=Usage(),
            first_content_s=None,
        ),
        "claude-x                    -             503 failed  total 3.25s  "
        "a: connection refused; b: 500 api_error  (drill)  01234567",
    ),
    "nobody could answer, and no words for it": (
        ended(
            attempts=(Attempt("a", "x", "broken", "connect", 0.1, None, "connection refused"),),
            provider="",
            status=503,
            outcome="failed",
            reason="",
            usage=Usage(),
            first_content_s=None,
        ),
        "claude-x                    -             503 failed  total 3.25s  after a connection refused  01234567",
    ),
    "no route": (
        ended(
            attempts=(),
            provider="",
            status=404,
            outcome="client_error",
            usage=Usage(),
            first_content_s=None,
            reason="no route matches",
        ),
        "claude-x                    -             404 client error  total 3.25s  no route matches  01234567",
    ),
    "the client's own mistake": (
        ended(
            attempts=(Attempt("b", "x", "refused", "wait", 0.1, 400, "400 invalid_request_error"),),
            status=400,
            outcome="client_error",
            usage=Usage(),
            first_content_s=None,
            reason="400 invalid_request_error",
        ),
        f"{CLAUDE_X}400 client error  total 3.25s  invalid_request_error  01234567",
    ),
    "the client left": (
        ended(
            attempts=(Attempt("b", "x", "abandoned", "stream", 0.1, None, "the client left"),),
            outcome="abandoned",
            reason="the client left",
            usage=Usage(),
        ),
        f"{CLAUDE_X}client left  first token 0.42s total 3.25s  01234567",
    ),
    "an answer broke off": (
        ended(
            attempts=(
                Attempt("a", "x", "refused", "wait", 0.1, 529, "529 overloaded_error"),
                Attempt("b", "x", "broken", "stream", 0.1, None, "connection reset"),
            ),
            outcome="broken_stream",
            reason="connection reset",
            usage=Usage(),
        ),
        f"{CLAUDE_X}broken stream  first token 0.42s total 3.25s  after a 529  connection reset  01234567",
    ),
    "queued and shared": (
        ended(attempts=(), queued_s=1.5, dedup="follower", usage=Usage(), first_content_s=None),
        f"{CLAUDE_X}ok  total 3.25s  queued 1.50s  coalesced  01234567",
    ),
    "shared with others": (
        ended(attempts=(), dedup="leader", usage=Usage(), first_content_s=None),
        f"{CLAUDE_X}ok  total 3.25s  01234567",
    ),
    "a count of tokens": (
        ended(operation="count_tokens", attempts=(), usage=Usage(), stream=False),
        f"{CLAUDE_X}ok  total 3.25s  count_tokens  01234567",
    ),
    "a cooldown": (
        CooldownStarted(0, "a", 8.25, "529 overloaded_error", 3),
        f"a failed: 529 overloaded_error; cooldown 8.2 s, until {clock(8)} (failure 3)",
    ),
    "a model's cooldown": (
        CooldownStarted(0, "a", 8, "429", 1, "m"),
        f"a for m failed: 429; cooldown 8.0 s, until {clock(8)} (failure 1)",
    ),
    "a long cooldown": (
        CooldownStarted(0, "a", 600, "401 authentication_error", 1, needs_operator=True),
        f"a NEEDS YOU: 401 authentication_error; look at its key and account; cooldown 10 min, until {clock(600)}",
    ),
    "a recovery": (ProviderRecovered(0, "a"), "a has recovered"),
    "reasoning left behind": (
        ReasoningLeft("req_0123456789", 0, "a", "b", "m"),
        "reasoning left behind, from a to b: another organization  01234567",
    ),
    "a reload": (Reloaded(0, 3, ("provider b: added",)), "configuration 3 applied: provider b: added"),
    "a reload of the same": (Reloaded(0, 3), "configuration 3 applied: nothing changed"),
    "a reload that is not all in effect": (
        Reloaded(0, 3, ("model_routes changed",), ("port",)),
        "configuration 3 applied: model_routes changed; needs a restart: port",
    ),
    "a bad file": (
        ReloadRefused(0, ("p.yaml:3: bad",)),
        "the changed configuration can't be used, the old one stays:\n  p.yaml:3: bad",
    ),
    "a drill": (Drilled(0, "a", "529", "30 s"), "fault injection into a: 529, 30 s"),
    "a drill's end": (Drilled(0, "a", "", "off"), "fault injection into a has ended"),
    "a beginning": (RequestBegan("req_abcdefghijk", 0, "messages", "m", True, 4096), "m  4,096 bytes  abcdefgh"),
    "a library": (LogLine(0, Level.ERROR, "asyncio", "oh", "at x\nValueError"), "oh (asyncio)\n  at x\n  ValueError"),
}


@pytest.mark.parametrize(("entry", "words"), WORDS.values(), ids=WORDS)
def test_in_words(entry: Entry, words: str) -> None:
    assert in_words(entry) == words


PLAIN = [entry for entry, _ in WORDS.values()]


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("entry", PLAIN, ids=list(WORDS))
def test_in_a_narrow_terminal_lines_break_between_words(entry: Entry, width: int) -> None:
    whole = render(entry, color=False)
    shown = render(entry, color=False, width=width)

    assert max(map(len, shown.splitlines())) <= width
    assert shown.split() == whole.split()
    assert render(entry, color=False, width=1000) == whole


def test_a_word_that_is_wider_than_the_terminal_stays_whole() -> None:
    shown = render(ended(model="m" * 60), color=False, width=50)

    assert "m" * 60 in shown


def test_the_columns_begin_where_they_began_before() -> None:
    one, other = (
        render(ended(model=model, provider=name), color=False) for model, name in [("a", "b"), ("m" * 26, "p")]
    )

    assert one.index("ok  first token") == other.index("ok  first token")


def test_only_what_says_how_things_are_has_a_colour() -> None:
    shown = render(ended(outcome="failed", status=503, attempts=(), reason="x"), color=True)

    assert shown.count("\x1b[31m") == 2
    assert "\x1b[31m503 failed\x1b[0m" in shown
    assert "\x1b[31mERROR  \x1b[0m" in shown


def test_a_real_terminals_width_is_kept_to() -> None:
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(child, "w") as out:
        console = Console(Level.INFO, color=False, stream=out)
        console(ended())
        console.close()
        shown = os.read(parent, 65536).decode()
    os.close(parent)

    assert len(shown.splitlines()) == 3
    assert max(map(len, shown.splitlines())) <= 80


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
    assert b"105->20" in raw.getvalue()
