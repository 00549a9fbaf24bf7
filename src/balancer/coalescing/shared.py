"""Request coalescing: one answer for several clients that sent the same request at the same time.

The first to ask is the leader: the relay answers its request. Whoever sends the same request meanwhile is a follower:
it reads the leader's answer from the beginning, at its own pace. No reader slows another: with followers there, or
while it is slow, the leader's own client is a reader too. The relay goes on while anybody reads, and is cancelled when
the last reader has left. Followers ask no provider, so they count in no limit of requests (`limits.max_in_flight`,
`max_in_flight` of a provider); what bounds them is the memory that their answer takes, and the connections themselves.

Most requests are never joined, and must not pay for it: their answer goes straight to the client, and is kept for a
follower that may still come. All that is kept counts against `max_bytes`. Beyond it nobody can join, what every reader
has read is dropped, and the reader that lags furthest is cut off.

The states of a `SharedResponse`:

    `end`      `joinable`   what it means                              next
    COMING     True         `find` returns it; all chunks are kept     COMING/False, WHOLE, ABORTED
    COMING     False        too large to keep whole, or given up       WHOLE, ABORTED
    WHOLE      True         may be given again until its replay ends   WHOLE/False
    WHOLE      False        its readers get the rest                   nothing
    ABORTED    False        its readers are cut off behind the rest    nothing

How the leader's client is served (`leader`), whatever the state of the answer:

    DIRECT     the relay writes to it itself; no chunk waits for it    PUMPED (it is slow, or followed), LEFT
    PUMPED     a task of `TeeWriter` writes to it, as to a follower    LEFT
    LEFT       it has closed its connection, or took nothing           nothing
"""

from __future__ import annotations

import asyncio
import enum
import heapq
import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from balancer.coalescing.key import Key
from balancer.headers import Headers
from balancer.model import Candidate
from balancer.relay.limits import DEFAULT

READ_BYTES = 64 * 1024
"""About how much a reader that lags is given at once: the rest is kept here, once for all readers."""

CHUNK_COST_BYTES = 64
"""What a chunk takes in memory besides its data."""


@dataclass(frozen=True, slots=True)
class SharingLimits:
    """How long readers are waited for, in seconds."""

    stuck_s: float = DEFAULT.stuck_s
    """A reader that takes nothing for this long is cut off."""
    parting_s: float = 1.0
    """How long a follower waits for the end of its answer when the balancer is being stopped."""
    count_replay_s: float = 5.0
    """How long a count of tokens may be given again, at least. Claude Code asks to count about 25 bodies in a burst,
    some of them the same."""


DEFAULT_LIMITS = SharingLimits()


class End(enum.Enum):
    """How an answer has ended."""

    COMING = "coming"
    """It has not."""
    WHOLE = "whole"
    ABORTED = "aborted"


class Leader(enum.Enum):
    """How the leader's client is served."""

    DIRECT = "direct"
    PUMPED = "pumped"
    LEFT = "left"


class Reads(enum.Enum):
    """How far a reader is."""

    NOTHING = "nothing"
    BODY = "body"
    """It has the head."""
    ALL = "all"
    """It has everything, and knows how the answer ended."""


# The members by themselves: asking an `Enum` class for a member costs ten times as much (Python 3.11).
COMING, WHOLE, ABORTED = End
DIRECT, PUMPED, LEFT = Leader


@dataclass(eq=False, slots=True)
class Reader:
    """A client that reads an answer at its own pace."""

    at: int = 0
    """How many chunks it has read."""
    reads: Reads = Reads.NOTHING
    patience: asyncio.Timeout | None = None
    """Runs while a write to it is waited for."""

    def cut(self) -> None:
        """Stop waiting for it: the write under way raises `TimeoutError`."""
        patience, self.patience = self.patience, None
        if patience is not None:
            with suppress(RuntimeError):  # it has run out by itself just now
                patience.reschedule(0.0)


