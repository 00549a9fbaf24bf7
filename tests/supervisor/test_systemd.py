"""What a service manager hands over, and what it is told."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands.conftest import ROOT, Start, ask, environment, start

from balancer.supervisor import systemd
from balancer.supervisor.systemd import Notifier

from .processes import FILE, Load

__all__ = ["start"]  # a fixture


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(20)
        yield sock


def told(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().splitlines()


def until(manager: socket.socket, what: str) -> list[str]:
    """Return the message that begins so; watchdog messages may come in between."""
    while not (lines := told(manager))[0].startswith(what):
        assert lines == ["WATCHDOG=1"], lines
    return lines


def test_without_a_manager_nothing_is_said() -> None:
    env: dict[str, str] = {}
    notifier = Notifier(env)
    notifier.serves()
    notifier.lives(1.0)

    assert notifier.watchdog_s is None
    assert systemd.inherited(env) == []


def test_the_manager_hears_each_step_and_the_watchdog_as_often_as_it_wants(
    manager: socket.socket, tmp_path: Path
) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier(env)
    assert env == {}, "these are for this process alone"

    notifier.reloads()  # before it serves there is nothing to say
    notifier.serves()
    assert told(manager)[0] == "READY=1"
    notifier.reloads()
    said = told(manager)
    assert said[0] == "RELOADING=1"
    assert said[1].startswith("MONOTONIC_USEC=")
    for now in (100.0, 100.5, 101.0):
        notifier.lives(now)
    assert told(manager) == told(manager) == ["WATCHDOG=1"]
    notifier.stops(2.0)
    assert {"STOPPING=1", "EXTEND_TIMEOUT_USEC=2000000"} <= set(told(manager))
    notifier.serves()
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        told(manager)


def test_sockets_for_another_process_are_left_alone_and_those_of_no_use_refused() -> None:
    assert systemd.inherited({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == []
    code = "import os; from balancer.supervisor import systemd; systemd.inherited(os.environ)"
    with socket.socket() as silent:
        command = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} 3<&{silent.fileno()}"
        env = os.environ | {"LISTEN_FDS": "1", "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(
            ["bash", "-c", command], env=env, pass_fds=[silent.fileno()], capture_output=True, text=True, check=False
        )
    assert "it does not listen" in done.stderr


@pytest.mark.live
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service_serves_at_the_sockets_it_is_given_and_says_what_it_does(
    start: Start, manager: socket.socket, tmp_path: Path, workers: str
) -> None:
    (tmp_path / "providers.yaml").write_text(FILE)
    (tmp_path / "providers.yaml").chmod(0o600)
    # What `start` runs inherits no descriptors, so somebody in between opens the socket: what systemd does.
    code = (
        "import os, socket, sys\n"
        "sock = socket.create_server(('127.0.0.1', 0))\n"
        "print(sock.getsockname()[1], flush=True)\n"
        "os.dup2(sock.fileno(), 3)\n"
        "os.set_inheritable(3, True)\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
    )
    argv = [sys.executable, "-c", code, f"{ROOT}/src/main.py", "--workers", workers]
    env = {"LISTEN_FDS": "1", "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
    running = start(argv=argv, **env)

    assert until(manager, "READY=1")
    url = running.url()
    assert url == f"http://127.0.0.1:{running.out[0]}"
    assert ask(url)["type"] == "message"
    assert told(manager) == ["WATCHDOG=1"]
    running.process.send_signal(signal.SIGHUP)
    assert until(manager, "RELOADING=1")[1].startswith("MONOTONIC_USEC=")
    assert until(manager, "READY=1")
    running.process.send_signal(signal.SIGTERM)
    assert until(manager, "STOPPING=1")
    assert running.ended() == 0


@pytest.mark.live
@pytest.mark.timeout(120)
def test_a_restart_of_the_service_refuses_nobody(tmp_path: Path) -> None:
    """The socket stays open in whoever has opened it, and what comes meanwhile waits there."""
    (tmp_path / "providers.yaml").write_text(FILE)
    (tmp_path / "providers.yaml").chmod(0o600)

    def served_at(sock: socket.socket) -> subprocess.Popen[str]:
        code = (
            "import os, sys\n"
            f"os.dup2({sock.fileno()}, 3)\n"
            "os.environ['LISTEN_PID'] = str(os.getpid())\n"
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
        )
        argv = [sys.executable, "-c", code, f"{ROOT}/src/main.py"]
        process = subprocess.Popen(
            argv,
            cwd=tmp_path,
            env=environment(LISTEN_FDS="1"),
            pass_fds=[sock.fileno()],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert any("ANTHROPIC_BASE_URL" in line for line in process.stdout)
        return process

    with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock:
        high = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, 60)
        with socket.socket(fileno=high) as held:
            first = served_at(held)
            load = Load(f"http://127.0.0.1:{held.getsockname()[1]}")

            async def restart() -> tuple[int, subprocess.Popen[str]]:
                first.terminate()
                code = await asyncio.to_thread(first.wait, 60)
                return code, await asyncio.to_thread(served_at, held)

            (code, second), streams = asyncio.run(load.during(restart, streams=10, tokens=20, least=200))
            second.terminate()
            assert (code, second.wait(60)) == (0, 0)
    for process in (first, second):
        assert process.stdout is not None
        process.stdout.close()
    assert load.answers.keys() == {"200"}
    assert streams == {True: 10}
