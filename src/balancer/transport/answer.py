"""An upstream's answer, as the driver reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from balancer.headers import Headers
from balancer.script import Cause
from balancer.transport.decompress import Decompressor
from balancer.transport.errors import TransportError


class UpstreamResponse:
    """Head, and a body that is read piece by piece. Belongs to one exchange: after it, it can't be read any more."""

    status: int = 0
    headers: Headers = ()
    names: tuple[bytes, ...] = ()
    """Of `headers`, where each has one of its own."""
    encoding: bytes | None = None
    """The value of `content-encoding`."""
    flows: bool = False
    """What comes can be handed on as it comes: `flow` may be called."""

    def read_nowait(self) -> bytes | None:
        """Return what `read` would, if that takes no waiting; None: it does, or it would raise."""
        return None

    async def read(self, within_s: float) -> bytes:
        """Return what has arrived, `b""` only at the clean end.

        Raises `TransportError`: `IDLE_TIMEOUT` after `within_s` seconds without a byte, others when the body broke off.
        """
        raise NotImplementedError

    async def flow(self, give: Callable[[bytes], bool], within_s: float) -> None:
        """Hand on what comes, as it comes, without a task in between.

        Returns when `give` returns False, by which it takes no more that way (what it was given it has all the same),
        or when there is something for `read_nowait`. Raises as `read` does, with `within_s` for each wait, and what
        `give` raises.
        """
        raise NotImplementedError

    async def read_whole(self, limit_bytes: int, within_s: float) -> bytes:
        """Return the whole body. Raises `TransportError`, `TOO_LARGE` beyond `limit_bytes`."""
        parts: list[bytes] = []
        size = 0
        while data := await self.read(within_s):
            size += len(data)
            if size > limit_bytes:
                raise TransportError(
                    Cause.TOO_LARGE, f"a body of more than {limit_bytes} bytes", sent=True, headed=True
                )
            parts.append(data)
        return b"".join(parts)


_ENCODED = frozenset({b"content-encoding", b"content-length"})


class Decompressed(UpstreamResponse):
    """An answer that was compressed, though nobody asked for that."""

    def __init__(self, answer: UpstreamResponse, encoding: bytes) -> None:
        self.status = answer.status
        self.headers = tuple(pair for pair in answer.headers if pair[0] not in _ENCODED)
        self._answer = answer
        self._decompressor = Decompressor(encoding)
        self._pieces: Iterator[bytes] = iter(())
        """What is left of the latest read."""

    async def read(self, within_s: float) -> bytes:
        now = asyncio.get_running_loop().time
        deadline = now() + within_s  # bytes that stand for nothing are no sign of life
        while True:
            if (piece := next(self._pieces, b"")) != b"":
                await asyncio.sleep(0)  # a few bytes may stand for many: others are to have their turns between them
                return piece
            if (left_s := deadline - now()) <= 0:
                raise TransportError(Cause.IDLE_TIMEOUT, sent=True, headed=True)
            data = await self._answer.read(left_s)
            if not data:
                self._decompressor.end()
                return b""
            self._pieces = self._decompressor.pieces(data)


def plain(answer: UpstreamResponse) -> UpstreamResponse:
    """Return the answer with its body as it was before it was compressed. Raises `TransportError`."""
    encoding = answer.encoding
    if encoding is None or encoding.strip().lower() in (b"", b"identity"):
        return answer
    return Decompressed(answer, encoding)