class SharedResponse(msgspec.Struct, eq=False):
    """An answer as it comes, for all its readers. Its states stand at the head of this module."""

    key: Key
    status: int = 0
    headers: Headers = ()
    answered_by: Candidate | None = None
    """Whose content this is; None: no content has come, or the balancer answers by itself."""
    chunks: list[bytes] = []
    dropped: int = 0
    """How many chunks before these were dropped."""
    size: int = 0
    """What `chunks` take in memory, in bytes."""
    end: End = COMING
    unshareable: bool = False
    """It ends well, but it says that there is no good answer."""
    joinable: bool = True
    followed: bool = False
    """It has, or had, a follower."""
    followers: set[Reader] = set()
    leader: Leader = DIRECT
    leading: Reader | None = None
    """The leader's client while it is PUMPED and not at the end."""
    cancel: Callable[[], object] = bool
    """Cancels the relay."""
    _waiting: list[asyncio.Future[None]] = []

    @property
    def count(self) -> int:
        """How many chunks have come."""
        return self.dropped + len(self.chunks)

    def outcome(self, reader: Reader) -> str:
        """Return how it ended for a follower, in the words of `RequestEnded.outcome`."""
        if reader.reads is not Reads.ALL:
            return "abandoned"
        if self.end is ABORTED or (self.unshareable and self.answered_by is not None):
            return "broken_stream"
        if self.unshareable or self.status >= 500 or self.status == 429:
            return "failed"
        return "ok" if self.status < 400 else "client_error"

    def readers(self) -> list[Reader]:
        """Return all readers, the leader's client among them if it is one."""
        return [*self.followers, self.leading] if self.leading is not None else list(self.followers)

    def changed(self) -> None:
        """Wake everything that waits in `more`."""
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
        """Return a new follower."""
        reader = Reader()
        self.followers.add(reader)
        self.followed = True
        if self.leading is not None:
            self.changed()  # the relay need not wait for the leader's client any more
        return reader

    def following(self, at: int) -> tuple[bytes, int]:
        """Return what comes after the first `at` chunks, about `READ_BYTES`, and how many chunks are read then."""
        start = stop = at - self.dropped
        size = 0
        while stop < len(self.chunks) and size < READ_BYTES:
            size += len(self.chunks[stop])
            stop += 1
        data = self.chunks[start] if stop - start == 1 else b"".join(self.chunks[start:stop])
        return data, self.dropped + stop


class InFlight:
    """The answers that can be joined now.

    `max_bytes` bounds what they hold all together; it may be changed at any time. `now` is a monotonic clock.
    """

    def __init__(self, max_bytes: int, now: Callable[[], float], limits: SharingLimits = DEFAULT_LIMITS) -> None:
        self.max_bytes = max_bytes
        self.limits = limits
        self.held_bytes = 0
        self._now = now
        self._shared: dict[Key, SharedResponse] = {}
        self._replays: list[tuple[float, int, SharedResponse]] = []
        """A heap: when the replay of which answer ends. The number decides between equal times."""
        self._numbers = itertools.count()
        self._holding: set[SharedResponse] = set()

    def __len__(self) -> int:
        return len(self._shared)

    def find(self, key: Key) -> SharedResponse | None:
        """Return the answer to join, if there is one and it may have another follower."""
        if self._replays:
            self._expire()
        return self._shared.get(key) if self.held_bytes < self.max_bytes else None

    def lead(self, key: Key) -> SharedResponse:
        """Return a new answer that others may join."""
        shared = self._shared[key] = SharedResponse(key)
        return shared

    def leave(self, shared: SharedResponse, reader: Reader) -> None:
        """Take a follower out. The last reader that leaves ends the relay."""
        shared.followers.discard(reader)
        if shared.followers:
            return
        if shared.leader is LEFT and shared.end is COMING:
            self.forget(shared)
            shared.cancel()
        elif not shared.joinable:
            self._trim(shared)

    def grow(self, shared: SharedResponse, data: bytes) -> None:
        """Keep `data`, the next chunk, for the readers there are and for those that may still come."""
        if not shared.joinable and not shared.followers and shared.leading is None:
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
        if shared.followers or shared.leading is not None:
            shared.changed()

    def done(self, shared: SharedResponse, end: End, replay_s: float) -> None:
        """The answer has ended; a good one may be given again for `replay_s` seconds."""
        shared.end = end
        shared.changed()
        if replay_s > 0 and end is WHOLE and shared.status == 200 and shared.joinable:
            heapq.heappush(self._replays, (self._now() + replay_s, next(self._numbers), shared))
        else:
            self.forget(shared)

    def forget(self, shared: SharedResponse) -> None:
        """Let nobody join any more, and drop what no reader needs."""
        self.close(shared)
        self._trim(shared)

    def close(self, shared: SharedResponse) -> None:
        """Let nobody join any more."""
        shared.joinable = False
        if self._shared.get(shared.key) is shared:
            del self._shared[shared.key]

    def _trim(self, shared: SharedResponse) -> None:
        """Drop what all readers have read."""
        if not shared.chunks:
            return
        read = len(shared.chunks)
        if shared.followers or shared.leading is not None:
            read = min(reader.at for reader in shared.readers()) - shared.dropped
        if read <= 0:
            return
        size = sum(map(len, shared.chunks[:read])) + CHUNK_COST_BYTES * read
        del shared.chunks[:read]
        shared.dropped += read
        shared.size -= size
        self.held_bytes -= size
        if not shared.chunks:
            self._holding.discard(shared)

    def _shed(self, growing: SharedResponse) -> None:
        """Too much is held: drop what can be dropped, and cut off the slowest reader where nothing else helps."""
        self.forget(growing)
        if self.held_bytes <= self.max_bytes or not self._holding:
            return
        largest = max(self._holding, key=lambda shared: shared.size)
        self.forget(largest)
        if self.held_bytes > self.max_bytes:
            min(largest.readers(), key=lambda reader: reader.at).cut()

    def _expire(self) -> None:
        """Forget the answers whose replay has ended."""
        while self._replays and self._replays[0][0] <= self._now():
            self.forget(heapq.heappop(self._replays)[2])
