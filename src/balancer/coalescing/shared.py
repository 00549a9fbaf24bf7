"""One answer for several clients that asked the same at the same time.

The first to ask is the leader: the relay answers it, and whoever asks the same meanwhile follows
the leader's answer, from its beginning, at its own pace. Nobody slows anybody: with followers
there, or while it is slow, the leader's own client is fed at its own pace too. The relay goes on
while anybody is there to take the answer, and is cancelled when the last one has left.

Most requests have no twin, and must not pay for that: theirs goes straight to the client, and is
kept for a twin that may still come. All that is kept counts against one limit. Beyond it nobody
can join, what everybody has taken is let go of, and who lags furthest behind is cut off.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from balancer.coalescing.key import Key
from balancer.headers import Headers, header
from balancer.relay.response import STUCK_S
from balancer.relay.writer import Client, Sink

TAKE_BYTES = 64 * 1024
"""About how much a client that lags is given at once: what it has not taken is kept here, once for all of them."""

CHUNK_COST_BYTES = 64
"""What a chunk takes besides its data."""

PARTING_S = 1.0
"""How long a follower waits for the last words when everything is being stopped."""

NAME = b"x-balancer-dedup"
_LEADER = (NAME, b"leader")


@dataclass(eq=False, slots=True)
class Taker:
    """A client that takes an answer at its own pace."""

    at: int = 0
    """How many chunks it has taken."""
    begun: bool = False
    """It has the head."""
    done: bool = False
    """It has all that there was."""
    patience: asyncio.Timeout | None = None
    """Runs while it is being given something."""

    def cut(self) -> None:
        """Have no more patience with it."""
        patience, self.patience = self.patience, None
        if patience is not None:
            with suppress(RuntimeError):  # it has run out by itself just now
                patience.reschedule(asyncio.get_running_loop().time())


class Shared(msgspec.Struct, eq=False):
    """An answer as it comes, for all who take it."""

    key: Key
    status: int = 0
    headers: Headers = ()
    chunks: list[bytes] = []
    dropped: int = 0
    """How many chunks before these were let go of."""
    size: int = 0
    end: str = ""
    """Empty while it comes; then `whole` or `aborted`."""
    spoiled: bool = False
    """It ends well, but what it says is that there is no good answer."""
    joinable: bool = True
    """All of it so far is still here."""
    followers: set[Taker] = set()
    leader: Taker | None = None
    """The leader's client, where it is fed at its own pace."""
    leader_left: bool = False
    cancel: Callable[[], object] = bool
    """Stops the relay: there is nobody left."""
    _waiting: list[asyncio.Future[None]] = []

    @property
    def count(self) -> int:
        """How many chunks have come."""
        return self.dropped + len(self.chunks)

    @property
    def provider(self) -> str:
        """Who answered, as the head says it."""
        return (header(self.headers, b"x-balancer-provider") or b"").decode()

    def outcome(self, taker: Taker) -> str:
        """Return how it ended for a follower, in the words of `RequestEnded.outcome`."""
        if not taker.done:
            return "abandoned"
        if self.end == "aborted" or (self.spoiled and self.provider):
            return "broken_stream"
        if self.spoiled or self.status >= 500 or self.status == 429:
            return "failed"
        return "ok" if self.status < 400 else "client_error"

    def changed(self) -> None:
        """Wake everybody who waits for more."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def more(self) -> None:
        """Wait until something has changed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def join(self) -> Taker:
        """Return a follower more."""
        taker = Taker()
        self.followers.add(taker)
        if self.leader is not None:
            self.changed()  # the relay need not wait for the leader's client any more
        return taker

    def following(self, at: int) -> tuple[bytes, int]:
        """Return what comes after the first `at` chunks, or some of it, and how many chunks that makes."""
        start = stop = at - self.dropped
        size = 0
        while stop < len(self.chunks) and size < TAKE_BYTES:
            size += len(self.chunks[stop])
            stop += 1
        data = self.chunks[start] if stop - start == 1 else b"".join(self.chunks[start:stop])
        return data, self.dropped + stop


