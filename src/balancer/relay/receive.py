"""What stands between a provider's answer and the relay: how it is read where that is not just reading."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from balancer.dialect import Decoder
from balancer.model import Piece
from balancer.relay.response import ClientResponse
from balancer.transport import TransportError, UpstreamResponse

AFTER_END_S = 1.0
"""How long a provider may take to end its body after the end of its answer."""

ENDING_S = 2.0
"""How long a provider may take to end an answer that is there but for its end."""


class Stream(msgspec.Struct, eq=False):
    """Gives the client what comes, as it comes: for as long as it is nothing but content, and takes no waiting."""

    _decoder: Decoder
    _delivery: ClientResponse
    _left: list[Piece] = []
    """What came last, where that is more than content, or has to wait."""

    async def follow(self, answer: UpstreamResponse, within_s: float) -> list[Piece]:
        """Return what has to be looked at. Raises what `UpstreamResponse.flow` raises."""
        self._left = []
        await answer.flow(self._take, within_s)
        return self._left

    def _take(self, data: bytes) -> bool:
        pieces = self._decoder.feed(data)
        if not self._decoder.complete:
            if not pieces:
                return True
            piece = pieces[0]
            if len(pieces) == 1 and piece.error is None and piece.usage is None and self._delivery.put(piece.data):
                return True
        self._left = pieces
        return False


class EndingResponse(UpstreamResponse):
    """Reads an answer whose decoder knows when there is nothing left to come but its end (`ending`).

    Some servers neither say how much was used nor end the body: what is there is the answer.
    """

    def __init__(self, answer: UpstreamResponse, decoder: Decoder, now: Callable[[], float]) -> None:
        self._answer = answer
        self._decoder = decoder
        self._now = now
        self._until: float | None = None

    async def read(self, within_s: float) -> bytes:
        if not self._decoder.ending:
            return await self._answer.read(within_s)
        if self._until is None:
            self._until = self._now() + ENDING_S
        left_s = min(within_s, self._until - self._now())
        try:
            return await self._answer.read(left_s) if left_s > 0 else b""
        except TransportError:
            return b""


async def drain(answer: UpstreamResponse, decoder: Decoder, data: bytes | None) -> bool:
    """Read what follows the end of an answer, so that the connection can be used again.

    The decoder looks at it, for what it notes: the client has its answer. Returns whether there was any.
    `data` is the first of it, if that is there already.
    """
    more = False
    try:
        while data := data or await answer.read(AFTER_END_S):
            more = True
            decoder.feed(data)
            data = None
    except TransportError:
        pass
    return more
