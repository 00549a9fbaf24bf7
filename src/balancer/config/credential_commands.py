"""Credentials that a program prints (`auth_value_command`): bounded in time and output, and remembered for a while.

The program runs without a shell, in the folder of the configuration file, without input, and in a session of its own.
What it prints as errors is thrown away: it may hold the secret. While a credential is fresh the program is not run; a
refusal by the provider ends that. A program that fails leaves the last credential in force.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from balancer.config.secret_files import MAX_BYTES, Unusable, one_line

FRESH_S = 300.0
"""A credential is taken as it was printed for so long; then the program is run again."""

REFUSED_S = 10.0
"""After a refusal by the provider the program is run again at once, but not twice within this time."""

FAILED_S = 30.0
"""After a failure it is run again when this time is over."""

TIMEOUT_S = 10.0
"""How long a program may take."""

REST_S = 0.5
"""How long the end of the output is waited for when the program has ended, but something that it started has not."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, and the folder that it runs in."""

    argv: tuple[str, ...] = field(repr=False)
    folder: Path


@dataclass(slots=True)
class _Printed:
    secret: str = field(repr=False)
    due_at: float
    """When the program is to be run again."""
    asked_again_at: float = -math.inf
    """When it was last run because of a refusal."""
    is_refused: bool = False
    failure: str = ""
    """Why the last run failed; empty: it did not."""


class CredentialCommands:
    """What the programs have printed. Used by several threads. `now` is a monotonic clock, in seconds."""

    def __init__(self, now: Callable[[], float], *, timeout_s: float = TIMEOUT_S) -> None:
        self._now = now
        self._timeout_s = timeout_s
        self._known: dict[Command, _Printed] = {}
        self._lock = threading.Lock()

    def secret(self, asked: Command) -> tuple[str, str]:
        """Return the credential, and why it could not be renewed (empty: it is as it should be).

        Runs the program where it is due. Raises `Unusable` where it fails and nothing is known.
        """
        with self._lock:
            known = self._known.get(asked)
            now = self._now()
            if known is not None and now < known.due_at:
                return known.secret, known.failure
            if known is None:
                self._known[asked] = _Printed(_printed_by(asked, self._timeout_s), now + FRESH_S)
                return self._known[asked].secret, ""
            if known.is_refused:
                known.is_refused, known.asked_again_at = False, now
            try:
                known.secret, known.failure, known.due_at = _printed_by(asked, self._timeout_s), "", now + FRESH_S
            except Unusable as error:
                known.failure, known.due_at = str(error), now + FAILED_S
            return known.secret, known.failure

    def expire(self, asked: Command) -> None:
        """Run this program again when its credential is asked for next: a person wants it."""
        if known := self._known.get(asked):
            known.due_at = self._now()

    def refused(self, asked: Command) -> None:
        """Run this program again as soon as it may: a provider has refused its credential."""
        if known := self._known.get(asked):
            known.is_refused = True
            known.due_at = min(known.due_at, max(self._now(), known.asked_again_at + REFUSED_S))

    def failure(self, asked: Command) -> str:
        """Return why this program's last run failed; empty: it did not."""
        known = self._known.get(asked)
        return "" if known is None else known.failure

    def due_in_s(self, commands: Iterable[Command]) -> float | None:
        """Return the seconds until one of these is to be run again; None: none is known."""
        known = (self._known.get(one) for one in commands)
        due = min((printed.due_at for printed in known if printed is not None), default=None)
        return None if due is None else max(0.0, due - self._now())


def _printed_by(asked: Command, timeout_s: float) -> str:
    """Run a program and return the one line that it prints. Raises `Unusable`."""
    try:
        process = subprocess.Popen(  # noqa: S603 - what the owner of the configuration asks for, without a shell
            asked.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=asked.folder,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise Unusable(f"can't be run: {getattr(error, 'strerror', None) or type(error).__name__}") from None
    parts: list[bytes] = []
    reader = threading.Thread(target=_collect, args=(process, parts), name="credential-command", daemon=True)
    reader.start()
    try:
        status = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.wait()
        reader.join(REST_S)
        raise Unusable(f"was ended: it took longer than {timeout_s:g} s") from None
    reader.join(REST_S)
    data = b"".join(parts)
    if len(data) > MAX_BYTES:
        raise Unusable(f"was ended: it printed more than {MAX_BYTES} bytes")
    if status:
        ended = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
        raise Unusable(f"failed: it {ended}")
    try:
        return one_line(data)
    except Unusable as error:
        raise Unusable(f"printed what is no key: it {error}") from None


def _collect(process: subprocess.Popen[bytes], parts: list[bytes]) -> None:
    """Read what a program prints, and end it when that is too much."""
    size = 0
    with cast("IO[bytes]", process.stdout) as pipe:
        while data := os.read(pipe.fileno(), 4096):
            parts.append(data)
            size += len(data)
            if size > MAX_BYTES:
                _kill(process)
                return


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program, and what it has started."""
    with suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
