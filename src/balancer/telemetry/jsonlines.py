"""`logs/logs.jsonl`: one JSON line for every event, written off the event loop."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TextIO, get_args

import msgspec

from balancer.events import Event
from balancer.policy import shortage
from balancer.redact import EMPTY
from balancer.telemetry.background import DEFAULT, BackgroundWriter, WriterLimits
from balancer.telemetry.levels import Entry, Level, LogLine, level_of
from balancer.telemetry.logfile import LogFile
from balancer.telemetry.write_failures import WriteFailures

_ENCODER = msgspec.json.Encoder()

_RAW_CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")
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
        self._failures = WriteFailures(path, "this log", stderr)
        self._unwritten = 0
        """How many lines could not be written, since the start."""
        self._untold: Counter[str] = Counter()
        """How many lines are missing of which the file does not tell yet, by reason."""
        self.on_shortage: Callable[[str], None] = _nothing
        """Called, in the thread that writes, with the kind of the shortage for which lines could not be written."""
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

    @property
    def lost(self) -> int:
        """How many lines the file lacks: they could not be written, or not fast enough."""
        return self._unwritten + self._writer.dropped

    def close(self) -> None:
        """Write what is waiting and close the file."""
        self._writer.close()
        self._file.close()

    def _write(self, batch: list[Entry], dropped: int) -> None:
        untold = self._untold
        if dropped:
            untold["the log was not written fast enough"] += dropped
        missing = "; ".join(f"{count} lines before this one were not written: {why}" for why, count in untold.items())
        lines = [line(entry, self._worker) for entry in batch]
        if missing:
            lines.insert(0, line(LogLine(batch[0].wall, Level.ERROR, "balancer.logs", missing), self._worker))
        data = self.secrets.without(b"".join(lines), short=False)
        try:
            self._file.append(data)
        except OSError as error:
            written = data.count(b"\n", 0, self._file.written_bytes)
            if written and missing:
                written -= 1
                untold.clear()
            untold[error.strerror or type(error).__name__] += len(batch) - written
            self._unwritten += len(batch) - written
            raise
        untold.clear()
        self._failures.wrote(missing or "nothing is missing")

    def _on_error(self, error: Exception) -> None:
        if kind := shortage.kind_of(error):
            self.on_shortage(kind)
        self._failures.failed(error)


def _nothing(kind: str) -> None:
    return


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
