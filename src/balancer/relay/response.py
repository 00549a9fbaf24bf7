"""The response to one client: what it was given so far, and what keeps its connection alive.

Theory of operation. A response is in one of six states. Two tasks write to it: its owner (the relay's task), and a
short task that sends a ping when the stream was silent for too long. The state says what each of them may still do:

    state      the client was given                what may still be given
    SILENT     nothing                             any status, any provider's answer
    OPEN       the head: a 200 before pings, or    any provider's answer; a failure only as an event
               that of an error's answer
    COMMITTED  content of one provider             the rest of that answer; a failure as an event, or by a cut
    ENDING     all but the last bytes, which the   nothing; the owner waits for the client to take them
               client has yet to take
    OVER       everything, or its connection was   nothing
               cut
    STUCK      too little for too long             nothing; the owner was cancelled, and is to `abort`

    SILENT -start-> OPEN -commit-> COMMITTED -write(last)-> ENDING -taken-> OVER
    SILENT -commit-> COMMITTED            OPEN -write(last)-> ENDING
    any but OVER -look-> STUCK            any -abort-> OVER

ENDING and OVER differ because the last write can wait as long as any other: a client that takes nothing is cut off
there too, and one that leaves then does not have the whole answer. Pings are sent in SILENT (with the head), OPEN and
COMMITTED only.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from typing import Any, Self

import msgspec

from balancer.headers import Headers
from balancer.relay.limits import DEFAULT, RelayLimits
from balancer.relay.writer import ResponseWriter
from balancer.wire.stream import PING

STREAM_HEADERS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class ResponseState(enum.Enum):
    """How far a response has come; the table above says what each state means."""

    SILENT = enum.auto()
    OPEN = enum.auto()
    COMMITTED = enum.auto()
    ENDING = enum.auto()
    OVER = enum.auto()
    STUCK = enum.auto()


# A name of the module's is found in a tenth of the time that the class takes to find its member.
SILENT, OPEN, COMMITTED = ResponseState.SILENT, ResponseState.OPEN, ResponseState.COMMITTED
ENDING, OVER, STUCK = ResponseState.ENDING, ResponseState.OVER, ResponseState.STUCK

_GOING_ON = (SILENT, OPEN, COMMITTED)


class Watch:
    """Looks at the responses under way, to ping them or to cut them off.

    One timer serves all of them: a timer for each costs more than 2 us a request.
    """

    def __init__(self, now: Callable[[], float], limits: RelayLimits = DEFAULT) -> None:
        self.now = now
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.responses: dict[ClientResponse, None] = {}
        """A dict, so that they are looked at in the same order in every process."""
        self.timer: asyncio.TimerHandle | None = None
        """Set while a look is planned. It comes before anything that begins now can be due."""

    def look(self) -> None:
        """Look at every response, and plan the next look."""
        self.timer = None
        now = self.now()
        dues_s = [response.look(now) for response in self.responses]
        if dues_s:
            self.timer = self.loop.call_later(max(min(dues_s), self.limits.look_every_s), self.look)


class ClientResponse(msgspec.Struct, eq=False):
    """The response to one client. Used with `with`, by the task `_owner`."""

    writer: ResponseWriter
    _watch: Watch
    _owner: asyncio.Task[Any] | None
    _stream: bool
    _headers: Headers
    """Lines that every head begins with."""
    last: float
    """When the client last took anything; while writes wait, when the first of them began, or one of them ended."""
    state: ResponseState = SILENT
    status: int = 0
    """The status that the client was given; 0: none yet."""
    _writes: int = 0
    """How many writes wait for the client: the owner's, or a ping's, or both."""
    ping: bytes = PING
    """What keeps a stream alive, in the API that the client speaks."""
    _ping: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        watch = self._watch
        watch.responses[self] = None
        if watch.timer is None:
            watch.timer = watch.loop.call_later(watch.limits.hold_max_s, watch.look)
        return self

    def __exit__(self, *exc: object) -> None:
        self._watch.responses.pop(self, None)
        if self._ping:
            self._ping.cancel()

    def start(self, status: int, headers: Headers) -> None:
        """Give the client this head, unless it has one already."""
        if self.state is SILENT:
            self.state = OPEN
            self.status = status
            self.writer.start(status, self._headers + headers)

    def commit(self, headers: Headers) -> None:
        """Content of one provider follows: from here on no other provider can take over."""
        if self.state is SILENT:
            self.status = 200
            self.writer.start(200, self._headers + headers)
        self.state = COMMITTED

    def put(self, data: bytes) -> bool:
        """Give some of the body, but not the last of it, if the client takes it at once. Return whether it did."""
        if not self.writer.put(data):
            return False
        self.last = self._watch.now()
        return True

    def give(self, held: list[bytes], *, last: bool) -> Awaitable[None] | None:
        """Give the client all that is held, and empty the list. Return what is to be awaited if that takes waiting."""
        if not held:
            return None
        data = held[0] if len(held) == 1 else b"".join(held)
        held.clear()
        if not self.writer.put(data, last=last):
            return self.write(data, last=last)
        if last:
            self.state = OVER
        self.last = self._watch.now()
        return None

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Give some of the body, and wait while the client is slow; `last`: the body ends with it."""
        if last:
            self.state = ENDING
        if not self._writes:
            self.last = self._watch.now()
        self._writes += 1
        try:
            await self.writer.write(data, last=last)
        finally:
            self._writes -= 1
        self.last = self._watch.now()
        if last:
            self.state = OVER

    async def finish(self) -> None:
        """End the body, unless it has ended already."""
        if self.state is not OVER:
            await self.write(b"", last=True)

    async def fail(self, data: bytes) -> None:
        """End the body with an event that says that the answer failed."""
        self.writer.mark_unshareable()
        await self.write(data, last=True)

    async def abort(self) -> None:
        """Cut the connection, so that the client can't take what it has for the whole answer."""
        self.state = OVER
        await self.writer.abort()

    def look(self, now: float) -> float:
        """Ping the client or cut it off if that is due. Return in how many seconds to look again."""
        limits = self._watch.limits
        if self._writes:
            if now - self.last >= limits.stuck_s and self._owner and self.state is not STUCK:
                self.state = STUCK
                self._owner.cancel()
            return limits.ping_s
        due_s = self.last + (limits.hold_max_s if self.state is SILENT else limits.ping_s) - now
        if due_s > 0.01:  # sooner than that is now: timers come a little early
            return due_s
        if self._stream and self.state in _GOING_ON:
            self._ping = self._watch.loop.create_task(self._keep_alive())
        return limits.ping_s

    async def _keep_alive(self) -> None:
        if self.state in _GOING_ON:  # the response may have ended in the same turn of the loop
            self.start(200, STREAM_HEADERS)
            await self.write(self.ping)
