"""An upstream's answer, as the driver reads it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from balancer.model import Headers
from balancer.transport.decompress import Decompressor
from balancer.transport.errors import TransportError


class Source(Protocol):
    """Where an answer's bytes come from."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    @property
    def encoding(self) -> bytes | None:
        """The value of `content-encoding`."""
        ...

    async def read(self, within_s: float) -> bytes: ...


_ENCODED = frozenset({b"content-encoding", b"content-length"})


class Answer:
    """Head, and a body that is read piece by piece."""

    def __init__(self, source: Source) -> None:
        self.status = source.status
        self.headers = source.headers
        self.read: Callable[[float], Awaitable[bytes]] = source.read
        """`read(within_s)` returns what has arrived, `b""` only at the clean end.

        Raises `TransportError`: `idle_timeout` after `within_s` seconds without a byte, others
        when the body broke off.
        """
        encoding = source.encoding
        if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
            self.headers = tuple(pair for pair in source.headers if pair[0] not in _ENCODED)
            self.read = partial(_decompressed, source, Decompressor(encoding))

    async def read_whole(self, limit_bytes: int, within_s: float) -> bytes:
        """Return the whole body. Raises `TransportError`, `too_large` beyond `limit_bytes`."""
        parts: list[bytes] = []
        size = 0
        while data := await self.read(within_s):
            size += len(data)
            if size > limit_bytes:
                raise TransportError("too_large", f"a body of more than {limit_bytes} bytes", sent=True, headed=True)
            parts.append(data)
        return b"".join(parts)


async def _decompressed(source: Source, decompressor: Decompressor, within_s: float) -> bytes:
    while data := await source.read(within_s):
        if plain := decompressor.feed(data):
            return plain
    decompressor.end()
    return b""
