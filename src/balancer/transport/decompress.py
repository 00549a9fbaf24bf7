"""Bodies of upstreams that compress although they were asked not to."""

from __future__ import annotations

import zlib
from typing import Protocol

import brotli

from balancer.script import Cause
from balancer.transport.errors import TransportError

RATIO_MAX = 200
BOMB_BYTES = 64 * 1024 * 1024
"""A body that grew beyond this by more than `RATIO_MAX` times was made to."""


class _Engine(Protocol):
    def feed(self, data: bytes) -> bytes: ...

    def whole(self) -> bool: ...


class _Zlib:
    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._engine = zlib.decompressobj(bits)

    def feed(self, data: bytes) -> bytes:
        try:
            return self._engine.decompress(data)
        except zlib.error:
            if self._bits != zlib.MAX_WBITS:
                raise
            self._bits = -zlib.MAX_WBITS  # some say deflate and mean it raw
            self._engine = zlib.decompressobj(self._bits)
            return self._engine.decompress(data)

    def whole(self) -> bool:
        return self._engine.eof


class _Brotli:
    def __init__(self) -> None:
        self._engine = brotli.Decompressor()

    def feed(self, data: bytes) -> bytes:
        return bytes(self._engine.process(data))

    def whole(self) -> bool:
        return bool(self._engine.is_finished())


def _broken(cause: Cause, detail: str) -> TransportError:
    return TransportError(cause, detail, sent=True, headed=True)


class Decompressor:
    """Undoes one content-encoding, piece by piece, within bounds."""

    def __init__(self, encoding: bytes) -> None:
        """Raise `TransportError` for an encoding that can't be undone."""
        self._taken = 0
        self._given = 0
        self._engine: _Engine
        match encoding.strip().lower():
            case b"gzip" | b"x-gzip":
                self._engine = _Zlib(16 + zlib.MAX_WBITS)
            case b"deflate":
                self._engine = _Zlib(zlib.MAX_WBITS)
            case b"br":
                self._engine = _Brotli()
            case _:
                raise _broken(Cause.ENCODING, "a content-encoding that nobody asked for")

    def feed(self, data: bytes) -> bytes:
        """Return what `data` stands for. Raises `TransportError`."""
        try:
            plain = self._engine.feed(data)
        except (zlib.error, brotli.error):
            raise TransportError(
                Cause.ENCODING, "the body is not what its encoding says", sent=True, headed=True
            ) from None
        self._taken += len(data)
        self._given += len(plain)
        if self._given > BOMB_BYTES and self._given > RATIO_MAX * self._taken:
            raise _broken(Cause.TOO_LARGE, "a body that explodes when decompressed")
        return plain

    def end(self) -> None:
        """The body is over: raise `TransportError` if what it stands for is not."""
        if self._taken and not self._engine.whole():
            raise _broken(Cause.CLOSED, "a compressed body was cut short")
