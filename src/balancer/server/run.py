"""The HTTP server under the balancer: uvicorn with what this program needs of it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import math
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import uvicorn

from balancer.server.connections import Client
from balancer.server.handshake import accepted
from balancer.server.listening import backlog

KEEP_ALIVE_S = 75

IDLE_S = 5.0
"""For so long a connection is kept without a request where the process leaves its place to another."""


class Server(uvicorn.Server):
    """uvicorn's server, which ends cleanly: the first signal lets answers end, the second does not wait.

    While answers are under way it goes on listening, so that new requests get an answer (503, and `/ready` says
    so) instead of being refused or left waiting. The application has to have a method `drain`.

    Where others listen on the same address (`leave`), it stops listening instead and goes on answering.

    uvicorn raises the signal again when it is done, so that a process which ended as it should looks like one that
    was killed; this one returns.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        on_start: Callable[[], None] | None = None,
        now: Callable[[], float] = time.monotonic,
        *,
        signals: bool = True,
    ) -> None:
        """`signals`: it obeys signals to end; if not, somebody else does, and calls `stop` and `end_now`."""
        super().__init__(config)
        self._now = now
        self._on_start = on_start
        self._signals = signals
        self._drains_at = math.inf
        self._ends_at = math.inf
        self._idle_since: dict[Any, float] | None = None
        """Set: it leaves. Since when connections have been idle."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_start is not None:
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.stopping:
            self.end_now()
        else:
            self.stop()

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return super().capture_signals() if self._signals else contextlib.nullcontext()

    @property
    def stopping(self) -> bool:
        """It has been told to drain."""
        return self.should_exit or self._drains_at < math.inf

    def stop(self) -> None:
        """Let answers under way end, then end. To say so twice does no harm."""
        if self.stopping:
            return
        delay_s = self.config.loaded_app.drain_delay_s if self.started else 0.0
        if delay_s:
            self._drains_at = self._now() + delay_s
            self.config.loaded_app.announce_drain()
        else:
            self._drain()

    def end_now(self) -> None:
        """Do not wait for answers under way."""
        self.should_exit = self.force_exit = True

    def _drain(self) -> None:
        if self.config.loaded:  # otherwise the signal came before there was an application
            self.config.loaded_app.drain()
        self._ends_at = self._now() + self._drain_s()
        self.should_exit = True

    def _drain_s(self) -> float:
        """Return how long answers under way may go on: what was configured here, else what the application says now."""
        if self.config.timeout_graceful_shutdown is None and self.started:
            self.config.timeout_graceful_shutdown = math.ceil(self.config.loaded_app.drain_s)
        return self.config.timeout_graceful_shutdown or 0

    def connection(self) -> asyncio.Protocol:
        """Return what serves one more connection."""
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    @property
    def leaving(self) -> bool:
        """It takes no more connections, because others do."""
        return self._idle_since is not None

    async def take(self, sock: socket.socket) -> None:
        """Serve a connection that was accepted elsewhere."""
        await asyncio.get_running_loop().connect_accepted_socket(self.connection, sock)

    def stop_listening(self) -> None:
        """Take no more connections from the sockets; those that there are stay open."""
        for listener in self.servers:
            listener.close()
        self.servers = []

    def leave(self) -> None:
        """Take no more connections, because others listen: answer on those that are open, then end.

        Each answer tells its client to open another connection for the next request. A connection that nothing
        happens on is closed after `IDLE_S`, since a request may be on its way.
        """
        if self.stopping or self._idle_since is not None:
            return
        if not self.started:
            self.should_exit = True
            return
        self.stop_listening()
        self.config.encoded_headers.append((b"connection", b"close"))
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        self._idle_since = {}
        self._ends_at = self._now() + self._drain_s()

    async def on_tick(self, counter: int) -> bool:
        if self._now() >= self._drains_at and not self.should_exit:
            self._drain()
        ended = await super().on_tick(counter)
        if self._idle_since is not None and not ended:
            return self._has_left(self._idle_since)
        return ended and not self._drains()

    def _has_left(self, idle_since: dict[Any, float]) -> bool:
        """Say whether no connection is left that may ask for something. Closes those that do not any more."""
        now, connections = self._now(), self.server_state.connections
        for connection in list(connections):
            if not cast("Client", connection).idle:
                idle_since.pop(connection, None)
            elif now - idle_since.setdefault(connection, now) >= IDLE_S:
                connection.shutdown()
        if connections and now < self._ends_at:
            return False
        if connections:
            self.config.timeout_graceful_shutdown = 0  # they have had their time
        return True

    def _drains(self) -> bool:
        """Say whether answers are under way that still have time to end."""
        if self.force_exit or not self.server_state.tasks:
            return False
        if self._now() < self._ends_at:
            return True
        self.config.timeout_graceful_shutdown = 0  # they have had their time
        return False


def configured(app: Any, drain_s: float | None = None) -> uvicorn.Config:
    """Return uvicorn's configuration for `app`, a callable or the name of what makes it.

    `drain_s` is how long answers under way may go on after the first signal; None: as the application says.
    """
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        interface="asgi3",
        http=accepted,  # type: ignore[arg-type] # called as a class is
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="error",
        # The address of a client decides whether it is let in: no header may say another one.
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=None if drain_s is None else math.ceil(drain_s),
        timeout_keep_alive=KEEP_ALIVE_S,
        backlog=backlog(),
    )


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop; None: Python's own."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return factory
