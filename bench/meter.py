"""What a process and its children used, by the accounting of the operating system (Linux)."""

from __future__ import annotations

import time
from pathlib import Path

_PROC = Path("/proc")


def family(pid: int) -> list[int]:
    """Return `pid` and every living process that descends from it."""
    found = [pid]
    for parent in found:
        try:
            tasks = list((_PROC / str(parent) / "task").iterdir())
            children = [child for task in tasks for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [int(child) for child in children]
    return found


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU (user and system, all threads) that the family of `pid` has used.

    By each process's CPU clock, whose id the kernel derives from the pid (what `clock_getcpuclockid` returns): utime +
    stime in nanoseconds, where /proc/PID/stat has ticks of 10 ms.
    """
    return sum(_process_cpu_s(member) for member in family(pid))


def _process_cpu_s(pid: int) -> float:
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:  # it ended since we looked
        return 0.0


def rss_bytes(pid: int) -> int:
    """Return the resident memory of the family of `pid`."""
    total = 0
    for member in family(pid):
        try:
            status = (_PROC / str(member) / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) * 1024
    return total
