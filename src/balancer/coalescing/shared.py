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

TAKE_BYTES = 64 * 1024
"""About how much a client that lags is given at once: what it has not taken is kept here, once for all of them."""

CHUNK_COST_BYTES = 64
"""What a chunk takes besides its data."""


@dataclass(eq=False, slots=True)
class Reader:
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


class SharedResponse(msgspec.Struct, eq=False):
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
    unshareable: bool = False
    """It ends well, but what it says is that there is no good answer."""
    followed: bool = False
    """Another request has joined."""
    joinable: bool = True
    """All of it so far is still here."""
    followers: set[Reader] = set()
    leader: Reader | None = None
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

    def outcome(self, reader: Reader) -> str:
        """Return how it ended for a follower, in the words of `RequestEnded.outcome`."""
        if not reader.done:
            return "abandoned"
        if self.end == "aborted" or (self.unshareable and self.provider):
            return "broken_stream"
        if self.unshareable or self.status >= 500 or self.status == 429:
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

    def join(self) -> Reader:
        """Return a follower more."""
        reader = Reader()
        self.followers.add(reader)
        self.followed = True
        if self.leader is not None:
            self.changed()  # the relay need not wait for the leader's client any more
        return reader

    def following(self, at: int) -> tuple[bytes, int]:
        """Return what comes after the first `at` chunks, or some of it, and how many chunks that makes."""
        start = stop = at - self.dropped
        size = 0
        while stop < len(self.chunks) and size < TAKE_BYTES:
            size += len(self.chunks[stop])
            stop += 1
        data = self.chunks[start] if stop - start == 1 else b"".join(self.chunks[start:stop])
        return data, self.dropped + stop


class InFlight:
    """The answers that can be joined now. `max_bytes` bounds what they hold all together."""

    def __init__(self, max_bytes: int, now: Callable[[], float]) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._now = now
        self._shared: dict[Key, SharedResponse] = {}
        self._replays: list[tuple[float, int, SharedResponse]] = []
        self._numbers = itertools.count()
        self._holding: set[SharedResponse] = set()

    def __len__(self) -> int:
        return len(self._shared)

    def find(self, key: Key) -> SharedResponse | None:
        """Return the answer to join, if there is one and it may have one more follower."""
        if self._replays:
            self._expire()
        shared = self._shared.get(key)
        if shared is None or self.held_bytes >= self.max_bytes:
            return None
        return shared

    def lead(self, key: Key) -> SharedResponse:
        """Return a new answer that others may join."""
        shared = self._shared[key] = SharedResponse(key)
        return shared

    def leave(self, shared: SharedResponse, reader: Reader) -> None:
        """A follower is gone; who was the last one ends it."""
        shared.followers.discard(reader)
        if shared.followers:
            return
        if shared.leader_left and not shared.end:
            self.forget(shared)
            shared.cancel()
        elif not shared.joinable:
            self._trim(shared)

    def grow(self, shared: SharedResponse, data: bytes) -> None:
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

    def done(self, shared: SharedResponse, end: str, replay_s: float) -> None:
        """The answer is over; a good one may be given again for `replay_s` seconds."""
        shared.end = end
        shared.changed()
        if replay_s > 0 and end == "whole" and shared.status == 200 and shared.joinable:
            heapq.heappush(self._replays, (self._now() + replay_s, next(self._numbers), shared))
        else:
            self.forget(shared)

    def forget(self, shared: SharedResponse) -> None:
        """Nobody can join any more; what nobody reads is let go."""
        self.close(shared)
        self._trim(shared)

    def close(self, shared: SharedResponse) -> None:
        """Nobody can join any more."""
        shared.joinable = False
        if self._shared.get(shared.key) is shared:
            del self._shared[shared.key]

    def _trim(self, shared: SharedResponse) -> None:
        """Let go of what everybody has taken."""
        if not shared.chunks:
            return
        readers = [*shared.followers, shared.leader] if shared.leader else shared.followers
        taken = min((reader.at for reader in readers), default=shared.count) - shared.dropped
        if taken <= 0:
            return
        size = sum(map(len, shared.chunks[:taken])) + CHUNK_COST_BYTES * taken
        del shared.chunks[:taken]
        shared.dropped += taken
        shared.size -= size
        self.held_bytes -= size
        if not shared.chunks:
            self._holding.discard(shared)

    def _shed(self, growing: SharedResponse) -> None:
        """Too much is held: let go of what can be, and cut off who lags furthest where nothing else helps."""
        self.forget(growing)
        if self.held_bytes <= self.max_bytes or not self._holding:
            return
        largest = max(self._holding, key=lambda shared: shared.size)
        self.forget(largest)
        if self.held_bytes > self.max_bytes:
            readers = [*largest.followers, largest.leader] if largest.leader else largest.followers
            min(readers, key=lambda reader: reader.at).cut()

    def _expire(self) -> None:
        while self._replays and self._replays[0][0] <= self._now():
            self.forget(heapq.heappop(self._replays)[2])
