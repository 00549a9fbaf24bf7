"""The terminal: one line when a request ends, and one for whatever happens to a provider.

The line of a request has columns: time, level, model, provider, outcome, durations, tokens, share
of the prompt that came from the cache, what else there is to say, id. A fact stands in it once.

Lines are rendered and written in a thread of their own: a terminal that was stopped with Ctrl-S,
or a pipe that nobody reads, must not stop the balancer.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TextIO, assert_never

from balancer.events import (
    Attempt,
    CooldownStarted,
    Drilled,
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
from balancer.model import Usage
from balancer.redact import EMPTY
from balancer.telemetry.background import DEFAULT, BackgroundWriter, WriterLimits
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

_RESET = "\x1b[0m"

MODEL_WIDTH = 26
PROVIDER_WIDTH = 12
"""In characters. What is longer moves the rest of its line."""

_INDENT = " " * 9
"""Of what does not fit into the terminal: it stands below the level."""

_WORDS_AT = 17
"""Where the words begin, behind time and level."""

LEAST_WIDTH = 40
"""A terminal that is narrower wraps lines itself."""

NOTABLE_S = 0.01
"""A shorter wait for a slot is not mentioned."""

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

    def __init__(self, level: Level, color: bool, stream: TextIO | None = None, limits: WriterLimits = DEFAULT) -> None:
        self.level = level
        self.color = color
        self.secrets = EMPTY
        """What is never shown, wherever it came from."""
        self._stream = stream
        self._writer: BackgroundWriter[Entry] = BackgroundWriter("console", self._write, lambda error: None, limits)

    def __call__(self, event: Entry) -> None:
        self.take(event, level_of(event))

    def take(self, event: Entry, level: Level) -> None:
        """Show an event that matters this much, if that is enough."""
        # That a request began is told by its end; whoever wants every step asks for DEBUG.
        if level >= self.level and (type(event) is not RequestBegan or self.level <= Level.DEBUG):
            self._writer.put(event)

    def count_dropped(self, count: int) -> None:
        """Count events that were dropped before they came here: the terminal says how many lines it lacks."""
        self._writer.count_dropped(count)

    def close(self) -> None:
        """Write what is waiting."""
        self._writer.close()

    def _write(self, batch: list[Entry], dropped: int) -> None:
        stream = self._stream if self._stream is not None else sys.stdout
        width = width_of(stream)
        lines = [render(entry, self.color, width) for entry in batch]
        if dropped:
            lines.insert(0, f"... {dropped} lines are not shown: this terminal did not take them fast enough")
        text = "\n".join(lines) + "\n"
        shown = self.secrets.without(text.encode("utf-8", "surrogatepass"), short=False)
        _put(stream, shown.decode("utf-8", "surrogatepass"))


def width_of(stream: TextIO) -> int | None:
    """Return how many columns a terminal has; None: it is none, and nothing has to fit."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def _put(stream: TextIO, text: str) -> None:
    """Write past the stream's buffer: a thread that is stuck in there would keep the process from ending."""
    data = encoded(text, stream.encoding or "utf-8")
    try:
        file = stream.fileno()
    except (OSError, ValueError):  # no file: somebody captures what is written
        stream.write(data.decode(stream.encoding or "utf-8"))
        stream.flush()
        return
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def encoded(text: str, encoding: str) -> bytes:
    """Return `text` for a terminal, which may lack our letters."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return text.replace("→", "->").encode(encoding, "backslashreplace")


def render(entry: Entry, color: bool, width: int | None = None) -> str:
    """Return what to show of `entry`: one line, or several where it does not fit into `width` columns."""
    level = Level.DEBUG if type(entry) is RequestBegan else level_of(entry)
    before, state, after = _ended(entry) if isinstance(entry, RequestEnded) else ("", "", in_words(entry))
    shown = f"{_second(int(entry.wall))} {_NAMES[level]} {before}{state}{after}"
    if width is not None and len(shown) > width >= LEAST_WIDTH:
        shown = _wrapped(shown, width)
    if not color:
        return shown
    # Only what says how things are has a colour. The state comes first: its place counts from the left.
    at = _WORDS_AT + len(before)
    if state and shown.startswith(state, at):
        shown = f"{shown[:at]}{COLORS[level]}{state}{_RESET}{shown[at + len(state) :]}"
    return f"{shown[:9]}{COLORS[level]}{_NAMES[level]}{_RESET}{shown[_WORDS_AT - 1 :]}"


def _wrapped(shown: str, width: int) -> str:
    """Break lines between fields where that is possible, else between words; never within a number."""
    lines = []
    for line in shown.split("\n"):
        rest = line
        while len(rest) > width:
            end = rest.rfind("  ", width // 2, width + 1)
            end = end if end > 0 else rest.rfind(" ", len(_INDENT) + 1, width + 1)
            if end <= 0:
                break  # one word that is longer than the terminal is wide
            lines.append(rest[:end].rstrip())
            rest = _INDENT + rest[end:].lstrip()
        lines.append(rest)
    return "\n".join(lines)


@lru_cache(maxsize=8)
def _second(wall: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(wall))


def in_words(entry: Entry) -> str:
    """Say what happened, without control characters whatever a client or provider sent."""
    match entry:
        case RequestEnded():
            return "".join(_ended(entry))
        case RequestBegan():
            return f"{_what(entry)}  {entry.body_bytes:,} bytes  {short(entry.id)}"
        case CooldownStarted():
            return _rested(entry)
        case ReasoningLeft():
            between = f"{printable(entry.previous)} to {printable(entry.provider)}"
            return f"reasoning left behind, from {between}: another organization  {short(entry.id)}"
        case ProviderRecovered():
            return f"{_whom(entry)} has recovered"
        case ProviderWoken():
            return f"{printable(entry.provider)}: cooldown ended {_WOKEN.get(entry.by, printable(entry.by))}"
        case ProviderPaused():
            return f"{printable(entry.provider)} is paused: it gets no requests until it is resumed"
        case ProviderResumed():
            return f"{printable(entry.provider)} is resumed"
        case Reloaded():
            changes = "; ".join(printable(change, LONGEST_REASON) for change in entry.changes) or "nothing changed"
            waiting = f"; needs a restart: {', '.join(entry.needs_restart)}" if entry.needs_restart else ""
            return f"configuration {entry.generation} applied: {changes}{waiting}"
        case ReloadRefused():
            problems = "".join(f"\n  {printable(problem, LONGEST_REASON)}" for problem in entry.problems)
            return f"the changed configuration can't be used, the old one stays:{problems}"
        case Drilled():
            return _drilled(entry)
        case WorkerEnded():
            when = f"in {entry.wait_s:.0f} s" if entry.wait_s else "now"
            what = _WORKER_ENDED.get(entry.reason, "ended")
            return f"worker {entry.worker} (pid {entry.pid}) {what}: {entry.how}; a new one is started {when}"
        case LogLine():
            trace = "".join(f"\n  {printable(row, LONGEST_REASON)}" for row in entry.traceback.splitlines())
            return f"{printable(entry.message, LONGEST_REASON)} ({printable(entry.logger)}){trace}"
        case _:
            assert_never(entry)


_WORKER_ENDED = {"start": "did not start", "hang": "hung, and was killed"}

_WOKEN = {
    "operator": "by hand",
    "probe": "early: a probe was answered",
    "drill": "with the injected fault that had caused it",
}


def _ended(entry: RequestEnded) -> tuple[str, str, str]:
    """Return the columns before the outcome, the outcome, and those after it."""
    before = _columns(entry.model, entry.provider)
    times = f"  total {entry.duration_s:.2f}s"
    if entry.first_content_s is not None and entry.stream:
        times = f"  first token {entry.first_content_s:.2f}s total {entry.duration_s:.2f}s"
    after = times + _tokens(entry.usage)
    if entry.operation != "messages":
        after = f"{after}  {_name(entry.operation)}"
    if entry.outcome == "ok" and len(entry.attempts) < 2 and entry.queued_s < NOTABLE_S and not entry.dedup:
        return before, "ok", f"{after}  {short(entry.id)}"
    notes = _why(entry)
    if entry.queued_s >= NOTABLE_S:
        notes.append(f"queued {entry.queued_s:.2f}s")
    if entry.dedup == "follower":
        notes.append("coalesced")
    return before, outcome(entry), "  ".join([after, *notes, short(entry.id)])


@lru_cache(maxsize=256)
def _columns(model: str, provider: str) -> str:
    """Return the first columns, as the same names come again and again."""
    return f"{printable(model) or '-':<{MODEL_WIDTH}}  {printable(provider) or '-':<{PROVIDER_WIDTH}}  "


_OUTCOMES = {"client_error": "client error", "broken_stream": "broken stream", "abandoned": "client left"}


def outcome(entry: RequestEnded) -> str:
    """Say how a request ended: `ok`, or in words, with the status where one was sent."""
    if entry.outcome == "ok":
        return "ok"
    words = _OUTCOMES.get(entry.outcome) or printable(entry.outcome)
    return f"{entry.status} {words}" if entry.outcome in ("failed", "client_error") else words


def _why(entry: RequestEnded) -> list[str]:
    """Say which attempts failed before, and why it ended as it did. What another column tells is left out."""
    earlier = entry.attempts
    if entry.outcome == "failed" and entry.reason:
        earlier = ()  # the reason names them all
    elif earlier and earlier[-1].provider == entry.provider:
        earlier = earlier[:-1]  # whose answer it is, in its column
    notes = [f"after {chain(earlier)}"] if earlier else []
    _, named, rest = entry.reason.partition(f"'{entry.model}': ")
    reason = printable((rest if named else entry.reason).removeprefix(f"{entry.status} "), LONGEST_REASON)
    if reason and not (entry.outcome == "abandoned" and reason == "the client left"):
        notes.append(reason)
    if not earlier and any(attempt.drill for attempt in entry.attempts):
        notes.append("(drill)")
    return notes


def _what(entry: RequestBegan) -> str:
    model = _name(entry.model)
    return model if entry.operation == "messages" else f"{_name(entry.operation)} {model}".rstrip()


def chain(attempts: Sequence[Attempt]) -> str:
    """Say which providers failed, one after the other: `a 529, b connection refused`."""
    return ", ".join(f"{printable(attempt.provider)} {how(attempt)}" for attempt in attempts)


def how(attempt: Attempt) -> str:
    """Say how an attempt ended, in a word or two."""
    if attempt.outcome == "completed":
        return "ok"
    drill = " (drill)" if attempt.drill else ""
    if attempt.outcome == "refused" and attempt.status:
        return f"{attempt.status}{drill}"
    return (printable(attempt.reason) or printable(attempt.outcome)) + drill


def _tokens(usage: Usage) -> str:
    cached = usage.cache_read_tokens or 0
    taken = (usage.input_tokens or 0) + cached + (usage.cache_creation_tokens or 0)
    if usage.output_tokens is None and not taken:
        return ""
    told = f"  {taken:,}→{usage.output_tokens or 0:,} tokens"
    return f"{told}  {100 * cached // taken}% cached" if cached else told


def _rested(entry: CooldownStarted) -> str:
    whom, reason = _whom(entry), printable(entry.reason, LONGEST_REASON)
    until = time.strftime("%H:%M:%S", time.localtime(entry.wall + entry.cooldown_s))
    cooldown = f"cooldown {_span(entry.cooldown_s)}, until {until}"
    if entry.needs_operator:
        remedy = printable(entry.remedy, LONGEST_REASON) or f"{reason}; look at its key and account"
        return f"{whom} NEEDS YOU: {remedy}; {cooldown}"
    return f"{whom} failed: {reason}; {cooldown} (failure {entry.failures})"


def _whom(entry: CooldownStarted | ProviderRecovered) -> str:
    name = printable(entry.provider)
    if entry.scope == "counting":
        return f"{name} for counting tokens"
    return f"{name} for {printable(entry.model)}" if entry.model else name


def _drilled(entry: Drilled) -> str:
    provider = printable(entry.provider)
    if not entry.fault:
        return f"fault injection into {provider} has ended"
    return f"fault injection into {provider}: {printable(entry.fault)}, {printable(entry.until)}"


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
