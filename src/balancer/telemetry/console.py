"""The terminal: one line when a request ends, and one for whatever befalls a provider.

Lines are rendered and written in a thread of their own: a terminal that was stopped with Ctrl-S,
or a pipe that nobody reads, must not stop the balancer.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import TextIO, assert_never

from balancer.events import (
    Attempt,
    CooldownStarted,
    Drilled,
    ProviderRecovered,
    Reloaded,
    ReloadRefused,
    RequestBegan,
    RequestEnded,
)
from balancer.model import Usage
from balancer.telemetry.background import Scribe
from balancer.telemetry.levels import Entry, Level, LogLine, level_of

COLORS = {
    Level.DEBUG: "\x1b[36m",
    Level.INFO: "\x1b[32m",
    Level.WARNING: "\x1b[33m",
    Level.ERROR: "\x1b[31m",
    Level.CRITICAL: "\x1b[1;31m",
}
"""Cyan, green, yellow, red, bold red."""

_NAMES = {level: f"{level.name:<7}" for level in Level}

_DIM = "\x1b[2m"
_RESET = "\x1b[0m"

NOTABLE_S = 0.01
"""A shorter wait for a place is not told of."""

LONGEST_NAME = 60
LONGEST_REASON = 300


def wants_color(stream: TextIO, env: Mapping[str, str], log_color: bool) -> bool:
    """Say whether lines are coloured: `log_color`, on a terminal, unless `NO_COLOR` forbids it.

    `FORCE_COLOR` colours pipes as well. See no-color.org and force-color.org.
    """
    if not log_color or env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR", "") not in ("", "0"):
        return True
    return env.get("TERM") != "dumb" and stream.isatty()


class Console:
    """A listener that tells people what happens."""

    def __init__(self, level: Level, color: bool, stream: TextIO | None = None) -> None:
        self.level = level
        self.color = color
        self._stream = stream
        self._scribe: Scribe[Entry] = Scribe("console", self._write, lambda error: None)

    def __call__(self, event: Entry) -> None:
        self.take(event, level_of(event))

    def take(self, event: Entry, level: Level) -> None:
        """Show an event that matters this much, if that is enough."""
        # That a request began is told by its end; whoever wants every step asks for DEBUG.
        if level >= self.level and (type(event) is not RequestBegan or self.level <= Level.DEBUG):
            self._scribe.put(event)

    def miss(self, count: int) -> None:
        """So many events were dropped before they came here."""
        self._scribe.miss(count)

    def close(self) -> None:
        """Write what is waiting."""
        self._scribe.close()

    def _write(self, batch: list[Entry], dropped: int) -> None:
        stream = self._stream if self._stream is not None else sys.stdout
        lines = [render(entry, self.color) for entry in batch]
        if dropped:
            lines.insert(0, f"... {dropped} lines are not shown: this terminal did not take them fast enough")
        _put(stream, "\n".join(lines) + "\n")


def _put(stream: TextIO, text: str) -> None:
    """Write past the stream's buffer: a thread that is stuck in there would keep the process from ending."""
    data = text.encode(stream.encoding or "utf-8", "backslashreplace")
    try:
        file = stream.fileno()
    except (OSError, ValueError):  # no file: somebody captures what is written
        stream.write(data.decode(stream.encoding or "utf-8"))
        stream.flush()
        return
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def render(entry: Entry, color: bool) -> str:
    """Return the line that tells of `entry`."""
    level = Level.DEBUG if type(entry) is RequestBegan else level_of(entry)
    at = _second(int(entry.wall))
    words = _ended(entry) if isinstance(entry, RequestEnded) else in_words(entry)
    if not color:
        return f"{at} {_NAMES[level]} {words}"
    loud = words if level < Level.WARNING else f"{COLORS[level]}{words}{_RESET}"
    return f"{_DIM}{at}{_RESET} {COLORS[level]}{_NAMES[level]}{_RESET} {loud}"


@lru_cache(maxsize=8)
def _second(wall: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(wall))


