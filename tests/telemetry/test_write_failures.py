"""What is said of a file that can't be written: once for each reason, and that it is over."""

from __future__ import annotations

import errno
import io
from pathlib import Path

from balancer.telemetry.write_failures import WriteFailures


def test_a_failure_is_told_once_and_its_end_is_told() -> None:
    said = io.StringIO()
    failures = WriteFailures(Path("l"), "this log", said)

    failures.wrote()
    for _ in range(3):
        failures.failed(OSError(errno.ENOSPC, "No space left on device"))
    failures.failed(ValueError("with a secret"))
    failures.wrote()
    failures.wrote()

    assert said.getvalue().splitlines() == [
        "balancer: l can't be written (No space left on device); serving goes on without this log",
        "balancer: l can't be written (ValueError); serving goes on without this log",
        "balancer: l can be written again",
    ]


def test_a_closed_stderr_stops_nothing() -> None:
    said = io.StringIO()
    said.close()

    WriteFailures(Path("l"), "it", said).failed(OSError())
