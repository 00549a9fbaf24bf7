"""Exchanges over pooled keep-alive connections."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from functools import lru_cache, partial
from time import monotonic
from types import TracebackType

import msgspec

from balancer.headers import written
from balancer.model import Origin, WireRequest
from balancer.transport.answer import UpstreamResponse, plain
from balancer.transport.connection import UpstreamConnection
from balancer.transport.dialing import dial, proxy_authorization, speaks_absolute_form
from balancer.transport.errors import TransportError
from balancer.transport.playback import Playback

JOINED_MAX_BYTES = 16 * 1024
"""A request up to this size is written at once; a larger body is written piece by piece, uncopied."""


STALE_S = 0.5
"""A connection that was closed while it was idle shows it within a round trip. One that breaks later
was broken by a peer that had the request: sending it again could have it answered twice."""


class Transport:
    """Sends requests and keeps connections alive between them."""

    def __init__(self, *, max_idle_per_origin: int = 64, idle_s: float = 55.0) -> None:
        self._max_idle = max_idle_per_origin
        self._idle_s = idle_s
        self._idle: dict[Origin, list[UpstreamConnection]] = {}
        self._active: dict[UpstreamConnection, Origin | None] = {}
        """In use, and for whom they are kept afterwards; None: for nobody."""

    def __repr__(self) -> str:
        return f"<Transport idle={sum(map(len, self._idle.values()))} active={len(self._active)}>"

    def exchange(
        self, wire: WireRequest, *, connect_s: float, head_s: float
    ) -> AbstractAsyncContextManager[UpstreamResponse]:
        """Send `wire` and yield the answer once its head is there. Raises `TransportError`.

        `connect_s` bounds name, TCP, proxy and TLS together; `head_s` the wait for the head from
        then on.
        """
        if wire.script is not None:
            return _Played(wire, head_s)
        return _Exchange(self, wire, wire.origin, connect_s, head_s)

    async def close(self) -> None:
        """Close every connection."""
        self.retire(())
        for connection in list(self._active):
            connection.close()
        await asyncio.sleep(0)

    def retire(self, keep: Collection[Origin]) -> None:
        """Close connections to origins that are not in `keep`: idle ones now, others when they are given back."""
        for origin in [origin for origin in self._idle if origin not in keep]:
            for connection in self._idle.pop(origin):
                connection.on_idle_end = None
                connection.close()
        for connection, whose in self._active.items():
            if whose not in keep:
                self._active[connection] = None

    def take(self, origin: Origin) -> UpstreamConnection | None:
        """Return the idle connection that was used last, if it is still good."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if not connection.lost and monotonic() - connection.idle_since < self._idle_s:
                return connection
            connection.close()
        return None

    def give_back(self, connection: UpstreamConnection) -> None:
        """End an exchange; keep the connection if it can be used again."""
        origin = self._active.pop(connection, None)
        if not connection.release():
            return
        if origin is None:
            connection.close()
            return
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = []
        if len(idle) >= self._max_idle:
            connection.close()
            return
        connection.idle_since = monotonic()
        idle.append(connection)

    async def open(self, origin: Origin, within_s: float) -> UpstreamConnection:
        """Return a new connection. Raises `TransportError`."""
        connection = await dial(origin, within_s)
        connection.on_idle_end = partial(self._forget, origin)
        return connection

    def borrow(self, origin: Origin, connection: UpstreamConnection) -> None:
        self._active[connection] = origin

    def _forget(self, origin: Origin, connection: UpstreamConnection) -> None:
        idle = self._idle.get(origin)
        if idle is not None and connection in idle:
            idle.remove(connection)


class _Exchange(msgspec.Struct, eq=False):
    """One exchange; the context manager that `Transport.exchange` returns."""

    _transport: Transport
    _wire: WireRequest | None
    _origin: Origin
    _connect_s: float
    _head_s: float
    _connection: UpstreamConnection | None = None

    async def __aenter__(self) -> UpstreamResponse:
        wire, self._wire = self._wire, None
        if wire is None:
            raise RuntimeError("an exchange is entered once")
        transport = self._transport
        try:
            pieces = _pieces(wire)
            connection = transport.take(self._origin)
            if connection is not None:
                sent_at = monotonic()
                transport.borrow(self._origin, connection)
                self._connection = connection
                try:
                    connection.send(pieces)
                    await connection.head(self._head_s)
                    return plain(connection)
                except TransportError as error:
                    if not _was_stale(connection, error, sent_at):
                        raise
                self._release()
            connection = await transport.open(self._origin, self._connect_s)
            transport.borrow(self._origin, connection)
            self._connection = connection
            connection.send(pieces)
            await connection.head(self._head_s)
            return plain(connection)
        except BaseException:
            self._release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.give_back(connection)


def _was_stale(idle: UpstreamConnection, error: TransportError, sent_at: float) -> bool:
    """Say whether a connection was closed under our feet, while it was idle: then nobody has seen the request."""
    return not idle.received and error.cause in ("closed", "reset") and monotonic() - sent_at <= STALE_S


class _Played:
    """A script in the place of an exchange."""

    __slots__ = ("_head_s", "_wire")

    def __init__(self, wire: WireRequest, head_s: float) -> None:
        self._wire = wire
        self._head_s = head_s

    async def __aenter__(self) -> UpstreamResponse:
        script = self._wire.script
        if script is None:
            raise RuntimeError("nothing to play")
        playback = Playback(script())
        await playback.head(self._head_s)
        return plain(playback)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


def _pieces(wire: WireRequest) -> list[bytes | memoryview]:
    """Return the request as it goes over the wire. Raises `ValueError` for a header that would break out of it."""
    method, target, body = wire.method, wire.target, wire.body
    start, fixed = _around(wire.origin)
    if target.split() != [target] or target.find(b"\0") >= 0:
        raise ValueError("a space or a control character inside a request's target")
    lines = fixed + written(wire.headers)
    coding = b"" if lines.find(b"\naccept-encoding: ") >= 0 else b"accept-encoding: identity\r\n"
    size = len(body[0]) if len(body) == 1 else sum(map(len, body))
    length = b"content-length: %d\r\n\r\n" % size if size or method != b"GET" else b"\r\n"
    head = (method, start, target, lines, coding, length)
    if size <= JOINED_MAX_BYTES:
        return [b"".join((*head, *body))]
    return [b"".join(head), *body]


@lru_cache(maxsize=256)
def _around(origin: Origin) -> tuple[bytes, bytes]:
    """Return what stands before a request's target and what comes after it: the same for every request."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    if origin.port != (443 if origin.tls else 80):
        host += f":{origin.port}"
    fixed = b" HTTP/1.1\r\nhost: " + host.encode("idna" if not host.isascii() else "ascii") + b"\r\n"
    if not speaks_absolute_form(origin):
        return b" ", fixed
    if credentials := proxy_authorization(origin):
        fixed += b"proxy-authorization: " + credentials + b"\r\n"
    return b" http://" + host.encode(), fixed
