"""The program of one worker: `python -m balancer.supervisor.worker`, started by the supervisor and by nobody else."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from balancer.app import App
from balancer.server.run import Server, configured, loop_factory
from balancer.state import carried
from balancer.supervisor.channel import Channel
from balancer.supervisor.messages import (
    AskRestart,
    Beat,
    Begin,
    Drain,
    EndNow,
    FileRead,
    Known,
    Leave,
    Leaves,
    Loaded,
    ReadFile,
    RestartEnded,
    Restarts,
    Serves,
    TakeOver,
    Tell,
    ToWorker,
)
from balancer.supervisor.process import CHANNEL
from balancer.supervisor.siblings import Siblings, accept
from balancer.supervisor.signals import obeying
from balancer.telemetry.logs import keep_crashes_quiet

BEAT_S = 1.0

LATE_S = 10.0
"""How much longer than its answers a worker without a supervisor may take to end."""

ORPHANED = 4
"""The exit code of a worker whose supervisor is gone and that had to be cut short."""


class WorkerApp(App):
    """The application of a worker: before it serves, it takes over what another worker knows."""

    def __init__(self, begin: Begin, on_loaded: Callable[[], None]) -> None:
        super().__init__(None, begin.overrides, source=begin.source)
        self.taken_over: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._begin = begin
        self._on_loaded = on_loaded

    async def start(self) -> None:
        await super().start()
        begin = self._begin
        self.fleet.listens(begin.host, begin.port, reuse_port=begin.reuse_port)
        self._on_loaded()
        carried.restore(self.fleet, await self.taken_over, self.now())


class Worker:
    """One worker, from the message by which it begins to its end."""

    def __init__(self, begin: Begin, channel: Channel[ToWorker]) -> None:
        self._begin = begin
        self._channel = channel
        self._app = WorkerApp(begin, lambda: channel.send(Loaded()))
        self._app.restarts.update(begin.restarts)
        self._app.on_reload = lambda: channel.send(FileRead())
        self._app.restart = self._ask_restart
        self._told_to_end = False
        self._let_go_of_sockets = False
        self._restarts: list[asyncio.Future[str]] = []
        self._siblings: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server = Server(configured(self._app), self._serves, signals=False)

    async def run(self, messages: Any, supervisor: int) -> int:
        """Serve until it is told to end. `supervisor`: a descriptor of the channel. Returns the exit code."""
        threading.Thread(target=_end_with, args=(supervisor, self._drain_s), name="supervisor", daemon=True).start()
        listens = asyncio.ensure_future(self._listen(messages))
        beats = asyncio.ensure_future(self._beat())
        try:
            with obeying(self):
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the supervisor decides
                await self._server.serve(self._own())
        finally:
            for task in (listens, beats, *self._tasks, *([self._siblings] if self._siblings else [])):
                task.cancel()
        return 0 if self._server.started or self._server.should_exit else 3

    def _drain_s(self) -> float:
        return self._app.drain_s if self._server.started else 0.0

    def _own(self) -> list[socket.socket]:
        own, all_of_them = self._begin.own, self._begin.sockets
        return [_copy(one) for one in ((own,) if own is not None else all_of_them)]

    def _serves(self) -> None:
        self._watch_siblings()
        self._channel.send(Serves())

    def _watch_siblings(self) -> None:
        """Take connections that wait at other workers' sockets."""
        others = [one for one in self._begin.sockets if self._begin.own is not None and one != self._begin.own]
        if others:
            siblings = Siblings([_copy(one) for one in others], self._server.take)
            self._siblings = asyncio.get_running_loop().create_task(siblings.run())
            self._siblings.add_done_callback(lambda _: siblings.close())

    async def _beat(self) -> None:
        while True:
            self._channel.send(Beat())
            await asyncio.sleep(BEAT_S)

    async def _listen(self, messages: Any) -> None:
        async for message in messages:
            self._obey(message)
        # The supervisor is gone: free the address for the next one, let answers end, and end.
        await self._let_go()
        if not self._app.taken_over.done():
            self._server.end_now()
            self._app.taken_over.set_result(b"")

    def _obey(self, message: ToWorker) -> None:
        match message:
            case TakeOver(state=state):
                if not self._app.taken_over.done():
                    self._app.taken_over.set_result(state)
            case Tell():
                self._channel.send(Known(carried.taken(self._app.fleet, self._app.now())))
            case Leave():
                self._leave()
            case Drain(elsewhere=elsewhere):
                self._do(self._let_go()) if elsewhere else self._server.stop()
            case EndNow():
                self._server.end_now()
            case ReadFile():
                self._do(self._app.reload_once())
            case Restarts(by_reason=by_reason):
                self._app.restarts.update(by_reason)
            case RestartEnded(failure=failure):
                for waiting in self._restarts:
                    if not waiting.done():
                        waiting.set_result(failure)
                self._restarts.clear()
            case Begin():
                pass

    # What signals to this worker alone order

    def drain(self) -> None:
        """Others serve in its place; the second time: end at once."""
        if self._told_to_end:
            self._server.end_now()
        self._told_to_end = True
        self._channel.send(Leaves())

    def read_file(self) -> None:
        """Read the configuration's file again."""
        self._do(self._app.reload())

    def restart(self) -> None:
        """Have all workers replaced."""
        self._channel.send(AskRestart())

    def child_ended(self) -> None:
        """It has no children to look after."""

    def _leave(self) -> None:
        if self._siblings is not None:
            self._siblings.cancel()
        self._server.leave()

    async def _ask_restart(self) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._restarts.append(answer)
        self._channel.send(AskRestart())
        return await answer

    async def _let_go(self) -> None:
        """Take what waits at the sockets, and close them: whoever else listens takes the rest."""
        if self._let_go_of_sockets:
            return
        self._let_go_of_sockets = True
        self._app.announce_drain()
        self._leave()
        for descriptor in self._begin.sockets:
            with socket.socket(fileno=descriptor) as sock:
                sock.setblocking(False)
                if self._server.started:
                    await accept(sock, self._server.take)

    def _do(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _copy(descriptor: int) -> socket.socket:
    """Return a socket of its own: to close it does not close what a successor inherits."""
    return socket.socket(fileno=os.dup(descriptor))


def _end_with(supervisor: int, drain_s: Callable[[], float]) -> None:
    """End the process when its supervisor is gone and it does not end by itself: its event loop may hang."""
    poll = select.poll()
    poll.register(supervisor, 0)  # the end of the other side is always told
    while not poll.poll():
        continue
    threading.Event().wait(drain_s() + LATE_S)
    os._exit(ORPHANED)


async def _main() -> int:
    sock = socket.socket(fileno=int(os.environ.pop(CHANNEL)))
    os.set_inheritable(sock.fileno(), False)
    supervisor = os.dup(sock.fileno())
    channel = await Channel.over(sock, msgspec.json.Decoder(ToWorker))
    messages = channel.messages()
    try:
        begin = await anext(messages, None)
        return await Worker(begin, channel).run(messages, supervisor) if isinstance(begin, Begin) else ORPHANED
    finally:
        channel.close()


def main() -> int:
    """Serve. Returns 0, 3 where it can't start, 4 where the supervisor is gone."""
    keep_crashes_quiet()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_main())


if __name__ == "__main__":
    sys.exit(main())