class Registry:
    """The answers that can be joined now. `max_bytes` bounds what they hold all together."""

    def __init__(self, max_bytes: int, now: Callable[[], float]) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._now = now
        self._shared: dict[Key, Shared] = {}
        self._replays: list[tuple[float, int, Shared]] = []
        self._numbers = itertools.count()
        self._holding: set[Shared] = set()

    def __len__(self) -> int:
        return len(self._shared)

    def find(self, key: Key) -> Shared | None:
        """Return the answer to join, if there is one and it may have one more follower."""
        if self._replays:
            self._expire()
        shared = self._shared.get(key)
        if shared is None or self.held_bytes >= self.max_bytes:
            return None
        return shared

    def lead(self, key: Key) -> Shared:
        """Return a new answer that others may join."""
        shared = self._shared[key] = Shared(key)
        return shared

    def leave(self, shared: Shared, taker: Taker) -> None:
        """A follower is gone; who was the last one ends it."""
        shared.followers.discard(taker)
        if shared.followers:
            return
        if shared.leader_left and not shared.end:
            self.forget(shared)
            shared.cancel()
        elif not shared.joinable:
            self._trim(shared)

    def grow(self, shared: Shared, data: bytes) -> None:
        """Keep `data` for those who follow, or may still."""
        if not shared.joinable and not shared.followers and shared.leader is None:
            shared.dropped += 1
            return
        size = len(data) + CHUNK_COST_BYTES
        if not shared.chunks:
            self._holding.add(shared)
        shared.chunks.append(data)
        shared.size += size
        self.held_bytes += size
        if self.held_bytes > self.max_bytes:
            self._shed(shared)
        if shared.followers or shared.leader is not None:
            shared.changed()

    def done(self, shared: Shared, end: str, replay_s: float) -> None:
        """The answer is over; a good one may be given again for `replay_s` seconds."""
        shared.end = end
        shared.changed()
        if replay_s > 0 and end == "whole" and shared.status == 200 and shared.joinable:
            heapq.heappush(self._replays, (self._now() + replay_s, next(self._numbers), shared))
        else:
            self.forget(shared)

    def forget(self, shared: Shared) -> None:
        """Nobody can join any more; what nobody reads is let go."""
        self.close(shared)
        self._trim(shared)

    def close(self, shared: Shared) -> None:
        """Nobody can join any more."""
        shared.joinable = False
        if self._shared.get(shared.key) is shared:
            del self._shared[shared.key]

    def _trim(self, shared: Shared) -> None:
        """Let go of what everybody has taken."""
        if not shared.chunks:
            return
        takers = [*shared.followers, shared.leader] if shared.leader else shared.followers
        taken = min((taker.at for taker in takers), default=shared.count) - shared.dropped
        if taken <= 0:
            return
        size = sum(map(len, shared.chunks[:taken])) + CHUNK_COST_BYTES * taken
        del shared.chunks[:taken]
        shared.dropped += taken
        shared.size -= size
        self.held_bytes -= size
        if not shared.chunks:
            self._holding.discard(shared)

    def _shed(self, growing: Shared) -> None:
        """Too much is held: let go of what can be, and cut off who lags furthest where nothing else helps."""
        self.forget(growing)
        if self.held_bytes <= self.max_bytes or not self._holding:
            return
        largest = max(self._holding, key=lambda shared: shared.size)
        self.forget(largest)
        if self.held_bytes > self.max_bytes:
            takers = [*largest.followers, largest.leader] if largest.leader else largest.followers
            min(takers, key=lambda taker: taker.at).cut()

    def _expire(self) -> None:
        while self._replays and self._replays[0][0] <= self._now():
            self.forget(heapq.heappop(self._replays)[2])


class LeaderSink(msgspec.Struct, eq=False):
    """Gives the leader's client its answer, and keeps it for the others."""

    _client: Client
    _registry: Registry
    shared: Shared
    _replay_s: float
    _pump: asyncio.Task[None] | None = None

    @property
    def pumped(self) -> bool:
        """The leader's client is fed at its own pace."""
        return self._pump is not None

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
            shared.leader = Taker(shared.count)
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

    def spoil(self) -> None:
        self._replay_s = 0.0
        self.shared.spoiled = True

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
        shared, taker = self.shared, self.shared.leader
        return taker is not None and taker.at < shared.count and not shared.followers

    async def _feed(self, taker: Taker) -> None:
        """Feed the leader's client at its own pace."""
        shared = self.shared
        try:
            await _give(shared, taker, self._client)
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


async def _give(shared: Shared, taker: Taker, sink: Sink) -> None:
    """Give a client what comes, and the end as it was. Raises `TimeoutError` when it takes nothing for too long."""
    while True:
        while taker.at < shared.count:
            data, at = shared.following(taker.at)
            try:
                async with asyncio.timeout(STUCK_S) as taker.patience:
                    await sink.write(data, last=shared.end == "whole" and at == shared.count)
            finally:
                taker.patience = None
            taker.at = at
        if shared.end:
            break
        if taker is shared.leader and not shared.followers:
            shared.changed()  # the relay waits for it
        await shared.more()
    await (sink.finish() if shared.end == "whole" else sink.abort())
    taker.done = True


async def follow(shared: Shared, taker: Taker, registry: Registry, sink: Sink, own: Headers) -> None:
    """Give a follower's client the whole answer. `own` are its own headers, instead of the leader's.

    `taker` is what `join` returned; it is taken out of the followers, whatever happens.
    """
    try:
        await _follow(shared, taker, sink, own)
    except TimeoutError:
        await sink.abort()
    except asyncio.CancelledError:
        if not sink.gone:  # the balancer is being stopped, the leader's relay too: it says so to all
            with suppress(TimeoutError):
                async with asyncio.timeout(PARTING_S):
                    await _follow(shared, taker, sink, own)
        raise
    finally:
        registry.leave(shared, taker)


async def _follow(shared: Shared, taker: Taker, sink: Sink, own: Headers) -> None:
    while not shared.status and not shared.end:
        await shared.more()
    if shared.status and not taker.begun:
        taker.begun = True
        names = {name for name, _ in own}
        kept = tuple(pair for pair in shared.headers if pair[0] not in names)
        sink.start(shared.status, (*own, *kept, (NAME, b"follower")))
    await _give(shared, taker, sink)
