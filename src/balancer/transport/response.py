"""The response of one exchange, as it comes over a connection: waiting for it, and flow control.

How far the response is, its framing says (`framing.State`). Beside that there is who reads:

| reader | `_waiter` | `_give` | what comes |
|---|---|---|---|
| none: it is busy with what came before | None | None | is kept; `Limits.unread_max_bytes` pause the peer |
| waits (`head`, `read`) | a future | None | is kept, and wakes the reader once there is something to say |
| has it handed on (`flow`) | a future | a function | is given to it at once; the reader sleeps until it takes no more |

The body's end, a break and a timeout always wake the reader; the last piece of a body is never handed on, but read: so
whoever reads sees the end with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from balancer.script import Cause
from balancer.transport.framing import BODY, BROKEN, COMPLETE, HEAD, FramedResponse, HeaderFields
from balancer.transport.limits import Limits
from balancer.transport.timer import LazyTimer

_HEAD_TIMEOUT, _IDLE_TIMEOUT = Cause.HEAD_TIMEOUT, Cause.IDLE_TIMEOUT


class ReceivedResponse(FramedResponse):
    """One response. During its exchange it is given what comes; after its exchange (`end`) it can't be read."""

    flows = True
    lost = False
    """The connection is gone."""
    _waiter: asyncio.Future[None] | None = None
    _timeout = _HEAD_TIMEOUT
    """What it means if the reader waits in vain."""
    _give: Callable[[bytes], bool] | None = None
    _give_within_s = 0.0
    _unread_bytes = 0
    """What has come since the reader took anything, as it came over the wire."""
    _paused = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        timer: LazyTimer,
        fields: HeaderFields,
        limits: Limits,
    ) -> None:
        super().__init__(fields, limits)
        self._loop = loop
        self._transport = transport
        self._timer = timer

    # What comes over the connection

    def data_received(self, data: bytes) -> None:
        self.feed(data)
        state = self.state
        give = self._give
        if give is not None and state is BODY:
            pieces = self.pieces
            if not pieces:  # it is some of what stands around the chunks: no sign of life
                return
            self._timer.deadline = self._loop.time() + self._give_within_s
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            try:
                if give(data):
                    return
            except Exception as error:  # it is not the peer's fault: whoever reads is to hear of it
                if self._waiter is not None and not self._waiter.done():
                    self._waiter.set_exception(error)
            if self._waiter is not None:  # it is given no more, from the first that it refuses on, or fails to take
                self._wake(self._waiter)
            return
        if state is HEAD:
            return
        self._unread_bytes += len(data)
        if self._unread_bytes > self.limits.unread_max_bytes and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        if state is BROKEN:
            self._transport.abort()
        if self._waiter is not None and (self.pieces or state is not BODY or self._timeout is _HEAD_TIMEOUT):
            self._wake(self._waiter)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.cut(exc)
        if self._waiter is not None:
            self._wake(self._waiter)

    def _wake(self, waiter: asyncio.Future[None]) -> None:
        self._waiter = self._give = None
        if not waiter.done():
            waiter.set_result(None)

    # What the reader calls

    async def head(self, within_s: float) -> None:
        """Wait until the head is there. Raises `TransportError`."""
        while self.state is HEAD:
            await self._news(within_s, _HEAD_TIMEOUT)
        if self.state is BROKEN and not self.headed:
            raise self.error()

    def read_nowait(self) -> bytes | None:
        pieces = self.pieces
        if not pieces:
            return b"" if self.state is COMPLETE else None
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._unread_bytes = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def read(self, within_s: float) -> bytes:
        while not self.pieces:
            if self.state is COMPLETE:
                return b""
            if self.state is BROKEN:
                raise self.error()
            await self._news(within_s, _IDLE_TIMEOUT)
        return self.read_nowait() or b""

    async def flow(self, give: Callable[[bytes], bool], within_s: float) -> None:
        if self.pieces or self.state is COMPLETE:
            return
        if self.state is BROKEN:
            raise self.error()
        self._give, self._give_within_s = give, within_s
        try:
            await self._news(within_s, _IDLE_TIMEOUT)
        finally:
            self._give = None

    def _news(self, within_s: float, timeout: Cause) -> asyncio.Future[None]:
        """Return what is done when anything happens, and fails with `timeout` when nothing does."""
        timer = self._timer
        deadline = timer.deadline = self._loop.time() + within_s
        if timer.due > deadline:
            timer.set()
        self._timeout = timeout
        waiter = self._waiter = self._loop.create_future()
        return waiter

    # What the connection calls

    def timed_out(self) -> None:
        """The deadline of the reader's wait has passed, if it waits."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            self.fail(self._timeout)
            waiter.set_exception(self.error())

    @property
    def begun(self) -> bool:
        """The peer has sent something."""
        return self.head_bytes > 0

    def end(self) -> bool:
        """End the exchange. Returns whether another may follow on the connection, as far as this response says."""
        reusable = self.state is COMPLETE and self.reusable and not self.lost and not self.pieces
        self._waiter = None
        self.discard()
        return reusable
