"""`balancer logs`: the JSON log for people."""

from __future__ import annotations

import argparse
import os
import select
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from balancer.commands import lease, log_entries, log_lines, reading
from balancer.commands.complaint import complain, notice
from balancer.commands.log_entries import Line, Unknown
from balancer.config import Config, ConfigError
from balancer.events import RequestBegan, RequestEnded
from balancer.telemetry.console import encoded, printable, render, wants_color, width_of

LAST = 50
"""How many lines are shown where nobody says how many."""

EVERY_S = 0.25
DISORDER_S = 60.0
"""By how much a line may be older than one before it: several workers write them, in batches."""

Shown = tuple[float, str]
"""When it happened, in seconds since the epoch, and the line that says so."""


def run(args: argparse.Namespace) -> int:
    """Return 0; 1 if there is no log or no such request; 2 if the configuration is wrong."""
    try:
        path, color = _log(args)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if path is None:
        complain("settings.log_file is null, so no log is written")
        return 1
    reader = Reader(path, args.failed, color and wants_color(sys.stdout, os.environ, True))
    try:
        if not args.follow and not log_lines.files(path):
            complain(f"there is no log {path} yet; another one: --file FILE")
            return 1
        return _one(path, args.id) if args.id else _many(reader, args)
    except BrokenPipeError:
        raise
    except OSError as error:
        complain(f"the log {path} can't be read: {error.strerror}")
        return 1


def _log(args: argparse.Namespace) -> tuple[Path | None, bool]:
    """Return the log's path and whether colours are wanted. Raises `ConfigError`."""
    if args.file:
        return Path(args.file), True
    config = reading.read(args.config)
    return path_of(config), config.settings.log_color


def path_of(config: Config) -> Path | None:
    """Return where the log is. A relative path may lie here, beside the configuration, or with `balancer run`."""
    if not config.settings.log_file:
        return None
    name = Path(config.settings.log_file)
    beside = [config.path.parent] if config.path else []
    places = [name, *(folder / name for folder in (*beside, lease.folder()))]
    return max(places, key=_written_at)  # the first of those that are not there


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


class Reader:
    """Turns lines of the log into lines for people, and counts those that can't be read."""

    def __init__(self, path: Path, failed: bool, color: bool) -> None:
        self.path = path
        self.failed = failed
        self.unreadable = 0
        self._color = color
        self._width = width_of(sys.stdout)

    def shown(self, lines: Iterable[bytes]) -> Iterator[Shown]:
        """Return what there is to show."""
        for line in lines:
            if self._is_wanted(line) and (told := self._told(line)) is not None:
                yield told

    def _is_wanted(self, line: bytes) -> bool:
        if self.failed:
            return log_entries.may_have_failed(line)
        return not log_entries.is_about(line, "request_began")  # its end tells of it

    def _told(self, line: bytes) -> Shown | None:
        entry = log_entries.decoded(line)
        if entry is None:
            self.unreadable += bool(line.strip())
            return None
        if self.failed and not log_entries.has_failed(entry):
            return None
        return entry.wall, self._rendered(entry)

    def _rendered(self, entry: Line) -> str:
        try:
            if isinstance(entry, Unknown):
                return log_entries.unknown(entry)
            return render(entry, self._color, self._width)
        except (OverflowError, ValueError, OSError):  # a time that no calendar has
            return f"{printable(type(entry).__name__)} at {entry.wall}"


def _many(reader: Reader, args: argparse.Namespace) -> int:
    """Show the last lines, or those since a time; then, if that is asked for, those that come."""
    page = Page()
    start = _end(reader.path) if args.follow else None
    for shown in _past(reader, args.lines, args.since):
        page.put(shown)
    page.flush()
    if reader.unreadable:
        notice(f"{reading.counted(reader.unreadable, 'line')} of {reader.path} can't be read")
    if args.follow:
        if start is None:
            notice(f"there is no log {reader.path} yet; waiting for it")
        for lines in log_lines.follow(reader.path, start, wait):
            for shown in reader.shown(lines):
                page.put(shown)
            page.flush()
    return 0


