"""Another program in our place: signals, stops, exit codes and the terminal are its own."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from balancer.commands.foreground import attend

from .conftest import ROOT, environment

WITHIN_S = 20.0

ENDS = {
    "well": ("exit 0", 0),
    "with a code": ("exit 7", 7),
    "by a signal": ("kill -TERM $$", 143),
    "killed": ("kill -KILL $$", 137),
    "interrupted": ("kill -INT $$", 130),
}


@pytest.mark.parametrize(("script", "code"), ENDS.values(), ids=ENDS)
def test_its_exit_code_is_ours(script: str, code: int) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    assert attend(["sh", "-c", script], os.environ) == code
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.live
def test_it_has_the_environment_that_is_given() -> None:
    assert attend([sys.executable, "-c", "import os; exit(int(os.environ['CODE']))"], {"CODE": "9"}) == 9


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(OSError):
        attend(["/no/such/program"], os.environ)


ATTENDED = "import os, sys; from balancer.commands.foreground import attend; sys.exit(attend(sys.argv[1:], os.environ))"

TELLS = """
import signal, sys, time
def tell(number, frame):
    print(signal.Signals(number).name, flush=True)
    sys.exit(50 + number)
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
    signal.signal(getattr(signal, name), tell)
print("ready", flush=True)
time.sleep(60)
"""


def attended(*argv: str, **streams: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", ATTENDED, *argv]
    return subprocess.Popen(command, env=environment(PYTHONPATH=str(ROOT / "src")), **streams)  # type: ignore[call-overload,no-any-return]


@pytest.mark.live
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_us_is_handed_on(number: signal.Signals) -> None:
    with attended(sys.executable, "-c", TELLS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)

        assert process.stdout.readline().decode() == f"{number.name}\n"
        assert process.wait(WITHIN_S) == 50 + number


@pytest.mark.live
def test_a_program_that_stops_stops_us_and_goes_on_with_us() -> None:
    with attended("sh", "-c", "echo ready; kill -STOP $$; echo on; exit 3", stdout=subprocess.PIPE) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)

        assert process.wait(WITHIN_S) == 3
        assert process.stdout is not None
        assert process.stdout.read() == b"ready\non\n"


class Terminal:
    """A terminal with a program in it."""

    def __init__(self, *argv: str) -> None:
        self.seen = b""
        self.pid, self._file = pty.fork()
        if self.pid == 0:
            os.environ["PYTHONPATH"] = str(ROOT / "src")
            os.execv(sys.executable, [sys.executable, "-c", ATTENDED, *argv])

    def until(self, words: bytes) -> None:
        ends = time.monotonic() + WITHIN_S
        while words not in self.seen:
            assert select.select([self._file], [], [], max(0, ends - time.monotonic()))[0], self.seen
            self.seen += os.read(self._file, 4096)

    def type(self, keys: bytes) -> None:
        os.write(self._file, keys)

    def ended(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self._file)
        return os.waitstatus_to_exitcode(status)


def test_the_terminal_is_the_programs() -> None:
    terminal = Terminal(
        "sh", "-c", 'stty -echo; echo ready; read line; test -t 0 && test -t 1 && echo "got $line"; exit 4'
    )
    terminal.until(b"ready")
    terminal.type(b"hello\n")
    terminal.until(b"got hello")

    assert terminal.ended() == 4


def test_ctrl_c_reaches_the_program_once(tmp_path: Path) -> None:
    counts = """
import signal, sys, time
seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(1))
print("ready", flush=True)
while not seen:
    time.sleep(0.01)
time.sleep(0.3)  # a second one would come now
sys.exit(10 + len(seen))
"""
    terminal = Terminal(sys.executable, "-c", counts)
    terminal.until(b"ready")
    terminal.type(b"\x03")

    assert terminal.ended() == 11
