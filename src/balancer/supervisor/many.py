"""Serving with several workers, from the first to the last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from balancer.sharing.machine import Machine
from balancer.state.prepared import secrets_in
from balancer.supervisor.in_force import InForce
from balancer.supervisor.listeners import Listeners
from balancer.supervisor.report import Report
from balancer.supervisor.signals import obeying
from balancer.supervisor.supervisor import Supervisor
from balancer.supervisor.systemd import Notifier


def serve(
    workers: int, listeners: Listeners, in_force: InForce, notifier: Notifier, on_serving: Callable[[], None]
) -> int:
    """Serve until a signal comes. `on_serving` is called when the first worker serves. Returns the exit code."""
    settings = in_force.config.settings
    report = Report(settings.log_file, settings.log_level, lambda: secrets_in(in_force.config))
    try:
        return asyncio.run(_serve(workers, listeners, in_force, report, notifier, on_serving))
    finally:
        report.close()


async def _serve(
    workers: int,
    listeners: Listeners,
    in_force: InForce,
    report: Report,
    notifier: Notifier,
    on_serving: Callable[[], None],
) -> int:
    supervisor = Supervisor(workers, listeners, in_force, report, Machine.create(workers), notifier, on_serving)
    follows = asyncio.ensure_future(in_force.follow())
    try:
        with obeying(supervisor):
            return await supervisor.run()
    finally:
        follows.cancel()
