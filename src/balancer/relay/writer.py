"""Where an answer is written: the client itself, or what stands between the relay and the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from balancer.headers import Headers
from balancer.model import Candidate


class ResponseWriter(Protocol):
    """Writes one answer. Its coroutines wait while the client is slow: that is the flow control."""

    @property
    def dedup(self) -> str:
        """`leader` where other requests got this answer too; else empty. Known when the answer is over."""
        ...

    @property
    def gone(self) -> bool:
        """The client has left, and so have all others that could take the answer."""
        ...

    def start(self, status: int, headers: Headers) -> None:
        """Set the head, once. It is sent with the first of the body."""
        ...

    def put(self, data: bytes, *, last: bool = False) -> bool:
        """Write some of the body if that takes no waiting. False: nothing was written, and `write` has to be used.

        Most of every stream is written this way: three coroutines for each event would cost more than all else.
        """
        ...

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Write some of the body; `last`: the body ends with it."""
        ...

    async def finish(self) -> None:
        """End the body, unless it has ended already."""
        ...

    def committed(self, candidate: Candidate) -> None:
        """Content has begun: from here on the answer is `candidate`'s. Called once at most."""
        ...

    def mark_unshareable(self) -> None:
        """What was written is no good answer, though it may end well: no later request may get it."""
        ...

    async def abort(self) -> None:
        """Cut the connection, so that the client can't take what it has for the whole answer."""
        ...


class ClientWriter(ResponseWriter, Protocol):
    """Writes to a client's connection."""

    @property
    def finished(self) -> bool:
        """It has the whole answer, or was cut off."""
        ...

    @property
    def busy(self) -> bool:
        """The client is slow: the next write waits."""
        ...

    def on_left(self, callback: Callable[[], None] | None, /) -> None:
        """Call `callback` when the client leaves before it has the whole answer. None: call nothing any more."""
        ...
