"""What the client of one request has been given so far, and what keeps its connection alive.

Two stages. Silent: nothing was sent, so a real HTTP status is still possible. Open: the client
has a 200 and pings, because a provider took long to begin, and providers are still tried behind
them; all that can go wrong now can only be an event. Committed: content was sent; from here on
nobody else can take over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

from balancer.model import Headers
from balancer.sink import Sink
from balancer.wire.anthropic import PING

HOLD_MAX_S = 10.0
"""How long a stream's client waits for anything at all. Claude Code and the SDKs accept pings
before `message_start`."""

PING_S = 10.0
"""A stream that was silent for this long gets a ping of ours."""

STUCK_S = 120.0
"""A client that takes nothing for this long is cut off."""

STREAM_HEADERS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class Delivery:
    """One answer on its way to its client. Used with `with`, in the task that writes it."""

    __slots__ = (
        "_headers",
        "_last",
        "_now",
        "_owner",
        "_ping",
        "_stream",
        "_timer",
        "_writing_since",
        "committed",
        "finished",
        "opened",
        "sink",
        "status",
        "stuck",
    )

    def __init__(self, sink: Sink, *, stream: bool, headers: Headers, now: Callable[[], float]) -> None:
        self.sink = sink
        self.opened = False
        self.committed = False
        self.finished = False
        self.stuck = False
        self.status = 0
        self._stream = stream
        self._headers = headers
        self._now = now
        self._last = now()
        self._writing_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ping: asyncio.Task[None] | None = None
        self._owner: asyncio.Task[object] | None = None

    def __enter__(self) -> Self:
        owner = self._owner = asyncio.current_task()
        loop = owner.get_loop() if owner is not None else asyncio.get_running_loop()
        self._timer = loop.call_later(HOLD_MAX_S, self._tick)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._timer:
            self._timer.cancel()
        if self._ping:
            self._ping.cancel()

    def start(self, status: int, headers: Headers) -> None:
        """Begin with this head, unless the pings have begun already."""
        if not self.opened:
            self.opened = True
            self.status = status
            self.sink.start(status, self._headers + headers)

    def give(self, data: bytes, *, last: bool) -> Awaitable[None] | None:
        """Give some of the body; return what is to be awaited where that takes waiting."""
        if not self.sink.put(data, last=last):
            return self.write(data, last=last)
        self.finished = last
        self._last = self._now()
        return None

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Give some of the body; `last`: with this it is whole."""
        if last:
            self.finished = True
        self._writing_since = self._last = self._now()
        await self.sink.write(data, last=last)
        self._writing_since = None

    async def finish(self) -> None:
        if not self.finished:
            await self.write(b"", last=True)

    async def fail(self, data: bytes) -> None:
        """End with words that say that the answer failed."""
        self.sink.spoil()
        await self.write(data, last=True)

    async def abort(self) -> None:
        self.finished = True
        await self.sink.abort()

    def _tick(self) -> None:
        """Look after the connection. One lazy timer a request, not one a write."""
        now = self._now()
        loop = asyncio.get_running_loop()
        if self._writing_since is not None:
            if now - self._writing_since >= STUCK_S and self._owner:
                self.stuck = True
                self._owner.cancel()
                return
            self._timer = loop.call_later(PING_S, self._tick)
            return
        due_s = self._last + (PING_S if self.opened else HOLD_MAX_S) - now
        if due_s > 0.01:
            self._timer = loop.call_later(due_s, self._tick)
            return
        if self._stream and not self.finished:
            self._ping = loop.create_task(self._keep_alive())
        self._timer = loop.call_later(PING_S, self._tick)

    async def _keep_alive(self) -> None:
        if not self.finished:  # it may have been over in the same turn of the loop
            self.start(200, STREAM_HEADERS)
            await self.write(PING)
