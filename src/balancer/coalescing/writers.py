"""Who writes and who reads a shared answer: the leader's client, and its followers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from balancer.clock import Clock
from balancer.coalescing.shared import InFlight, Reader, SharedResponse
from balancer.events import Bus
from balancer.headers import Headers
from balancer.model import Request
from balancer.relay.record import RequestRecord
from balancer.relay.response import STUCK_S
from balancer.relay.writer import ClientWriter, ResponseWriter

PARTING_S = 1.0
"""How long a follower waits for the last words when everything is being stopped."""

NAME = b"x-balancer-dedup"
_LEADER = (NAME, b"leader")


class TeeWriter(msgspec.Struct, eq=False):
    """Gives the leader's client its answer, and keeps it for the others."""

    _client: ClientWriter
    _registry: InFlight
    shared: SharedResponse
    _replay_s: float
    _pump: asyncio.Task[None] | None = None

    @property
    def pumped(self) -> bool:
        """The leader's client is fed at its own pace."""
        return self._pump is not None

    @property
    def dedup(self) -> str:
        return "leader" if self.shared.followed else ""

    @property
    def gone(self) -> bool:
        """Nobody takes the answer any more."""
        return self.shared.leader_left and not self.shared.followers

    def leave(self) -> None:
        """The leader's client has left: end it, unless others follow."""
        if self.left():
            self.shared.cancel()

    def left(self) -> bool:
        """The leader's client has left. Say whether to end it: not while others follow."""
        shared = self.shared
        shared.leader_left = True
        shared.leader = None
        if self._pump is not None:
            self._pump.cancel()
        if not shared.followers:
            self._registry.forget(shared)
        shared.changed()
        return not shared.followers

    def start(self, status: int, headers: Headers) -> None:
        shared = self.shared
        shared.status, shared.headers = status, headers
        if shared.followers:
            shared.changed()
        if not shared.leader_left:
            self._client.start(status, (*headers, _LEADER))

    def put(self, data: bytes, *, last: bool = False) -> bool:
        shared = self.shared
        if self._pump is not None or shared.followers or shared.leader_left or not self._client.put(data, last=last):
            return False
        if last and not self._replay_s and not shared.chunks:
            shared.end = "whole"  # nobody came, and nobody can any more
            self._registry.close(shared)
        else:
            self._keep(data, last)
        return True

    async def write(self, data: bytes, *, last: bool = False) -> None:
        shared = self.shared
        if self._pump is None and not shared.leader_left:
            if not shared.followers and not self._client.busy:
                self._keep(data, last)
                await self._client.write(data, last=last)
                return
            shared.leader = Reader(shared.count)
            self._pump = asyncio.get_running_loop().create_task(self._feed(shared.leader))
        self._keep(data, last)
        while self._behind():
            await shared.more()

    def _keep(self, data: bytes, last: bool) -> None:
        """Keep what comes for those who follow, or may still."""
        if data:
            self._registry.grow(self.shared, data)
        if last:
            self._registry.done(self.shared, "whole", self._replay_s)

    async def finish(self) -> None:
        if not self.shared.end:
            await self.write(b"", last=True)

    def mark_unshareable(self) -> None:
        self._replay_s = 0.0
        self.shared.unshareable = True

    async def abort(self) -> None:
        self._registry.done(self.shared, "aborted", 0.0)
        if self._pump is None and not self.shared.leader_left:
            await self._client.abort()

    async def drained(self) -> None:
        """Return when the leader's client has taken all there was, or is gone."""
        if self._pump is not None:
            await asyncio.wait([self._pump])

    def close(self) -> None:
        """The relay has ended, however: followers must not wait for more."""
        if not self.shared.end:
            self._registry.done(self.shared, "aborted", 0.0)
        if self._pump is not None:
            self._pump.cancel()

    def _behind(self) -> bool:
        """A slow leader slows the relay while it is alone: that is the flow control."""
        shared, reader = self.shared, self.shared.leader
        return reader is not None and reader.at < shared.count and not shared.followers

    async def _feed(self, reader: Reader) -> None:
        """Feed the leader's client at its own pace."""
        shared = self.shared
        try:
            await _give(shared, reader, self._client)
        except TimeoutError:
            await self._client.abort()
            self.leave()
        except asyncio.CancelledError:
            if not shared.leader_left:
                await self._client.abort()
            raise
        finally:
            shared.leader = None
            shared.changed()
            if not shared.joinable:
                self._registry.forget(shared)


async def _give(shared: SharedResponse, reader: Reader, writer: ResponseWriter) -> None:
    """Give a client what comes, and the end as it was. Raises `TimeoutError` when it takes nothing for too long."""
    while True:
        while reader.at < shared.count:
            data, at = shared.following(reader.at)
            try:
                async with asyncio.timeout(STUCK_S) as reader.patience:
                    await writer.write(data, last=shared.end == "whole" and at == shared.count)
            finally:
                reader.patience = None
            reader.at = at
        if shared.end:
            break
        if reader is shared.leader and not shared.followers:
            shared.changed()  # the relay waits for it
        await shared.more()
    await (writer.finish() if shared.end == "whole" else writer.abort())
    reader.done = True


async def follow(
    shared: SharedResponse, reader: Reader, registry: InFlight, writer: ResponseWriter, own: Headers
) -> None:
    """Give a follower's client the whole answer. `own` are its own headers, instead of the leader's.

    `taker` is what `join` returned; it is taken out of the followers, whatever happens.
    """
    try:
        await _follow(shared, reader, writer, own)
    except TimeoutError:
        await writer.abort()
    except asyncio.CancelledError:
        if not writer.gone:  # the balancer is being stopped, the leader's relay too: it says so to all
            with suppress(TimeoutError):
                async with asyncio.timeout(PARTING_S):
                    await _follow(shared, reader, writer, own)
        raise
    finally:
        registry.leave(shared, reader)


async def _follow(shared: SharedResponse, reader: Reader, writer: ResponseWriter, own: Headers) -> None:
    while not shared.status and not shared.end:
        await shared.more()
    if shared.status and not reader.begun:
        reader.begun = True
        names = {name for name, _ in own}
        kept = tuple(pair for pair in shared.headers if pair[0] not in names)
        writer.start(shared.status, (*own, *kept, (NAME, b"follower")))
    await _give(shared, reader, writer)


@contextmanager
def recorded(request: Request, shared: SharedResponse, reader: Reader, bus: Bus, clock: Clock) -> Iterator[None]:
    """Emit the events of a request that follows the answer to another one."""
    record = RequestRecord(request, clock.now(), len(request.body), "follower")
    bus.emit(record.began(clock.wall()))
    try:
        yield
    finally:
        record.status, record.outcome, record.provider = shared.status, shared.outcome(reader), shared.provider
        bus.emit(record.ended(clock.wall(), clock.now()))
