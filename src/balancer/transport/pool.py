"""Exchanges over pooled keep-alive connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from functools import lru_cache, partial
from types import TracebackType

import msgspec

from balancer.clock import SYSTEM, Clock
from balancer.headers import written
from balancer.model import Origin, WireRequest
from balancer.script import Cause
from balancer.transport.answer import UpstreamResponse, plain
from balancer.transport.connection import UpstreamConnection
from balancer.transport.dialing import Dialer, TlsContexts, proxy_authorization, speaks_absolute_form, tls_context
from balancer.transport.errors import TransportError
from balancer.transport.limits import LIMITS, Limits
from balancer.transport.playback import Playback
from balancer.transport.response import ReceivedResponse


class Transport:
    """Sends requests and keeps connections alive between them.

    `clock` says how long connections were idle; waits for a peer are the event loop's.
    """

    def __init__(self, clock: Clock = SYSTEM, limits: Limits = LIMITS, tls: TlsContexts = tls_context) -> None:
        self.now: Callable[[], float] = clock.now
        self.limits = limits
        self._dialer = Dialer(limits, tls)
        self._idle: dict[Origin, list[UpstreamConnection]] = {}
        self._active: dict[UpstreamConnection, Origin | None] = {}
        """In use, and for which origin they are kept afterwards; None: for none."""

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

    def checkout(self, origin: Origin) -> UpstreamConnection | None:
        """Return the idle connection that was used last, if it is still good; it is in use then."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if not connection.lost and self.now() - connection.idle_since < self.limits.idle_s:
                self._active[connection] = origin
                return connection
            connection.close()
        return None

    async def open(self, origin: Origin, within_s: float) -> UpstreamConnection:
        """Return a new connection, which is in use. Raises `TransportError`."""
        connection = await self._dialer.dial(origin, within_s)
        connection.on_idle_end = partial(self._forget, origin)
        self._active[connection] = origin
        return connection

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
        if len(idle) >= self.limits.idle_per_origin:
            connection.close()
            return
        connection.idle_since = self.now()
        idle.append(connection)

    def _forget(self, origin: Origin, connection: UpstreamConnection) -> None:
        idle = self._idle.get(origin)
        if idle is not None and connection in idle:
            idle.remove(connection)


class _Exchange(msgspec.Struct, eq=False):
    """One exchange; the context manager that `Transport.exchange` returns."""

    _transport: Transport
    _wire: WireRequest | None
    """None: it was entered."""
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
            pieces = _pieces(wire, transport.limits.joined_max_bytes)
            connection = self._connection = transport.checkout(self._origin)
            if connection is not None:
                sent_at = transport.now()
                response: ReceivedResponse | None = None
                try:
                    response = connection.send(pieces)
                    await response.head(self._head_s)
                    return plain(response)
                except TransportError as error:
                    if not self._was_stale(response, error, sent_at):
                        raise
                self._release()
            connection = self._connection = await transport.open(self._origin, self._connect_s)
            response = connection.send(pieces)
            await response.head(self._head_s)
            return plain(response)
        except BaseException:
            self._release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None  # `_release`, without a call: every request ends here
        if connection is not None:
            self._transport.give_back(connection)

    def _was_stale(self, response: ReceivedResponse | None, error: TransportError, sent_at: float) -> bool:
        """Return whether an idle connection was closed before the request reached the peer: then it is sent again."""
        transport = self._transport
        unseen = (response is None or not response.begun) and error.cause in _ENDS
        return unseen and transport.now() - sent_at <= transport.limits.stale_s

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.give_back(connection)


_ENDS = frozenset({Cause.CLOSED, Cause.RESET})


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


def _pieces(wire: WireRequest, joined_max_bytes: int) -> list[bytes | memoryview]:
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
    if size <= joined_max_bytes:
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
