"""Serving with one process, which is replaced by another one when it is told to restart.

The process that was started stays: whoever started it waits for it (a terminal, a container, a service manager). Until
the first restart it serves itself. Then it starts a worker, and when that serves, it leaves the clients to it and
becomes the worker's supervisor, as if it had been started with workers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from balancer.app import App
from balancer.server.run import Server, configured, loop_factory
from balancer.sharing.machine import Machine
from balancer.state import carried
from balancer.state.prepared import secrets_in
from balancer.supervisor.in_force import InForce
from balancer.supervisor.listeners import Listeners
from balancer.supervisor.report import Report
from balancer.supervisor.signals import obeying
from balancer.supervisor.supervisor import LOOK_S, STARTUP_FAILED, Supervisor
from balancer.supervisor.systemd import Notifier


def serve(listeners: Listeners, in_force: InForce, notifier: Notifier, on_serving: Callable[[], None]) -> int:
    """Serve until a signal comes. `on_serving` is called when it serves. Returns the exit code."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(listeners, in_force, notifier, on_serving))


async def _serve(listeners: Listeners, in_force: InForce, notifier: Notifier, on_serving: Callable[[], None]) -> int:
    return await One(listeners, in_force, notifier, on_serving).run()


class One:
    """The process, before and after a restart."""

    def __init__(
        self, listeners: Listeners, in_force: InForce, notifier: Notifier, on_serving: Callable[[], None]
    ) -> None:
        self._listeners = listeners
        self._in_force = in_force
        self._notifier = notifier
        self._on_serving = on_serving
        self._app = App(None, in_force.overrides, source=in_force.source, credential_commands=in_force.printed)
        self._app.restart = self._restarted
        self._app.on_reload = self._keep
        self._server = Server(configured(self._app), self._serves, signals=False)
        self._supervisor: Supervisor | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._told_to_end = False
        self._restart: asyncio.Task[str] | None = None

    async def run(self) -> int:
        """Serve until it is stopped. Returns the exit code."""
        lives = asyncio.ensure_future(self._live())
        try:
            with obeying(self):
                await self._server.serve(self._listeners.copies())
                code = 0 if self._server.started or self._server.should_exit else STARTUP_FAILED
                if self._supervising is not None:
                    code = max(code, await self._supervising)
            return code
        finally:
            for task in (lives, *self._tasks):
                task.cancel()

    _supervising: asyncio.Task[int] | None = None
    """Set: a worker serves, or is to."""

    def _keep(self) -> None:
        """Keep what is in force for the process that follows this one. It was read for this one: not twice."""
        if (source := self._app.reloading.source) is not None:
            self._in_force.keep(source, self._app.fleet.config)

    async def _live(self) -> None:
        while True:
            self._notifier.lives(time.monotonic())
            await asyncio.sleep(LOOK_S)

    def _serves(self) -> None:
        self._on_serving()
        self._notifier.serves()

    # What signals order

    def drain(self) -> None:
        """Let answers under way end; the second time: do not wait."""
        again, self._told_to_end = self._told_to_end, True
        if not again:
            self._notifier.stops(self._in_force.drain_s)
        if again:
            self._server.end_now()
        elif self._listeners.is_elsewhere() and not self._server.leaving:
            self._app.announce_drain()
            self._server.leave()
            self._do(self._listeners.hand_over(self._server.take))
        else:
            self._server.stop()
        if self._supervisor is not None:
            self._supervisor.drain()

    def read_file(self) -> None:
        """Read the configuration's file again."""
        if self._supervisor is not None:
            self._supervisor.read_file()
        self._do(self._reload())

    async def _reload(self) -> None:
        self._notifier.reloads()
        if not self._server.leaving:
            await self._app.reload()
        self._notifier.serves()

    def restart(self) -> asyncio.Task[str]:
        """Replace what serves by a new process. The result says why it could not be done; empty: it was."""
        if self._server.leaving and self._supervisor is not None:
            return self._supervisor.restart()
        if self._restart is None or self._restart.done():
            self._restart = asyncio.get_running_loop().create_task(self._replace())
        return self._restart

    def child_ended(self) -> None:
        if self._supervisor is not None:
            self._supervisor.child_ended()

    async def _restarted(self) -> str:
        return await asyncio.shield(self.restart())

    async def _replace(self) -> str:
        settings = self._in_force.config.settings
        report = Report(settings.log_file, settings.log_level, lambda: secrets_in(self._in_force.config))
        serves = asyncio.Event()
        self._supervisor = supervisor = Supervisor(
            1, self._listeners, self._in_force, report, Machine.create(1), self._notifier, serves.set
        )
        supervisor.knows = lambda: carried.taken(self._app.fleet, self._app.now())
        self._supervising = running = asyncio.get_running_loop().create_task(_run(supervisor, report))
        waits = asyncio.ensure_future(serves.wait())
        await asyncio.wait((waits, running), return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
        if not serves.is_set():
            self._supervisor = self._supervising = None
            return "the new process did not start; the old one goes on"
        supervisor.knows = None
        self._do(self._in_force.follow())  # from now on another process serves
        self._server.leave()
        return ""

    def _do(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _run(supervisor: Supervisor, report: Report) -> int:
    try:
        return await supervisor.run()
    finally:
        await asyncio.to_thread(report.close)
