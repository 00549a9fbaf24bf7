"""Writing a shared answer to its readers: the leader's client and its followers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from balancer.clock import Clock
from balancer.coalescing.shared import (
    ABORTED,
    COMING,
    DIRECT,
    LEFT,
    PUMPED,
    WHOLE,
    InFlight,
    Reader,
    Reads,
    SharedResponse,
)
from balancer.events import Bus
from balancer.headers import Headers
from balancer.model import Candidate, Request
from balancer.relay.record import RequestRecord
from balancer.relay.writer import ClientWriter, ResponseWriter

NAME = b"x-balancer-dedup"
_LEADER = (NAME, b"leader")
_FOLLOWER = (NAME, b"follower")


class TeeWriter(msgspec.Struct, eq=False):
    """Gives the leader's client its answer, and keeps it for followers.

    The states of the leader's client stand in `shared`: DIRECT until it is slow or followed, then PUMPED.
    """

    _client: ClientWriter
    _in_flight: InFlight
    shared: SharedResponse
    _replay_s: float
    _pump: asyncio.Task[None] | None = None
    """Writes to the leader's client, once it is PUMPED."""

    @property
    def pumped(self) -> bool:
        """The leader's client is, or was, fed at its own pace."""
        return self._pump is not None

    @property
    def dedup(self) -> str:
        return "leader" if self.shared.followed else ""

    @property
    def gone(self) -> bool:
        return self.shared.leader is LEFT and not self.shared.followers

    def leave(self) -> None:
        """The leader's client has left: cancel the relay, unless others read the answer."""
        shared = self.shared
        shared.leader, shared.leading = LEFT, None
        if self._pump is not None:
            self._pump.cancel()
        followed = bool(shared.followers)
        if not followed:
            self._in_flight.forget(shared)
        shared.changed()
        if not followed:
            shared.cancel()

    def start(self, status: int, headers: Headers) -> None:
        shared = self.shared
        shared.status, shared.headers = status, headers
        if shared.leader is not LEFT:  # followers get the head with the first of the body, as every client does
            self._client.start(status, (*headers, _LEADER))

    def put(self, data: bytes, *, last: bool = False) -> bool:
        shared = self.shared
        if shared.leader is not DIRECT or shared.followers or not self._client.put(data, last=last):
            return False
        if last and not self._replay_s and not shared.chunks:
            shared.end = WHOLE  # nobody has joined, and nobody can any more
            self._in_flight.close(shared)
        elif last:
            self._keep(data, last)
        elif data:  # an event of a stream: most of what is put
            self._in_flight.grow(shared, data)
        return True

    async def write(self, data: bytes, *, last: bool = False) -> None:
        shared = self.shared
        if shared.leader is DIRECT:
            if not shared.followers and not self._client.busy:
                self._keep(data, last)
                await self._client.write(data, last=last)
                return
            shared.leader, shared.leading = PUMPED, Reader(shared.count)
            self._pump = asyncio.get_running_loop().create_task(self._feed(shared.leading))
        self._keep(data, last)
        while self._is_behind():
            await shared.more()

    def _keep(self, data: bytes, last: bool) -> None:
        """Keep what comes for the readers there are and for those that may still come."""
        if data:
            self._in_flight.grow(self.shared, data)
        if last:
            self._in_flight.done(self.shared, WHOLE, self._replay_s)

    async def finish(self) -> None:
        if self.shared.end is COMING:
            await self.write(b"", last=True)

    def committed(self, candidate: Candidate) -> None:
        self.shared.answered_by = candidate

    def mark_unshareable(self) -> None:
        self._replay_s = 0.0
        self.shared.unshareable = True

    async def abort(self) -> None:
        self._in_flight.done(self.shared, ABORTED, 0.0)
        if self.shared.leader is DIRECT:
            await self._client.abort()

    async def drained(self) -> None:
        """Return when the leader's client has read everything, or is gone."""
        if self._pump is not None:
            await asyncio.wait([self._pump])

    def close(self) -> None:
        """The relay has ended, however: no follower may wait for more."""
        if self.shared.end is COMING:
            self._in_flight.done(self.shared, ABORTED, 0.0)
        if self._pump is not None:
            self._pump.cancel()

    def _is_behind(self) -> bool:
        """Say whether the relay has to wait for the leader's client: alone, a slow one slows it down."""
        shared, reader = self.shared, self.shared.leading
        return reader is not None and reader.at < shared.count and not shared.followers

    async def _feed(self, reader: Reader) -> None:
        """Write to the leader's client at its own pace."""
        shared = self.shared
        try:
            await _give(shared, reader, self._client, self._in_flight.limits.stuck_s)
        except TimeoutError:
            await self._client.abort()
            self.leave()
        except asyncio.CancelledError:
            if shared.leader is not LEFT:
                await self._client.abort()
            raise
        finally:
            shared.leading = None
            shared.changed()
            if not shared.joinable:
                self._in_flight.forget(shared)


async def _give(shared: SharedResponse, reader: Reader, writer: ResponseWriter, stuck_s: float) -> None:
    """Write what comes, and end as it ends. Raises `TimeoutError` if a write takes `stuck_s` or is cut."""
    while True:
        while reader.at < shared.count:
            data, at = shared.following(reader.at)
            try:
                async with asyncio.timeout(stuck_s) as reader.patience:
                    await writer.write(data, last=shared.end is WHOLE and at == shared.count)
            finally:
                reader.patience = None
            reader.at = at
        if shared.end is not COMING:
            break
        if reader is shared.leading and not shared.followers:
            shared.changed()  # the relay waits for it
        await shared.more()
    await (writer.finish() if shared.end is WHOLE else writer.abort())
    reader.reads = Reads.ALL


async def follow(
    shared: SharedResponse, reader: Reader, in_flight: InFlight, writer: ResponseWriter, own: Headers
) -> None:
    """Give a follower's client the whole answer. `own` are its own headers, in the place of the leader's.

    `reader` is what `join` returned; it is taken out of the followers, whatever happens.
    """
    limits = in_flight.limits
    try:
        await _follow(shared, reader, writer, own, limits.stuck_s)
    except TimeoutError:
        await writer.abort()
    except asyncio.CancelledError:
        if not writer.gone:  # the balancer is being stopped, the leader's relay too: it says so to all readers
            with suppress(TimeoutError):
                async with asyncio.timeout(limits.parting_s):
                    await _follow(shared, reader, writer, own, limits.stuck_s)
        raise
    finally:
        in_flight.leave(shared, reader)


async def _follow(shared: SharedResponse, reader: Reader, writer: ResponseWriter, own: Headers, stuck_s: float) -> None:
    while not shared.status and shared.end is COMING:
        await shared.more()
    if shared.status and reader.reads is Reads.NOTHING:
        reader.reads = Reads.BODY
        names = {name for name, _ in own}
        kept = [pair for pair in shared.headers if pair[0] not in names]
        writer.start(shared.status, (*own, *kept, _FOLLOWER))
    await _give(shared, reader, writer, stuck_s)


@contextmanager
def recorded(request: Request, shared: SharedResponse, reader: Reader, bus: Bus, clock: Clock) -> Iterator[None]:
    """Emit the events of a request that follows the answer to another one."""
    record = RequestRecord(request, clock.now(), len(request.body), "follower")
    bus.emit(record.began(clock.wall()))
    try:
        yield
    finally:
        record.status, record.outcome = shared.status, shared.outcome(reader)
        if (candidate := shared.answered_by) is not None:
            record.provider, record.provider_model = candidate.provider.name, candidate.model
        bus.emit(record.ended(clock.wall(), clock.now()))
