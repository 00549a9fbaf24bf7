"""What can be shared with other workers: the one interface behind which all means of sharing stand.

Reading and writing never wait: a decision is taken from memory of this machine. What travels (`command`) is awaited by
those who order something, never by a request. Everything that is shared is a plain value with a version; who meets
another version ignores it. Times are of this machine's monotonic clock, in nanoseconds; between machines only spans
travel. Nothing secret, no prompt and no model answer is shared, and conversations only as keyed hashes.

Implementations: `in_process.Group` (tests, several workers in one process) and `worker.WorkerSharing` (the processes of
one machine: a table in shared memory, and a hub in the supervisor).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

VERSION = 1
"""Of everything that is shared. Workers of another version are not understood, and not listened to."""


class Fact(msgspec.Struct, frozen=True, gc=False):
    """Something that one worker has learnt and all should know. The latest about a name stands for it."""

    name: str
    """What it is about. At most `layout.NAME_MAX_BYTES` bytes: a longer one is not shared."""
    body: bytes
    """At most `layout.BODY_MAX_BYTES` bytes: a longer one is not shared."""
    at_ns: int
    """When it was told."""
    worker: int
    """Who told it."""


class Use(msgspec.Struct, frozen=True, gc=False):
    """How much a worker has used of something that is limited by time, as a named key."""

    name: int
    """A hash of its name (`Sharing.hash_of`)."""
    requests: int
    tokens: int
    at_ns: int


News: TypeAlias = Fact | Use


class Place(Protocol):
    """The places of one thing that is limited: the balancer, a provider, a named key."""

    def held(self) -> int:
        """Return how many are held by all workers."""
        ...

    def take(self, limit: int) -> bool:
        """Take a place if fewer than `limit` are held by all workers; say whether there was one."""
        ...

    def take_over(self) -> None:
        """Take a place, however many are held."""
        ...

    def give_back(self) -> None:
        """Give back a place that was taken."""
        ...


Pinned: TypeAlias = tuple[int, int, float]
"""To whom a conversation is pinned: a hash of the provider's name (`Sharing.hash_of`), when it answered (ns), and for
how long at least the pin lives (s)."""


class Answers(msgspec.Struct, frozen=True):
    """What other workers answered to a command."""

    by_worker: Mapping[int, bytes] = {}
    silent: tuple[int, ...] = ()
    """The numbers of the workers that are there and did not answer in time, as people know them: from 1."""


class Collected(msgspec.Struct, frozen=True):
    """What is counted by the other workers."""

    reports: Mapping[int, bytes] = {}
    """The latest report of each other worker that lives."""
    ended: Mapping[str, list[float]] = {}
    """The counters of all workers that have ended, added up."""
    silent: tuple[int, ...] = ()
    """The numbers of those whose reports are old, since they did not answer in time."""


class Report(msgspec.Struct, frozen=True):
    """What one worker tells of itself: to the hub every second, and whenever it is asked."""

    counters: dict[str, list[float]]
    """Numbers that only grow. They outlive their worker: those of the dead are added up, name by name."""
    view: bytes = b""
    """What is true at the moment, in the words of whoever asks for it."""


Handler: TypeAlias = Callable[[bytes], Awaitable[bytes]]
"""Carries a command of another worker out, and returns what to answer."""


class Sharing(Protocol):
    """What is shared with the other workers, as one worker sees it."""

    worker: int
    """Which of those that share this one is, from 0: nobody else that lives is the same."""
    workers: int
    """How many there are to be. While they are replaced there are more."""

    # Facts

    def changed(self) -> bool:
        """Say whether others have told something since `news` was last asked. Cheap: every decision asks."""
        ...

    def news(self) -> Sequence[News]:
        """Return what others have told since this was last asked, in their order."""
        ...

    def history(self) -> Sequence[News]:
        """Return all that is known, also of what an earlier process of this number told: for a worker that begins."""
        ...

    def tell(self, name: str, body: bytes) -> None:
        """Tell a fact to all others. It stays known when this worker ends."""
        ...

    def use(self, name: int, requests: int, tokens: int) -> None:
        """Tell all others what was used of something."""
        ...

    def hash_of(self, name: str) -> int:
        """Return a keyed hash of a name, the same for all workers."""
        ...

    # Places, turns, leases, pins

    def place(self, name: str) -> Place:
        """Return the places of this name. Those that a worker holds are given back when it ends."""
        ...

    def freed(self) -> bool:
        """Say whether another worker has given a place back since this was last asked."""
        ...

    def turn(self, name: str) -> int:
        """Return the next number of a sequence; now and then two workers get the same."""
        ...

    def lease(self, name: str, within_s: float) -> bool:
        """Take what only one worker may have at a time; say whether it is this one. It ends with the worker, too."""
        ...

    def release(self, name: str) -> None:
        """Give a lease back; another's is not touched."""
        ...

    def leased(self, name: str) -> bool:
        """Say whether another worker has the lease."""
        ...

    def pin(self, conversation: str, provider: int, cached_s: float) -> None:
        """Note who has answered a conversation, just now."""
        ...

    def pinned(self, conversation: str) -> Pinned | None:
        """Return who answered a conversation last, at whichever worker; None: that is not known."""
        ...

    # Requests

    def began(self, request_id: str, data: bytes) -> None:
        """Note that this worker has begun a request: if it is killed, another process is told `data`."""
        ...

    def ended(self, request_id: str) -> None:
        """Note that a request has ended."""
        ...

    # Commands

    def subscribe(self, kind: str, handler: Handler) -> None:
        """Carry out the commands of this kind that other workers send, one after the other."""
        ...

    async def command(self, kind: str, body: bytes, within_s: float, *, standing: str = "") -> Answers:
        """Have all other workers carry a command out, and return what they answered.

        `standing` names what it decides: workers that begin later carry out the latest command of each such name.
        """
        ...

    async def collect(self, within_s: float) -> Collected:
        """Return what the other workers count, as of now."""
        ...

    def report_with(self, reporter: Callable[[], Report]) -> None:
        """Have this called for what this worker tells of itself."""
        ...

    # The sharing itself

    @property
    def trouble(self) -> str:
        """What is wrong with the sharing itself, in plain words; empty: it is well.

        While something is, decisions are taken by what this worker knows by itself.
        """
        ...

    async def start(self) -> None:
        """Begin to listen to commands."""
        ...

    async def close(self) -> None:
        """Tell the last report, and leave."""
        ...
