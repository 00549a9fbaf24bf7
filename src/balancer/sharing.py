"""One answer for several clients that asked the same at the same time.

The first to ask is the leader: the relay answers it, and whoever asks the same meanwhile follows
the leader's answer, from its beginning, at its own pace. Nobody slows anybody: with followers
there, the leader's own client is fed from a queue as well. The relay goes on while anybody is
there to take the answer, and is cancelled when the last one has left.

Most requests have no twin, and must not pay for that: theirs goes straight to the client, and only
the first `KEPT_BYTES` of it are kept for a twin that may still come. After that nobody can join.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from balancer.dedup import Key
from balancer.delivery import STUCK_S
from balancer.model import Headers
from balancer.sink import Sink

KEPT_BYTES = 32 * 1024
"""How much of an answer without followers is kept for a twin that may still come."""

NAME = b"x-balancer-dedup"
_LEADER = (NAME, b"leader")


@dataclass(eq=False, slots=True)
class Shared:
    """An answer as it comes, for all who take it."""

    status: int = 0
    headers: Headers = ()
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    end: str = ""
    """Empty while it comes; then `whole` or `aborted`."""
    joinable: bool = True
    """All of it so far is still here."""
    followers: int = 0
    leader_left: bool = False
    cancel: Callable[[], object] = lambda: None
    """Stops the relay: there is nobody left."""
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)

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

    def left(self) -> None:
        """A follower is gone."""
        self.followers -= 1
        if not self.followers and self.leader_left and not self.end:
            self.cancel()


class Registry:
    """The answers that can be joined now. `max_bytes` bounds what they hold all together."""

    def __init__(self, max_bytes: int, now: Callable[[], float]) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._now = now
        self._shared: dict[Key, Shared] = {}
        self._replays: deque[tuple[float, Key, Shared]] = deque()

    def __len__(self) -> int:
        return len(self._shared)

    def find(self, key: Key) -> Shared | None:
        """Return the answer to join, if there is one and it may have one more follower."""
        self._expire()
        shared = self._shared.get(key)
        if shared is None or not shared.joinable or self.held_bytes > self.max_bytes:
            return None
        return shared

    def lead(self, key: Key) -> Shared:
        """Return a new answer that others may join."""
        shared = self._shared[key] = Shared()
        return shared

    def grow(self, key: Key, shared: Shared, data: bytes) -> None:
        """Keep `data` for those who follow, or may still."""
        if not shared.joinable and not shared.followers:
            return
        shared.chunks.append(data)
        shared.size += len(data)
        self.held_bytes += len(data)
        alone = not shared.followers and shared.size > KEPT_BYTES
        if alone or (shared.joinable and self.held_bytes > self.max_bytes):
            self.forget(key, shared)
        shared.changed()

    def done(self, key: Key, shared: Shared, end: str, replay_s: float) -> None:
        """The answer is over; a good one may be given again for `replay_s` seconds."""
        shared.end = end
        shared.changed()
        if replay_s > 0 and end == "whole" and shared.status == 200 and shared.joinable:
            self._replays.append((self._now() + replay_s, key, shared))
        else:
            self.forget(key, shared)

    def forget(self, key: Key, shared: Shared) -> None:
        """Nobody can join any more; what nobody reads is let go."""
        shared.joinable = False
        if self._shared.get(key) is shared:
            del self._shared[key]
        if not shared.followers:
            self.release(shared)

    def release(self, shared: Shared) -> None:
        """Let go of what an answer holds."""
        self.held_bytes -= shared.size
        shared.size = 0
        shared.chunks = []

    def _expire(self) -> None:
        while self._replays and self._replays[0][0] <= self._now():
            _, key, shared = self._replays.popleft()
            self.forget(key, shared)


class LeaderSink:
    """Gives the leader's client its answer, and keeps it for the others."""

    def __init__(self, client: Sink, registry: Registry, key: Key, shared: Shared, replay_s: float) -> None:
        self._client = client
        self._registry = registry
        self._key = key
        self._shared = shared
        self._replay_s = replay_s
        self._queue: deque[bytes] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._over = False

    @property
    def gone(self) -> bool:
        """Nobody takes the answer any more."""
        return self._shared.leader_left and not self._shared.followers

    def left(self) -> bool:
        """The leader's client has left. Say whether to end it: not while others follow."""
        shared = self._shared
        shared.leader_left = True
        if not shared.followers:
            self._registry.forget(self._key, shared)
        shared.changed()
        return not shared.followers

    def start(self, status: int, headers: Headers) -> None:
        shared = self._shared
        shared.status, shared.headers = status, headers
        shared.changed()
        if not shared.leader_left:
            self._client.start(status, (*headers, _LEADER))

    async def write(self, data: bytes, *, last: bool = False) -> None:
        shared = self._shared
        if last and not shared.followers and not self._replay_s:
            shared.end = "whole"
            self._registry.forget(self._key, shared)  # nobody came, and nobody can any more
        else:
            if data:
                self._registry.grow(self._key, shared, data)
            if last:
                self._registry.done(self._key, shared, "whole", self._replay_s)
        if shared.leader_left:
            return
        if self._pump is None and not shared.followers:
            await self._client.write(data, last=last)
            return
        self._queue.append(data)
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._feed())
        if last:
            await self._drained()
            if not shared.leader_left:
                await self._client.finish()

    async def finish(self) -> None:
        if not self._shared.end:
            await self.write(b"", last=True)

    def spoil(self) -> None:
        self._replay_s = 0.0

    async def abort(self) -> None:
        self._registry.done(self._key, self._shared, "aborted", 0.0)
        await self._drained()
        if not self._shared.leader_left:
            await self._client.abort()

    def close(self) -> None:
        """The relay has ended, however: followers must not wait for more."""
        if not self._shared.end:
            self._registry.done(self._key, self._shared, "aborted", 0.0)
        if self._pump is not None:
            self._pump.cancel()

    async def _drained(self) -> None:
        self._over = True
        if self._pump is not None and not self._shared.leader_left:
            await self._pump

    async def _feed(self) -> None:
        """Feed the leader's client at its own pace."""
        while not self._shared.leader_left:
            while self._queue and not self._shared.leader_left:
                async with asyncio.timeout(STUCK_S):
                    await self._client.write(self._queue.popleft())
            if self._over:
                return
            await self._shared.more()


async def follow(shared: Shared, registry: Registry, sink: Sink, own: Headers) -> None:
    """Give a follower's client the whole answer. `own` are its own headers, instead of the leader's.

    The caller has counted the follower in; this counts it out, whatever happens.
    """
    try:
        while not shared.status and not shared.end:
            await shared.more()
        if not shared.status:
            await sink.abort()
            return
        names = {name for name, _ in own}
        kept = tuple(pair for pair in shared.headers if pair[0] not in names)
        sink.start(shared.status, (*own, *kept, (NAME, b"follower")))
        taken = 0
        while True:
            while taken < len(shared.chunks):
                data = b"".join(shared.chunks[taken:])
                taken = len(shared.chunks)
                async with asyncio.timeout(STUCK_S):
                    await sink.write(data)
            if shared.end:
                break
            await shared.more()
        await (sink.finish() if shared.end == "whole" else sink.abort())
    except TimeoutError:
        await sink.abort()
    finally:
        shared.left()
        if not shared.followers and not shared.joinable:
            registry.release(shared)