def _past(reader: Reader, count: int | None, since: float | None) -> Iterator[Shown]:
    if since is not None and count is None:
        yield from (s for s in reader.shown(_since(reader.path, since)) if s[0] >= since)
        return
    kept: deque[Shown] = deque()
    wanted = LAST if count is None else count
    for shown in reader.shown(log_lines.newest_first(reader.path)):
        if len(kept) == wanted or (since is not None and shown[0] < since - DISORDER_S):
            break
        if since is None or shown[0] >= since:
            kept.appendleft(shown)
    yield from kept


def _since(path: Path, since: float) -> Iterator[bytes]:
    """Leave out older lines by their first bytes, so that a large log is read fast."""
    with suppress(ValueError, OverflowError, OSError):
        oldest = datetime.fromtimestamp(since, UTC).strftime('{"time":"%Y-%m-%dT%H:%M:%S').encode()
        return (
            line for line in log_lines.oldest_first(path, since) if line[: len(oldest)] >= oldest or line[:2] != b'{"'
        )
    return log_lines.oldest_first(path, since)


def _end(path: Path) -> int | None:
    try:
        with path.open("rb") as file:
            return log_lines.whole_lines_end(file)
    except FileNotFoundError:
        return None


class Page:
    """Writes lines, and the day above those of another one."""

    def __init__(self) -> None:
        self._day = _day(time.time())
        self._lines: list[str] = []

    def put(self, shown: Shown) -> None:
        wall, line = shown
        if (day := _day(wall)) != self._day:
            self._day = day
            self._lines.append(f"--- {day}")
        self._lines.append(line)
        if len(self._lines) > 1000:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            text = "\n".join(self._lines) + "\n"
            self._lines.clear()
            encoding = sys.stdout.encoding or "utf-8"
            sys.stdout.write(encoded(text, encoding).decode(encoding))
            sys.stdout.flush()


def _day(wall: float) -> str:
    try:
        return time.strftime("%Y-%m-%d", time.localtime(wall))
    except (OverflowError, ValueError, OSError):
        return "?"


def _one(path: Path, wanted: str) -> int:
    """Show all of one request: the newest whose id begins so."""
    prefix = wanted.removeprefix("req_")
    began, ended, others = _found(path, prefix) if prefix else (None, None, set())
    if began is None and ended is None:
        complain(f"the log {path} has no request whose id begins with '{printable(wanted)}'")
        return 1
    print(log_entries.record(began, ended))
    if others:
        more = ", ".join(sorted(printable(other) for other in others)[:5])
        notice(f"this is the newest; other ids begin so too: {more}")
    return 0


def _found(path: Path, prefix: str) -> tuple[RequestBegan | None, RequestEnded | None, set[str]]:
    """Search backwards for a request. It began before it ended, and not longer before than it took."""
    began: RequestBegan | None = None
    ended: RequestEnded | None = None
    others: set[str] = set()
    sign = prefix.encode(errors="surrogateescape")
    oldest = -float("inf")
    for line in log_lines.newest_first(path):
        if sign not in line and oldest == -float("inf"):
            continue
        entry = log_entries.decoded(line)
        if entry is not None and entry.wall < oldest:
            break
        if not isinstance(entry, RequestBegan | RequestEnded) or not entry.id.removeprefix("req_").startswith(prefix):
            continue
        known = ended or began
        if known is not None and entry.id != known.id:
            others.add(entry.id)
        elif isinstance(entry, RequestEnded):
            ended = entry
            oldest = entry.wall - entry.duration_s - DISORDER_S
        else:
            began = entry
            if ended is not None:
                break
            oldest = entry.wall - DISORDER_S
    return began, ended, others


def wait(within_s: float = EVERY_S) -> None:
    """Wait for new lines. Raises `BrokenPipeError` if nobody reads ours any more."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        descriptor = -1
    if descriptor < 0 or not hasattr(select, "poll"):
        time.sleep(within_s)
        return
    poller = select.poll()
    poller.register(descriptor, 0)
    if poller.poll(within_s * 1000):
        raise BrokenPipeError
