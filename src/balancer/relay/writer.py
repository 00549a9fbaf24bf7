"""Where an answer goes: the client itself, or whatever stands between it and the relay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from balancer.headers import Headers
from balancer.model import Candidate


class ResponseWriter(Protocol):
    """Takes one answer. What is awaited waits as long as the taker is slow: that is the flow control."""

    @property
    def dedup(self) -> str:
        """`leader` where other requests got this answer too; else empty. Known when the answer is over."""
        ...

    @property
    def gone(self) -> bool:
        """Nobody is there to take it any more."""
        ...

    def start(self, status: int, headers: Headers) -> None:
        """Give the head, once. It goes out with the first of the body."""
        ...

    def put(self, data: bytes, *, last: bool = False) -> bool:
        """Give some of the body if that takes no waiting. False: it was not taken, so `write` it.

        Nearly everything goes this way: three coroutines for every event of a stream would cost more than the rest.
        """
        ...

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Give some of the body; `last`: with this it is whole."""
        ...

    async def finish(self) -> None:
        """The body is whole, if it was not already."""
        ...

    def committed(self, candidate: Candidate) -> None:
        """Content has begun: from here on the answer is `candidate`'s. Called once at most."""
        ...

    def mark_unshareable(self) -> None:
        """What was given is no good answer, though it may end well: nobody who asks later may get it."""
        ...

    async def abort(self) -> None:
        """Break off, so that nobody can take what came for the whole."""
        ...


class ClientWriter(ResponseWriter, Protocol):
    """A client that waits for its answer."""

    @property
    def finished(self) -> bool:
        """It has the whole answer, or was cut off."""
        ...

    @property
    def busy(self) -> bool:
        """It has not taken yet what it was given: the next write waits."""
        ...

    def on_left(self, tell: Callable[[], None] | None) -> None:
        """Call `tell` when the client leaves before it has its answer; None: nobody wants to know any more."""
        ...
