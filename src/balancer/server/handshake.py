"""TLS with clients: from an accepted connection to one that speaks HTTP.

Every connection is counted and timed from the moment at which it is accepted, as those without TLS are: one that never
finishes its handshake would otherwise be nobody's. The certificate is that of the application at this moment, so a new
one holds for the next connection, and those that are open keep theirs.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from balancer.server.http11 import ClientConnection, Host

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState


class SecureHost(Host):
    """What is needed of an application whose clients may use TLS."""

    @property
    def client_tls(self) -> ssl.SSLContext | None:
        """What new connections of clients are encrypted with; None: nothing."""


def accepted(
    config: Config,
    server_state: ServerState,
    app_state: dict[str, Any],
    _loop: asyncio.AbstractEventLoop | None = None,
) -> asyncio.Protocol:
    """Return what serves a new connection. uvicorn calls this in the place of a class."""
    context = cast("SecureHost", config.loaded_app).client_tls
    if context is None:
        return ClientConnection(config, server_state, app_state, _loop)
    return Handshake(context, config, server_state, app_state)


class Handshake(asyncio.Protocol):
    """A connection of a client whose TLS handshake is under way; a `connections.Client`.

    The event loop accepts connections without TLS, and none of its ways to add TLS to one that is open works on every
    loop from the first byte on. So the connection is taken from the transport that accepted it, before that has read
    anything, and given to a new one with TLS.
    """

    idle = True

    def __init__(
        self, context: ssl.SSLContext, config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        self.buffered_bytes = 0
        self.address = ""
        self._context = context
        self._served_by = (config, server_state, app_state)
        self._server_state = server_state
        self._host = cast("Host", config.loaded_app)
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        accepting = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self._host.connections.add(self):  # else there is no way yet to say why
            self._begin(transport.get_extra_info("socket").fileno())
        accepting.abort()

    def _begin(self, descriptor: int) -> None:
        try:
            sock = socket.socket(fileno=os.dup(descriptor))
        except OSError:  # no descriptor is left
            self._host.connections.remove(self)
            return
        sock.setblocking(False)
        self._server_state.connections.add(cast("Any", self))
        self._task = asyncio.get_running_loop().create_task(self._run(sock))

    async def _run(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            # It calls `connection_made` when the handshake is over, and never if there is no good end.
            await loop.connect_accepted_socket(
                self._made, sock, ssl=self._context, ssl_handshake_timeout=self._host.limits.head_s
            )
        except (OSError, asyncio.CancelledError):  # no TLS, no certificate that is needed, too slow; or it was shed
            sock.close()
        finally:
            self._ends()

    def _made(self) -> asyncio.Protocol:
        return _SecureConnection(self._ends, *self._served_by)

    def _ends(self) -> None:
        self._host.connections.remove(self)
        self._server_state.connections.discard(cast("Any", self))

    # What `Connections` and uvicorn ask

    def shed(self, message: str) -> None:
        """Close it: before the handshake is over nothing can be said."""
        self._ends()
        if self._task is not None:
            self._task.cancel()

    def turn_away(self, message: str) -> None:
        self.shed(message)

    def shutdown(self) -> None:
        """The server stops."""
        self.shed("")


class _SecureConnection(ClientConnection):
    """What a connection is after its handshake."""

    def __init__(
        self, on_made: Callable[[], None], config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._on_made = on_made

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._on_made()  # it is counted as this from now on
        del self._on_made
        super().connection_made(transport)
