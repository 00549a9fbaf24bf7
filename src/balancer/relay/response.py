"""What the client of one request has been given so far, and what keeps its connection alive.

Two stages. Silent: nothing was sent, so a real HTTP status is still possible. Open: the client
has a 200 and pings, because a provider took long to begin, and providers are still tried behind
them; all that can go wrong now can only be an event. Committed: content was sent; from here on
nobody else can take over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

import msgspec

from balancer.headers import Headers
from balancer.relay.writer import ResponseWriter
from balancer.wire.stream import PING

HOLD_MAX_S = 10.0
"""How long a stream's client waits for anything at all. Claude Code and the SDKs accept pings
before `message_start`."""

PING_S = 10.0
"""A stream that was silent for this long gets a ping of ours."""

STUCK_S = 120.0
"""A client that takes nothing for this long is cut off."""

LOOK_EVERY_S = 0.05
"""The shortest time from one look at all the deliveries to the next."""

STREAM_HEADERS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class Watch:
    """Looks after the deliveries under way. One timer for all of them: one a request would cost more than 2 us."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.loop = asyncio.get_running_loop()
        self.deliveries: set[ClientResponse] = set()
        self.timer: asyncio.TimerHandle | None = None
        """Set: there will be a look, and sooner than anything that begins now can be due."""

    def look(self) -> None:
        """See to every delivery, and when to do that next."""
        self.timer = None
        now = self.now()
        dues_s = [response.look(now) for response in self.deliveries]
        if dues_s:
            self.timer = self.loop.call_later(max(min(dues_s), LOOK_EVERY_S), self.look)


class ClientResponse(msgspec.Struct, eq=False):
    """One answer on its way to its client. Used with `with`; `owner` is the task that writes it."""

    writer: ResponseWriter
    _watch: Watch
    _owner: asyncio.Task[Any] | None
    _stream: bool
    _headers: Headers
    """Go before whatever head there will be."""
    _last: float
    """When the client was last given anything."""
    opened: bool = False
    committed: bool = False
    finished: bool = False
    stuck: bool = False
    status: int = 0
    _writing_since: float | None = None
    _ping: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        watch = self._watch
        watch.deliveries.add(self)
        if watch.timer is None:
            watch.timer = watch.loop.call_later(HOLD_MAX_S, watch.look)
        return self

    def __exit__(self, *exc: object) -> None:
        self._watch.deliveries.discard(self)
        if self._ping:
            self._ping.cancel()

    def start(self, status: int, headers: Headers) -> None:
        """Begin with this head, unless the pings have begun already."""
        if not self.opened:
            self.opened = True
            self.status = status
            self.writer.start(status, self._headers + headers)

    def put(self, data: bytes) -> bool:
        """Give some of the body, but not the last of it, if that takes no waiting; say whether it was given."""
        if not self.writer.put(data):
            return False
        self._last = self._watch.now()
        return True

    def give(self, held: list[bytes], *, last: bool) -> Awaitable[None] | None:
        """Give all that is held of the body; return what is to be awaited where that takes waiting."""
        if not held:
            return None
        data = held[0] if len(held) == 1 else b"".join(held)
        held.clear()
        if not self.writer.put(data, last=last):
            return self.write(data, last=last)
        if last:
            self.finished = True
        self._last = self._watch.now()
        return None

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Give some of the body; `last`: with this it is whole."""
        if last:
            self.finished = True
        self._writing_since = self._last = self._watch.now()
        await self.writer.write(data, last=last)
        self._writing_since = None

    async def finish(self) -> None:
        if not self.finished:
            await self.write(b"", last=True)

    async def fail(self, data: bytes) -> None:
        """End with words that say that the answer failed."""
        self.writer.mark_unshareable()
        await self.write(data, last=True)

    async def abort(self) -> None:
        self.finished = True
        await self.writer.abort()

    def look(self, now: float) -> float:
        """Look after the connection; return in how many seconds to look again."""
        if self._writing_since is not None:
            if now - self._writing_since >= STUCK_S and self._owner and not self.stuck:
                self.stuck = True
                self._owner.cancel()
            return PING_S
        due_s = self._last + (PING_S if self.opened else HOLD_MAX_S) - now
        if due_s > 0.01:
            return due_s
        if self._stream and not self.finished:
            self._ping = self._watch.loop.create_task(self._keep_alive())
        return PING_S

    async def _keep_alive(self) -> None:
        if not self.finished:  # it may have been over in the same turn of the loop
            self.start(200, STREAM_HEADERS)
            await self.write(PING)
