"""Workers of one machine for tests: tables of their own over the same memory, in this process or in others."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from balancer.sharing.memory import Memory, made
from balancer.sharing.table import Table

SOURCE = Path(__file__).resolve().parents[2] / "src"


@contextmanager
def tables(workers: int) -> Iterator[list[Table]]:
    """Make the tables of so many workers, in this process."""
    fd = made(workers)
    try:
        yield [Table(Memory(fd), worker) for worker in range(workers)]
    finally:
        os.close(fd)


def process(fd: int, worker: int, script: str) -> subprocess.Popen[str]:
    """Start a process that runs `script` with its own table in `table`."""
    begin = f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
    begin += "from balancer.sharing.memory import Memory\nfrom balancer.sharing.table import Table\n"
    begin += f"import time, os\ntable = Table(Memory({fd}), {worker})\n"
    return subprocess.Popen(
        [sys.executable, "-c", begin + script],
        pass_fds=(fd,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Let all begin at once, and return what each printed."""
    for one in processes:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in processes:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    return [one.communicate(timeout=30)[0].strip() for one in processes]


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so, five seconds at most."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that")
