"""A balancer for a client: the one that answers at the address, else one that is started in the background."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from balancer.commands import lease
from balancer.commands.calling import Listener, who_answers
from balancer.commands.complaint import notice
from balancer.commands.invocation import hint
from balancer.config import Config

READY_WITHIN_S = 30.0
STOPPED_WITHIN_S = 130.0
"""How long to wait for a balancer that is stopping: it lets running answers end."""

ENDED_WITHIN_S = 5.0
EVERY_S = 0.05
TAIL_LINES = 20


class NotStarted(Exception):
    """There is no balancer to be had; `str(error)` says why and what to do."""


class Background:
    """As a context: a balancer answers at `url` inside of it. One that was found is left alone."""

    def __init__(self, url: str, config: Config) -> None:
        """`config`: what a balancer that has to be started is to serve, at the host and port that `url` names."""
        self.url = url
        self.process: subprocess.Popen[bytes] | None = None
        """The balancer, where it was started here."""
        self._config = config
        self._folder = lease.folder()
        self._name = (urlsplit(url).netloc or "balancer").replace(":", "-").strip("[]")
        self._lease = lease.Lease(self._folder / f"{self._name}.lease")

    @property
    def log(self) -> Path:
        """What the balancer prints, where it was started in the background."""
        return self._folder / f"{self._name}.log"

    def __enter__(self) -> Self:
        """Find or start it. Raises `NotStarted`."""
        if not self._lease.take(self._say_it_stops, STOPPED_WITHIN_S):
            raise NotStarted(f"the balancer at {self.url} is stopping and does not end; try again later")
        try:
            # Of several clients that come at once, one starts it; the others find it.
            with lease.alone(self._folder / f"{self._name}.start"):
                if self._look() is Listener.NOBODY:
                    self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end()

    def _look(self) -> Listener:
        waits_until = time.monotonic() + STOPPED_WITHIN_S
        told = False
        while (who := who_answers(self.url)) is Listener.STOPPING and time.monotonic() < waits_until:
            if not told:
                told = True
                self._say_it_stops()
            time.sleep(EVERY_S)
        if who is Listener.ANOTHER:
            port = urlsplit(self.url).port
            raise NotStarted(
                f"{self.url} is taken by another program, not by a balancer; "
                f"another port: {hint('run', '--port', str((port or 8080) + 1))}"
            )
        return who

    def _start(self) -> None:
        parts = urlsplit(self.url)
        where = ["--host", self._config.settings.host, "--port", str(parts.port)]
        file = ["--config", str(self._config.path)] if self._config.path else []
        source = str(Path(__file__).resolve().parents[2])
        known = os.environ.get("PYTHONPATH")
        env = os.environ | {
            lease.VARIABLE: str(self._folder / f"{self._name}.lease"),
            "PYTHONPATH": f"{source}{os.pathsep}{known}" if known else source,
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        log = os.open(self.log, flags, 0o600)
        try:
            self.process = subprocess.Popen(  # noqa: S603 - this program itself
                # -P: the folder may hold anything, and nothing in it is to be imported
                [sys.executable, "-P", "-m", "balancer.cli", "serve", "--no-log-color", *where, *file],
                cwd=self._home(), env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # keys of the terminal are for the client
            )  # fmt: skip
        finally:
            os.close(log)
        self._wait_until_ready(self.process)

    def _home(self) -> Path:
        """Return the folder to run in, where a relative `log_file` then lies: that of the configuration.

        Not the one that the user is in: that is some project, which did not ask for a log.
        """
        beside = self._config.path.parent if self._config.path else None
        return beside if beside is not None and os.access(beside, os.W_OK | os.X_OK) else self._folder

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        waits_until = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < waits_until:
            ended = process.poll() is not None
            if who_answers(self.url) is Listener.BALANCER:
                if ended:  # somebody else was quicker, and the port is theirs
                    self.process = None
                else:
                    notice(f"started in the background on {self.url}; what it prints: {self.log}")
                return
            if ended:
                raise NotStarted(f"the balancer did not start:\n{self._tail()}")
            time.sleep(EVERY_S)
        raise NotStarted(f"the balancer does not answer at {self.url} after {READY_WITHIN_S:.0f} s; see {self.log}")

    def _tail(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError as error:
            return f"its output can't be read: {error.strerror}"
        return "\n".join(lines[-TAIL_LINES:])

    def _end(self) -> None:
        """Let go of the balancer. The last one to do so waits until it is gone."""
        if not self._lease.release() or self.process is None:
            return
        if not lease.KNOWS_USERS:
            self.process.terminate()
        try:
            self.process.wait(ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            notice(f"the balancer at {self.url} still has answers under way; it ends when they do")

    def _say_it_stops(self) -> None:
        notice(f"the balancer at {self.url} is stopping; waiting for its end")
