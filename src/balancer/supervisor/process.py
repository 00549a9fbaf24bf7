"""One worker's process, as the supervisor sees it."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from balancer.sharing.worker import NUMBER
from balancer.supervisor.channel import Channel
from balancer.supervisor.messages import Begin, FromWorker

_log = logging.getLogger(__name__)

CHANNEL = "BALANCER_CHANNEL"
"""The variable that tells a worker the descriptor of its channel to the supervisor."""

_NOT_THEIRS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""What the service manager says to the supervisor alone."""


class Step(enum.Enum):
    """How far a worker is.

    step        what it does                                              next
    STARTING    imports, reads the configuration                          LOADED, or it ends
    LOADED      could serve; takes over what another knows                SERVING
    SERVING     serves                                                    LEAVING
    LEAVING     accepts nothing more, answers on what is open             it ends
    """

    STARTING = "starting"
    LOADED = "loaded"
    SERVING = "serving"
    LEAVING = "leaving"


class Process:
    """A worker's process, until it has ended."""

    def __init__(self, number: int, process: subprocess.Popen[bytes], channel: Channel[FromWorker], now: float) -> None:
        self.number = number
        self.pid = process.pid
        self.step = Step.STARTING
        self.channel = channel
        self.started_at = now
        self.served_at = 0.0
        """When it began to serve; 0: it has not."""
        self.heard_at = now
        self.killed_for = ""
        """Why the supervisor killed it."""
        self.leaves_until = math.inf
        """When it is killed if it has not left by then."""
        self.left_by_itself = False
        """It was sent a signal to end, by somebody else."""
        self._process = process
        self._listens: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, begin: Begin, environment: Mapping[str, str], descriptors: Sequence[int], now: float
    ) -> Process:
        """Start a worker. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        env = {name: value for name, value in os.environ.items() if name not in _NOT_THEIRS}
        env |= environment
        env |= {NUMBER: str(begin.worker), CHANNEL: str(theirs.fileno()), "PYTHONPATH": _path()}
        try:
            with theirs:
                process = subprocess.Popen(  # noqa: ASYNC220 - this program itself, and it takes a millisecond
                    # -P: the folder may hold anything, and nothing in it is to be imported
                    [sys.executable, "-P", "-m", "balancer.supervisor.worker"],
                    env=env, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), *begin.sockets, *descriptors),
                )  # fmt: skip
        except OSError:
            ours.close()
            raise
        channel = await Channel.over(ours, msgspec.json.Decoder(FromWorker))
        channel.send(begin)
        return cls(begin.worker, process, channel, now)

    def listen(self, take: Callable[[Process, FromWorker], None]) -> None:
        """Have `take` called with everything that it says."""
        self._listens = asyncio.get_running_loop().create_task(self._listen(take))

    async def _listen(self, take: Callable[[Process, FromWorker], None]) -> None:
        async for message in self.channel.messages():
            try:
                take(self, message)
            except Exception:  # it would never be heard again, and be killed for that
                _log.exception("a fault of the supervisor")

    def ended(self) -> int | None:
        """Return its exit code, less than 0 if a signal ended it; None: it runs."""
        return self._process.poll()

    def kill(self, why: str) -> None:
        """End it by force. It is still to be waited for."""
        self.killed_for = self.killed_for or why
        self._process.send_signal(signal.SIGKILL)

    async def close(self) -> None:
        """Let go of what belongs to it, once it has ended. What it said last is taken first."""
        if self._listens is not None:
            with contextlib.suppress(TimeoutError):  # then a process that it has started holds its end
                await asyncio.wait_for(self._listens, 1.0)
        self.channel.close()

    def served_s(self, now: float) -> float:
        """Return for how long it has served; 0: it has not."""
        return now - self.served_at if self.served_at else 0.0


def _path() -> str:
    source, known = str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")
    return f"{source}{os.pathsep}{known}" if known and source not in known.split(os.pathsep) else known or source


def in_words(code: int) -> str:
    """Return how a process ended: `exit code 3`, `signal 9 (SIGKILL)`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
