"""`audit.jsonl` beside the log: who changed what, which keys were refused, and when the process began and ended.

Written off the event loop, with mode 0600, and never through a symbolic link. Like the log it holds no secret: of a key
it has the name, or how its SHA-256 begins.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO

import msgspec

from balancer import __version__
from balancer.events import (
    Drilled,
    Event,
    ProviderPaused,
    ProviderResumed,
    ProviderWoken,
    Reloaded,
    ReloadRefused,
)
from balancer.policy.grants import MINUTE_S, Minute
from balancer.redact import scrub
from balancer.telemetry.background import DEFAULT, BackgroundWriter, WriterLimits
from balancer.telemetry.logfile import LogFile
from balancer.telemetry.write_failures import WriteFailures

NAME = "audit.jsonl"

REFUSED_A_MINUTE = 60
"""More lines about refused keys are not written within 60 seconds, but counted: strangers can't fill the disk."""

PATH_MAX_CHARS = 200


class Asker(msgspec.Struct, frozen=True):
    """Who asks the control endpoints for something."""

    address: str
    key: str = ""
    """The name of the key; empty: it has none."""
    key_hash: str = ""
    """How the SHA-256 of the key begins; empty: none was presented."""


ASKER: ContextVar[Asker | None] = ContextVar("asker", default=None)
"""Who gave the order that is carried out now; None: nobody, the balancer acts by itself."""


class Line(msgspec.Struct, omit_defaults=True):
    """One line of the file. Its `event` says what happened; fields without a meaning there are left out."""

    time: str
    event: str
    """`started`, `ended`, `reloaded`, `reload_refused`, `drill`, `wake`, `pause`, `resume`, `restart`,
    `key_refused`."""
    by: str = ""
    """`client`: whoever `address` and `key` name. `balancer`: itself, because a file has changed or a time has come."""
    address: str = ""
    key: str = ""
    key_hash: str = ""
    provider: str = ""
    fault: str = ""
    until: str = ""
    changes: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    generation: int = 0
    method: str = ""
    path: str = ""
    status: int = 0
    more: int = 0
    """So many refused keys before this one have no line."""
    version: str = ""
    pid: int = 0


class Audit:
    """Writes the file. `wall` and `now` are clocks, in seconds since the epoch and monotonic."""

    KINDS = (Reloaded, ReloadRefused, Drilled, ProviderWoken, ProviderPaused, ProviderResumed)
    """What it listens to."""

    def __init__(
        self,
        log_file: str,
        wall: Callable[[], float],
        now: Callable[[], float],
        *,
        stderr: TextIO | None = None,
        limits: WriterLimits = DEFAULT,
    ) -> None:
        self._wall = wall
        self._now = now
        self._refused = Minute()
        self._seen: dict[tuple[str, str, str], float] = {}
        """When which key of which address was refused last, with a line of its own."""
        self._left_out = 0
        self._file = LogFile(Path(log_file).with_name(NAME), private=True)
        self._failures = WriteFailures(self._file.path, "it", stderr)
        self._writer: BackgroundWriter[Line] = BackgroundWriter("audit", self._write, self._failures.failed, limits)

    def started(self) -> None:
        """Note that the process serves."""
        self._put("started", version=__version__, pid=os.getpid())

    def close(self) -> None:
        """Note that the process ends, and write what is waiting."""
        self._put("ended", pid=os.getpid())
        self._writer.close()
        self._file.close()

    def take(self, event: Event) -> None:
        """Take an event of the bus."""
        match event:
            case Reloaded():
                fields = {"changes": event.changes, "needs_restart": event.needs_restart}
                self._ordered("reloaded", generation=event.generation, **fields)
            case ReloadRefused():
                self._ordered("reload_refused", problems=event.problems)
            case Drilled():
                self._ordered("drill", provider=event.provider, fault=event.fault, until=event.until)
            case ProviderWoken(by="operator"):
                self._ordered("wake", provider=event.provider)
            case ProviderPaused():
                self._ordered("pause", provider=event.provider)
            case ProviderResumed():
                self._ordered("resume", provider=event.provider)
            case _:
                return

    def restart(self) -> None:
        """Note that a rolling restart was ordered."""
        self._ordered("restart")

    def refused(self, asker: Asker, method: str, path: str, status: int) -> None:
        """Note that a key was refused: once a minute for each key and address, and not too often in all."""
        now, what = self._now(), (asker.key_hash, asker.address, asker.key)
        last = self._seen.get(what)
        if (last is not None and now - last < MINUTE_S) or self._refused.wait_s(REFUSED_A_MINUTE, now):
            self._left_out += 1
            return
        self._refused.add(1, now)
        if len(self._seen) >= 2 * REFUSED_A_MINUTE:
            self._seen = {key: at for key, at in self._seen.items() if now - at < MINUTE_S}
        self._seen[what] = now
        more, self._left_out = self._left_out, 0
        shown = scrub(path[:PATH_MAX_CHARS])
        self._put("key_refused", **_fields(asker), method=method[:20], path=shown, status=status, more=more)

    def _ordered(self, event: str, **fields: object) -> None:
        asker = ASKER.get()
        self._put(event, by="balancer" if asker is None else "client", **_fields(asker), **fields)

    def _put(self, event: str, **fields: object) -> None:
        wall = self._wall()
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall))
        self._writer.put(
            msgspec.convert({"time": f"{second}.{int(wall * 1000) % 1000:03d}Z", "event": event, **fields}, Line)
        )

    def _write(self, batch: list[Line], dropped: int) -> None:
        # ASCII alone: whatever a client sent as a path, a terminal obeys nothing of it.
        self._file.append(b"".join(_ascii(msgspec.json.encode(line)) + b"\n" for line in batch))
        self._failures.wrote()


def _fields(asker: Asker | None) -> dict[str, object]:
    return {} if asker is None else {"address": asker.address, "key": asker.key, "key_hash": asker.key_hash}


def _ascii(line: bytes) -> bytes:
    if line.isascii() and b"\x7f" not in line:
        return line
    text = line.decode().replace("\x7f", "\\u007f")
    return "".join(char if char.isascii() else _escaped(char) for char in text).encode()


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{int.from_bytes(units[at : at + 2], 'big'):04x}" for at in range(0, len(units), 2))
