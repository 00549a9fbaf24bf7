"""The ground the bench stands on: cores, ports, file limits, and processes that are always reaped."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
STOP_WITHIN_S = 5.0


class BenchFailed(Exception):
    """A part of the bench did not do what it must; the message says which and shows the end of its output."""


def raise_file_limit() -> None:
    """Allow as many open sockets as this user may have: 1,000 streams need 2,000 in a proxy."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores the proxies run on, and which ones everything else: empty sets when there is only one core."""

    proxy: frozenset[int]
    others: frozenset[int]

    def __str__(self) -> str:
        if not self.proxy:
            return "one core for everything"
        return f"proxies on core {_listed(self.proxy)}, upstream and load on core {_listed(self.others)}"


def _listed(cores: frozenset[int]) -> str:
    return ", ".join(str(core) for core in sorted(cores))


def cores() -> Cores:
    """Give the last core to the proxies and up to three others to the rest, where there are two at least."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        return Cores(frozenset(), frozenset())
    return Cores(frozenset(usable[-1:]), frozenset(usable[:-1][-3:]))


@contextlib.contextmanager
def pinned(to: frozenset[int]) -> Iterator[None]:
    """Let what starts inside run on the cores `to` only (a child inherits them)."""
    before = os.sched_getaffinity(0)
    if to:
        os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Part:
    """A process of the bench; what it says on stderr goes to a file and is shown when it fails."""

    def __init__(
        self, name: str, command: Sequence[str], on: frozenset[int], work_dir: Path, env: dict[str, str]
    ) -> None:
        self.name = name
        self._log = work_dir / f"{name}.log"
        with self._log.open("wb") as log, pinned(on):
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=work_dir, env=env, bufsize=0
            )
        self._unread = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> bool:
        return self._process.poll() is not None

    def ask(self, command: dict[str, Any], within_s: float) -> dict[str, Any]:
        """Write `command` as a line of JSON and return the line that answers it. Raises `BenchFailed`."""
        self.tell(command)
        return self.answer(within_s)

    def tell(self, command: dict[str, Any]) -> None:
        """Write `command` as a line of JSON; `answer` returns what it came to. Raises `BenchFailed`."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
        except BrokenPipeError:
            raise self.failure("ended") from None

    def answer(self, within_s: float) -> dict[str, Any]:
        """Return the next line of JSON that the process prints. Raises `BenchFailed` when there is none in time."""
        assert self._process.stdout
        until = time.monotonic() + within_s
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise self.failure(f"said nothing for {within_s:.0f} s")
            data = self._process.stdout.read(65536)
            if not data:
                raise self.failure("ended")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise self.failure(answer["error"])
        return answer

    def failure(self, what: str) -> BenchFailed:
        """Return the error that says `what` went wrong with this process, with the end of its log."""
        tail = self._log.read_text(errors="replace")[-1500:]
        return BenchFailed(f"{self.name} {what}\n{tail}".rstrip())

    def stop(self) -> None:
        """End the process: politely, then not. Returns only when it is gone."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        if not self.ended():
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Server(Part):
    """A process that serves on `port` and says nothing; its stdout goes where its stderr goes."""

    def __init__(
        self, name: str, command: Sequence[str], on: frozenset[int], work_dir: Path, env: dict[str, str], port: int
    ) -> None:
        self.name = name
        self.port = port
        self._log = work_dir / f"{name}.log"
        with self._log.open("wb") as log, pinned(on):
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=work_dir, env=env
            )

    def wait_until_it_listens(self, within_s: float) -> None:
        """Return when the port accepts. Raises `BenchFailed`."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            if self.ended():
                raise self.failure(f"ended with {self._process.returncode} instead of serving")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise self.failure(f"did not listen within {within_s:.0f} s")


def module(name: str) -> list[str]:
    """Return the command that runs a module of the bench with this Python."""
    return [sys.executable, "-m", name]


def bench_env() -> dict[str, str]:
    """Return the environment for the bench's own processes."""
    return os.environ | {"PYTHONPATH": str(ROOT)}
