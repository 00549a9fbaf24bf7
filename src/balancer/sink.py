"""Where an answer goes: the client itself, or whatever stands between it and the relay."""

from __future__ import annotations

from typing import Protocol

from balancer.model import Headers


class Sink(Protocol):
    """Takes one answer. Every method waits as long as the taker is slow: that is the flow control."""

    async def start(self, status: int, headers: Headers) -> None:
        """Give the head. Once."""
        ...

    async def write(self, data: bytes) -> None:
        """Give some of the body."""
        ...

    async def finish(self) -> None:
        """The body is whole."""
        ...

    async def abort(self) -> None:
        """Break off, so that nobody can take what came for the whole."""
        ...
