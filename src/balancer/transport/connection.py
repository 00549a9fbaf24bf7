"""One HTTP/1.1 connection to an upstream, which serves one exchange after the other.

| state | who is given what comes | what ends it |
|---|---|---|
| idle | nobody: whatever comes, an end included, is a reason not to use it | `send`; anything from the peer |
| in use | the exchange's `ReceivedResponse` | `release` |
| gone | nobody | |

So what comes during one exchange can't get into another: the objects that it would have to pass through are others.

The connection stays the socket's protocol and passes on what comes: uvloop stops and starts reading at each change of a
protocol, which is four system calls a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from balancer.script import Cause
from balancer.transport.errors import TransportError
from balancer.transport.framing import HeaderFields
from balancer.transport.limits import LIMITS, Limits
from balancer.transport.response import ReceivedResponse
from balancer.transport.timer import LazyTimer


class UpstreamConnection(asyncio.Protocol):
    """A connection, used for one exchange at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits = LIMITS) -> None:
        self._loop = loop
        self._limits = limits
        self._timer = LazyTimer(loop, self._timed_out)
        self._fields = HeaderFields()
        self._transport: asyncio.Transport | None = None
        self._response: ReceivedResponse | None = None
        """Of the exchange under way."""
        self.on_idle_end: Callable[[UpstreamConnection], None] | None = None
        """Called when the peer closes the connection, or sends anything, while nobody uses it."""
        self.idle_since = 0.0
        """The pool's own: when it was given back, on the pool's clock."""
        self.lost = False
        """It is gone, and was idle."""

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._response is not None:
            self._response.data_received(data)
            return
        # They belong to no exchange: whatever they are, this connection can't be trusted.
        if self.on_idle_end:
            self.on_idle_end(self)
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._response is not None:
            self._response.connection_lost(exc)
            return
        self.lost = True
        self._timer.cancel()
        if self.on_idle_end:
            self.on_idle_end(self)

    def _timed_out(self) -> None:
        if self._response is not None:
            self._response.timed_out()

    # What the pool calls

    def send(self, pieces: list[bytes | memoryview]) -> ReceivedResponse:
        """Begin an exchange: write a request, and return the response to it, of which nothing has come yet.

        Nothing is joined or kept here but what the socket did not take yet. Raises `TransportError` where the
        connection is gone.
        """
        transport = self._transport
        if transport is None or self.lost or transport.is_closing():
            raise TransportError(Cause.CLOSED, sent=False)
        response = self._response = ReceivedResponse(self._loop, transport, self._timer, self._fields, self._limits)
        for piece in pieces:
            transport.write(piece)
        return response

    def release(self) -> bool:
        """End the exchange. Returns whether the connection can be used for another; else it is closed."""
        transport, response = self._transport, self._response
        self._response = None
        reusable = (
            transport is not None
            and response is not None
            and response.end()
            and not transport.is_closing()
            and not transport.get_write_buffer_size()  # the response came before the request was out
        )
        if not reusable:
            self.close()
        return reusable

    def close(self) -> None:
        """Close at once."""
        self._timer.cancel()
        if self._transport is not None and not self.lost:
            self._transport.abort()
