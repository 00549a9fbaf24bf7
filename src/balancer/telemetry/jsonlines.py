"""`logs/logs.jsonl`: one JSON line for everything that happens, written off the event loop."""

from __future__ import annotations

import re
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import TextIO, get_args

import msgspec

from balancer.events import Event
from balancer.telemetry.background import Scribe
from balancer.telemetry.levels import Entry, Level, LogLine, level_of
from balancer.telemetry.logfile import LogFile

_ENCODER = msgspec.json.Encoder()

_RAW_CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]")
"""What JSON lets stand and a terminal may obey or a reader of lines may stumble over: DEL, the C1
controls, line separators and the marks that turn the direction of writing."""


_TAGS = {
    kind: (tag := str(kind.__struct_config__.tag), len(b'{"type":""') + len(tag))
    for kind in (*get_args(Event), LogLine)
}
"""Each kind's name, and where what follows it begins: msgspec always writes it first."""


_MILLISECONDS = tuple(b'.%03dZ"' % number for number in range(1000))


class JsonLines:
    """A listener that writes every event to a file."""

    def __init__(self, path: Path, level: Level = Level.INFO, stderr: TextIO | None = None) -> None:
        self.level = level
        self._file = LogFile(path)
        self._stderr = stderr
        self._complained = ""
        self._scribe: Scribe[Entry] = Scribe("log-file", self._write, self._on_error)

    def __call__(self, event: Entry) -> None:
        self.take(event, level_of(event))

    def take(self, event: Entry, level: Level) -> None:
        """Write an event that matters this much, if that is enough."""
        if level >= self.level:
            self._scribe.put(event)

    def miss(self, count: int) -> None:
        """So many events were dropped before they came here."""
        self._scribe.miss(count)

    def close(self) -> None:
        """Write what is waiting and close the file."""
        self._scribe.close()
        self._file.close()

    def _write(self, batch: list[Entry], dropped: int) -> None:
        lines = [line(entry) for entry in batch]
        if dropped:
            words = f"{dropped} lines before this one were not written: the log was not written fast enough"
            lines.insert(0, line(LogLine(batch[0].wall, Level.ERROR, "balancer.logs", words)))
        self._file.append(b"".join(lines))
        if self._complained:
            self._complained = ""
            self._say(f"balancer: {self._file.path} can be written again")

    def _on_error(self, error: Exception) -> None:
        """Say it once, not at every line."""
        reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        if reason != self._complained:
            self._complained = reason
            self._say(f"balancer: {self._file.path} can't be written ({reason}); serving goes on without this log")

    def _say(self, words: str) -> None:
        stream = self._stderr if self._stderr is not None else sys.stderr
        try:
            print(words, file=stream, flush=True)
        except (OSError, ValueError):
            return  # there is nobody left to tell


def line(entry: Entry) -> bytes:
    """Return the line that tells of `entry`: `time`, `level`, `event`, then what it holds."""
    said, starts_at = _said(type(entry), level_of(entry))
    rest = _ENCODER.encode(entry)[starts_at:]
    if not rest.isascii() or rest.find(b"\x7f") >= 0:
        rest = _RAW_CONTROLS.sub(_escaped, rest)
    wall_ms = int(entry.wall * 1000)  # not of the fraction: what it loses below the point shows above it
    return b"".join((_second(wall_ms // 1000), _MILLISECONDS[wall_ms % 1000], said, rest, b"\n"))


@lru_cache(maxsize=64)
def _said(kind: type[Entry], level: Level) -> tuple[bytes, int]:
    """Return what stands between the time and what an entry holds, and where that begins in its JSON."""
    tag, starts_at = _TAGS[kind]
    return f',"level":"{level.name}","event":"{tag}"'.encode(), starts_at


def _escaped(match: re.Match[bytes]) -> bytes:
    return f"\\u{ord(match[0].decode()):04x}".encode()


@lru_cache(maxsize=8)
def _second(wall: int) -> bytes:
    return time.strftime('{"time":"%Y-%m-%dT%H:%M:%S', time.gmtime(wall)).encode()
