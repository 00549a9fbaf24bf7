"""Serving with several workers, from the first to the last."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from balancer.sharing.machine import Machine
from balancer.supervisor.in_force import InForce
from balancer.supervisor.listeners import Listeners
from balancer.supervisor.report import Report
from balancer.supervisor.supervisor import Supervisor


def serve(workers: int, listeners: Listeners, in_force: InForce, on_serving: Callable[[], None]) -> int:
    """Serve until a signal comes. `on_serving` is called when the first worker serves. Returns the exit code."""
    settings = in_force.config.settings
    report = Report(settings.log_file, settings.log_level)
    try:
        return asyncio.run(_serve(workers, listeners, in_force, report, on_serving))
    finally:
        report.close()


async def _serve(
    workers: int, listeners: Listeners, in_force: InForce, report: Report, on_serving: Callable[[], None]
) -> int:
    supervisor = Supervisor(workers, listeners.of_workers, in_force, report, Machine.create(workers), on_serving)
    follows = asyncio.ensure_future(in_force.follow())
    try:
        with _signals(supervisor):
            return await supervisor.run()
    finally:
        follows.cancel()


@contextmanager
def _signals(supervisor: Supervisor) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    orders: dict[signal.Signals, Callable[[], object]] = {
        signal.SIGTERM: supervisor.drain,
        signal.SIGINT: supervisor.drain,
        signal.SIGHUP: supervisor.read_file,
        signal.SIGUSR2: supervisor.restart,
        signal.SIGCHLD: supervisor.child_ended,
    }
    for number, obey in orders.items():
        loop.add_signal_handler(number, obey)
    try:
        yield
    finally:
        for number in orders:
            loop.remove_signal_handler(number)
