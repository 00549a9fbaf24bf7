"""Balancers that run as users run them: a process of their own, on a free port."""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 50.0

SIMULATED = """\
providers:
  - {name: quick, type: simulated, simulated_config: {latency: 0, speed: 0}}
  - {name: slow, type: simulated, simulated_config: {latency: 0, speed: 10}}
model_routes:
  "*slow*":
    - {provider: slow, model: passthrough, priority: 1}
  "*":
    - {provider: quick, model: passthrough, priority: 1}
    - {provider: slow, model: passthrough, priority: 2}
settings:
  drills: true
"""


def environment(**changes: str) -> dict[str, str]:
    """Return an environment in which nothing of the tester's own decides anything."""
    ours = ("BALANCER_", "LOG_", "NO_COLOR", "FORCE_COLOR", "HOST", "PORT")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | {"PYTHONUNBUFFERED": "1"} | changes


class Running:
    """A balancer as a child process, its lines as they come."""

    def __init__(self, argv: list[str], cwd: Path, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            process_group=0,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.out)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.err)),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Iterator[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))
            self._lines.put(line)
        self._lines.put("")

    def until(self, words: str) -> str:
        """Return the line that holds `words`, as soon as it is there."""
        while True:
            try:
                line = self._lines.get(timeout=WITHIN_S)
            except queue.Empty:
                raise AssertionError(f"no {words!r} within {WITHIN_S} s: {self.out} {self.err}") from None
            if words in line:
                return line.rstrip("\n")
            if not line and self.process.poll() is not None:
                raise AssertionError(f"ended without {words!r}: {self.out} {self.err}")

    def url(self) -> str:
        """Return where it serves, from the line that users copy."""
        return self.until("export ANTHROPIC_BASE_URL=").partition("=")[2]

    def ended(self) -> int:
        """Return its exit code."""
        code = self.process.wait(WITHIN_S)
        for reader in self._readers:
            reader.join(WITHIN_S)
        return code

    def close(self) -> None:
        if self.process.poll() is None:  # with its workers: they would go on, and hold the pipes that are read here
            os.killpg(self.process.pid, signal.SIGKILL)
        self.ended()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `python src/main.py` (or another command line) in an empty folder."""
    running: list[Running] = []

    def begin(*flags: str, argv: list[str] | None = None, cwd: Path = tmp_path, **env: str) -> Running:
        command = argv or [sys.executable, str(ROOT / "src" / "main.py"), *flags]
        running.append(Running(command, cwd, environment(**env)))
        return running[-1]

    yield begin
    for one in running:
        one.close()


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "providers.yaml"
    path.write_text(SIMULATED)
    return path


def connected(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)


def get(url: str, path: str) -> tuple[int, Any]:
    connection = connected(url)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.load(answer)
    finally:
        connection.close()


def post(connection: http.client.HTTPConnection, **fields: Any) -> http.client.HTTPResponse:
    body = {"model": "claude-x", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]} | fields
    connection.request("POST", "/v1/messages", json.dumps(body), {"content-type": "application/json"})
    return connection.getresponse()


def ask(url: str, **fields: Any) -> Any:
    connection = connected(url)
    try:
        answer = post(connection, **fields)
        assert answer.status == 200
        return json.load(answer)
    finally:
        connection.close()
