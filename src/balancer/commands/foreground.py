"""Another program in the foreground, as if it had been started in our place: terminal, signals, exit code."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

_OF_TERMINAL = ("SIGINT", "SIGQUIT")
"""A terminal sends these to the program as well as to us."""

_HANDED_ON = (*_OF_TERMINAL, "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")


def attend(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a program until it ends, and return its exit code; 128 + n where signal n ended it. Raises `OSError`."""
    waiting: list[int] = []
    process: list[subprocess.Popen[bytes]] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        if not process:
            waiting.append(number)
        elif not (signal.Signals(number).name in _OF_TERMINAL and _is_in_foreground()):
            process[0].send_signal(number)

    with _handled_by(hand_on), subprocess.Popen(argv, env=dict(env)) as child:  # noqa: S603 - what the user asked for
        process.append(child)
        for number in waiting:
            child.send_signal(number)
        if not hasattr(os, "WUNTRACED"):
            return child.wait()
        child.returncode = _ended(child.pid)
        return child.returncode


def _ended(pid: int) -> int:
    """Wait for the end of the program. While it is stopped, so are we: else the shell would wait for ever."""
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED)
        if os.WIFEXITED(status):
            return os.WEXITSTATUS(status)
        if os.WIFSIGNALED(status):
            return 128 + os.WTERMSIG(status)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.kill(pid, signal.SIGCONT)


def _is_in_foreground() -> bool:
    """Say whether a terminal's keys reach both of us."""
    for descriptor in (0, 1, 2):
        try:
            return os.tcgetpgrp(descriptor) == os.getpgrp()
        except (OSError, AttributeError):
            continue
    return False


@contextmanager
def _handled_by(handler: object) -> Iterator[None]:
    """Have signals go to `handler`. Not ignored: what is ignored here would be ignored by the program too."""
    numbers = [getattr(signal, name) for name in _HANDED_ON if hasattr(signal, name)]
    before = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)
