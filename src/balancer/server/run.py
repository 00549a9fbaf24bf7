"""The HTTP server under the balancer: uvicorn with what this program needs of it."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.supervisors import multiprocess

from balancer.server import descriptors
from balancer.server.connections import spare_of
from balancer.server.handshake import accepted

BACKLOG = 2048
"""So many connections wait to be accepted, where there are descriptors enough: all of them may be accepted at once."""

KEEP_ALIVE_S = 75


class Server(uvicorn.Server):
    """uvicorn's server, which ends cleanly: the first signal lets answers end, the second does not wait.

    While answers are under way it goes on listening, so that new requests get an answer (503, and `/ready` says
    so) instead of being refused or left waiting. The application has to have a method `drain`.

    uvicorn raises the signal again when it is done, so that a process which ended as it should looks like one that
    was killed; this one returns.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        on_start: Callable[[], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(config)
        self._now = now
        self._on_start = on_start
        self._ends_at = math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_start is not None:
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
            return
        if self.config.loaded:  # otherwise the signal came before there was an application
            self.config.loaded_app.drain()
        self._ends_at = self._now() + (self.config.timeout_graceful_shutdown or 0)
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) and not self._drains()

    def _drains(self) -> bool:
        """Say whether answers are under way that still have time to end."""
        if self.force_exit or not self.server_state.tasks:
            return False
        if self._now() < self._ends_at:
            return True
        self.config.timeout_graceful_shutdown = 0  # they have had their time
        return False


class Worker(multiprocess.Process):
    """One of several processes, with the same server inside."""

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = Server(self.config)
        return self._server


def supervisor(config: uvicorn.Config, sock: socket.socket) -> multiprocess.Multiprocess:
    """Return what starts and watches `config.workers` processes."""
    multiprocess.Process = Worker  # type: ignore[misc] # there is no other way to say which
    return multiprocess.Multiprocess(config, sockets=[sock])


def configured(app: Any, workers: int = 1, drain_s: float = 120.0) -> uvicorn.Config:
    """Return uvicorn's configuration for `app`, a callable or the name of what makes it.

    `drain_s` is how long answers under way may go on after the first signal.
    """
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        workers=workers,
        interface="asgi3",
        loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
        http=accepted,  # type: ignore[arg-type] # called as a class is
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="error",
        # The address of a client decides whether it is let in: no header may say another one.
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(drain_s),
        timeout_keep_alive=KEEP_ALIVE_S,
        backlog=backlog(),
    )


def backlog() -> int:
    """Return how many connections may wait to be accepted. More than there are descriptors for would be reset."""
    known = descriptors.raised()
    return BACKLOG if known >= 16 * BACKLOG else spare_of(known)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0: any that is free. Raises `OSError`."""
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(where)
        sock.listen(backlog())
    except OSError:
        sock.close()
        raise
    sock.set_inheritable(True)
    return sock
