"""`logs/logs.jsonl`: one JSON line for every event, written off the event loop."""

from __future__ import annotations

import re
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import TextIO, get_args

import msgspec

from balancer.events import Event
from balancer.redact import EMPTY
from balancer.telemetry.background import DEFAULT, BackgroundWriter, WriterLimits
from balancer.telemetry.levels import Entry, Level, LogLine, level_of
from balancer.telemetry.logfile import LogFile

_ENCODER = msgspec.json.Encoder()

_RAW_CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]")
"""What JSON allows raw, but a terminal may obey or a reader of lines may stumble over: DEL, the C1 controls, line
separators and the marks that turn the direction of writing."""


_TAGS = {
    kind: (tag := str(kind.__struct_config__.tag), len(b'{"type":""') + len(tag))
    for kind in (*get_args(Event), LogLine)
}
"""Each kind's name in the log, and where its fields begin in its JSON: msgspec always writes the tag first."""


_MILLISECONDS = tuple(b'.%03dZ"' % number for number in range(1000))


class JsonLines:
    """A listener that writes every event of `level` or above to a file."""

    def __init__(
        self,
        path: Path,
        level: Level = Level.INFO,
        stderr: TextIO | None = None,
        limits: WriterLimits = DEFAULT,
        worker: str = "",
    ) -> None:
        """`worker`: the number of this process among several that write the same file; each line has it then."""
        self.level = level
        self.secrets = EMPTY
        """What never stands in a line, wherever it came from."""
        self._file = LogFile(path)
        self._worker = worker
        self._stderr = stderr
        self._failure = ""
        """Why the file can't be written now; empty: it can."""
        self._writer: BackgroundWriter[Entry] = BackgroundWriter("log-file", self._write, self._on_error, limits)

    def __call__(self, event: Entry) -> None:
        self.take(event, level_of(event))

    def take(self, event: Entry, level: Level) -> None:
        """Write an event of this level, if the file takes that level."""
        if level >= self.level:
            self._writer.put(event)

    def count_dropped(self, count: int) -> None:
        """Count events that were dropped before they came here: the file says how many lines it lacks."""
        self._writer.count_dropped(count)

    def close(self) -> None:
        """Write what is waiting and close the file."""
        self._writer.close()
        self._file.close()

    def _write(self, batch: list[Entry], dropped: int) -> None:
        lines = [line(entry, self._worker) for entry in batch]
        if dropped:
            message = f"{dropped} lines before this one were not written: the log was not written fast enough"
            lines.insert(0, line(LogLine(batch[0].wall, Level.ERROR, "balancer.logs", message), self._worker))
        self._file.append(self.secrets.without(b"".join(lines), short=False))
        if self._failure:
            self._failure = ""
            self._report(f"balancer: {self._file.path} can be written again")

    def _on_error(self, error: Exception) -> None:
        """Report a failure once, not for every batch."""
        reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        if reason != self._failure:
            self._failure = reason
            self._report(f"balancer: {self._file.path} can't be written ({reason}); serving goes on without this log")

    def _report(self, message: str) -> None:
        stream = self._stderr if self._stderr is not None else sys.stderr
        try:
            print(message, file=stream, flush=True)
        except (OSError, ValueError):
            return  # stderr is closed: there is no other place to report to


def line(entry: Entry, worker: str = "") -> bytes:
    """Return an entry's line: `time`, `level`, `event`, then its fields."""
    before, starts_at = _before_fields(type(entry), level_of(entry), worker)
    fields = _ENCODER.encode(entry)[starts_at:]
    if not fields.isascii() or fields.find(b"\x7f") >= 0:
        fields = _RAW_CONTROLS.sub(_escaped, fields)
    wall_ms = int(entry.wall * 1000)  # not of the fraction: what it loses below the point shows above it
    return b"".join((_second(wall_ms // 1000), _MILLISECONDS[wall_ms % 1000], before, fields, b"\n"))


@lru_cache(maxsize=64)
def _before_fields(kind: type[Entry], level: Level, worker: str) -> tuple[bytes, int]:
    """Return what stands between the time and an entry's fields, and where the fields begin in its JSON."""
    tag, starts_at = _TAGS[kind]
    number = f',"worker":{int(worker)}' if worker else ""
    return f',"level":"{level.name}","event":"{tag}"{number}'.encode(), starts_at


def _escaped(match: re.Match[bytes]) -> bytes:
    return f"\\u{ord(match[0].decode()):04x}".encode()


@lru_cache(maxsize=8)
def _second(wall: int) -> bytes:
    return time.strftime('{"time":"%Y-%m-%dT%H:%M:%S', time.gmtime(wall)).encode()