def in_words(entry: Entry) -> str:
    """Say what happened, without control characters whatever a client or provider sent."""
    match entry:
        case RequestEnded():
            return _ended(entry)
        case RequestBegan():
            return f"{short(entry.id)}  {_what(entry)}  {entry.body_bytes:,} bytes"
        case CooldownStarted():
            return _rested(entry)
        case ProviderRecovered():
            return f"{_whom(entry.provider, entry.model)} answers again"
        case Reloaded():
            changes = "; ".join(printable(change, LONGEST_REASON) for change in entry.changes) or "nothing changed"
            waiting = f"; needs a restart: {', '.join(entry.needs_restart)}" if entry.needs_restart else ""
            return f"configuration {entry.generation} is in force: {changes}{waiting}"
        case ReloadRefused():
            problems = "".join(f"\n  {printable(problem, LONGEST_REASON)}" for problem in entry.problems)
            return f"the changed configuration can't be used; the old one stays{problems}"
        case Drilled():
            return _drilled(entry)
        case LogLine():
            trace = "".join(f"\n  {printable(row, LONGEST_REASON)}" for row in entry.traceback.splitlines())
            return f"{printable(entry.message, LONGEST_REASON)} ({printable(entry.logger)}){trace}"
        case _:
            assert_never(entry)


def _ended(entry: RequestEnded) -> str:
    times = f"{entry.duration_s:.2f}s"
    if entry.first_content_s is not None and entry.stream:
        times = f"TTFT {entry.first_content_s:.2f}s, {times}"
    told = f"{short(entry.id)}  {_what(entry)}  {chain(entry)}  {entry.status or '-'}  {times}"
    if tokens := _tokens(entry.usage):
        told = f"{told}  {tokens}"
    if entry.outcome == "ok" and not entry.dedup and entry.queued_s < NOTABLE_S:
        return told
    notes = [f"queued {entry.queued_s:.2f}s"] if entry.queued_s >= NOTABLE_S else []
    if entry.dedup:
        notes.append(f"dedup {entry.dedup}")
    if entry.outcome != "ok":
        notes.append(f"{entry.outcome.replace('_', ' ')}: {printable(entry.reason, LONGEST_REASON)}".rstrip(": "))
    return f"{told}  {'; '.join(notes)}"


def _what(entry: RequestBegan | RequestEnded) -> str:
    model = _name(entry.model)
    return model if entry.operation == "messages" else f"{entry.operation} {model}".rstrip()


def chain(entry: RequestEnded) -> str:
    """Say who was asked, one after the other: `a 529 -> b ok`."""
    if len(entry.attempts) == 1 and entry.attempts[0].outcome == "completed":
        return _name(entry.provider)
    if not entry.attempts:
        return printable(entry.provider) or "nobody asked"
    return " -> ".join(f"{printable(attempt.provider)} {_how(attempt)}" for attempt in entry.attempts)


def _how(attempt: Attempt) -> str:
    if attempt.outcome == "completed":
        return "ok"
    drill = " (drill)" if attempt.drill else ""
    if attempt.outcome == "refused" and attempt.status:
        return f"{attempt.status}{drill}"
    return (printable(attempt.reason) or attempt.outcome) + drill


def _tokens(usage: Usage) -> str:
    taken = (usage.input_tokens or 0) + (usage.cache_read_tokens or 0) + (usage.cache_creation_tokens or 0)
    if usage.output_tokens is None and not taken:
        return ""
    cached = f" ({usage.cache_read_tokens:,} cached)" if usage.cache_read_tokens else ""
    return f"{taken:,}{cached} -> {usage.output_tokens or 0:,} tokens"


def _rested(entry: CooldownStarted) -> str:
    whom, reason = _whom(entry.provider, entry.model), printable(entry.reason, LONGEST_REASON)
    if entry.needs_operator:
        return (
            f"{whom} NEEDS YOU: {reason}; it is left alone for {_span(entry.cooldown_s)} (look at its key and account)"
        )
    return f"{whom} rests for {_span(entry.cooldown_s)}: {reason} (failure {entry.failures})"


def _whom(provider: str, model: str) -> str:
    name = printable(provider)
    return f"{name} for {printable(model)}" if model else name


def _drilled(entry: Drilled) -> str:
    if not entry.fault:
        return f"drill: {printable(entry.provider)} behaves again"
    return f"drill: {printable(entry.provider)} is made to fail ({printable(entry.fault)}), {printable(entry.until)}"


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.1f} s"


def short(request_id: str) -> str:
    """Return enough of an id to find the request in the log."""
    return printable(request_id.removeprefix("req_"))[:8]


@lru_cache(maxsize=256)
def _name(text: str) -> str:
    """Return a name, as they come again and again."""
    return printable(text)


def printable(text: str, longest: int = LONGEST_NAME) -> str:
    """Return `text` in one line that no terminal obeys: what is not printable is written out."""
    if len(text) > longest:
        text = text[: longest - 3] + "..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
