"""The HTTP server under the balancer: uvicorn with what this program needs of it."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from balancer.inbound import Connection

BACKLOG = 2048
KEEP_ALIVE_S = 75


class Server(uvicorn.Server):
    """Ends cleanly when it is told to: the first signal lets answers end, the second does not wait.

    uvicorn raises the signal again when it is done, so that a process which was ended as it should
    be looks like one that was killed; this one returns.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        on_start: Callable[[], None] | None = None,
        on_drain: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_drain = on_drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_start is not None:
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
            return
        if self._on_drain is not None:
            self._on_drain()
        self.should_exit = True


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
        http=Connection,
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
        backlog=BACKLOG,
    )


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
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.set_inheritable(True)
    return sock


def url(host: str, port: int) -> str:
    """Return the address by which a client on this machine reaches the server."""
    reached = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
    if ":" in reached and not reached.startswith("["):
        reached = f"[{reached}]"
    return f"http://{reached}:{port}"
