"""Bodies that come compressed: of upstreams that compress although they were asked not to, and of clients' requests.

A few hundred bytes may stand for gigabytes. So no call returns more than `PIECE_BYTES`, whatever it was given: what
more there is comes with the next ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

import brotli

from balancer.script import Cause
from balancer.transport.errors import TransportError

PIECE_BYTES = 64 * 1024
"""The most that one step of decompression returns: as much as a read brings. (Brotli may double it.)"""

RATIO_MAX = 200
BOMB_BYTES = 64 * 1024 * 1024
"""A body that grew beyond this by more than `RATIO_MAX` times was made to."""

ENCODINGS = (b"gzip", b"deflate", b"br")
"""What can be undone, as it is named to clients. (`x-gzip` is gzip's old name.)"""


_INPUT_BYTES = 64 * 1024
"""So much is given to an engine at once: what it does not take yet is copied with every step."""


class Damaged(Exception):
    """The bytes are not what their encoding says."""


class _Engine(Protocol):
    def feed(self, data: bytes) -> bytes:
        """Return some of what `data` stands for. While `pending`, `data` has to be empty. Raises `Damaged`."""
        ...

    def pending(self) -> bool:
        """Say whether there may be more of what was fed."""
        ...

    def whole(self) -> bool:
        """Say whether the end has come."""
        ...

    def more(self) -> bool:
        """Say whether something stands behind the end."""
        ...


class _Zlib:
    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._engine = zlib.decompressobj(bits)
        self._full = self._more = False

    def feed(self, data: bytes) -> bytes:
        if self._engine.eof:
            self._more = self._more or bool(data)
            return b""
        try:
            plain = self._unpacked(data or self._engine.unconsumed_tail)
        except zlib.error:
            raise Damaged from None
        self._full = len(plain) == PIECE_BYTES
        self._more = bool(self._engine.unused_data)
        return plain

    def _unpacked(self, data: bytes) -> bytes:
        try:
            return self._engine.decompress(data, PIECE_BYTES)
        except zlib.error:
            if self._bits != zlib.MAX_WBITS:
                raise
            self._bits = -zlib.MAX_WBITS  # some say deflate and mean it raw
            self._engine = zlib.decompressobj(self._bits)
            return self._engine.decompress(data, PIECE_BYTES)

    def pending(self) -> bool:
        return (self._full or bool(self._engine.unconsumed_tail)) and not self._engine.eof

    def whole(self) -> bool:
        return self._engine.eof

    def more(self) -> bool:
        return self._more


class _Brotli:
    def __init__(self) -> None:
        self._engine = brotli.Decompressor()
        self._full = False

    def feed(self, data: bytes) -> bytes:
        try:
            plain = bytes(self._engine.process(data, output_buffer_limit=PIECE_BYTES))
        except brotli.error:
            raise Damaged from None
        self._full = len(plain) >= PIECE_BYTES
        return plain

    def pending(self) -> bool:
        if self._engine.is_finished():
            return False
        return self._full or not self._engine.can_accept_more_data()  # which does not count what it has yet to give

    def whole(self) -> bool:
        return bool(self._engine.is_finished())

    def more(self) -> bool:
        return False  # then it raises


class Inflater:
    """Undoes one content-encoding, piece by piece. Each piece has about `PIECE_BYTES` at most."""

    def __init__(self, encoding: bytes) -> None:
        """Raise `KeyError` for an encoding that can't be undone."""
        self._engine: _Engine
        match encoding.strip().lower():
            case b"gzip" | b"x-gzip":
                self._engine = _Zlib(16 + zlib.MAX_WBITS)
            case b"deflate":
                self._engine = _Zlib(zlib.MAX_WBITS)
            case b"br":
                self._engine = _Brotli()
            case other:
                raise KeyError(other)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` stands for. To be read to its end before more is given. Raises `Damaged`."""
        engine = self._engine
        for at in range(0, len(data), _INPUT_BYTES):
            plain = engine.feed(data[at : at + _INPUT_BYTES])
            while plain:
                yield plain
                plain = engine.feed(b"") if engine.pending() else b""

    def whole(self) -> bool:
        """Say whether all has come of what the encoding stands for."""
        return self._engine.whole()

    def more(self) -> bool:
        """Say whether something stands behind its end."""
        return self._engine.more()


def _broken(cause: Cause, detail: str) -> TransportError:
    return TransportError(cause, detail, sent=True, headed=True)


class Decompressor:
    """Undoes the content-encoding of an upstream's answer, within bounds."""

    def __init__(self, encoding: bytes) -> None:
        """Raise `TransportError` for an encoding that can't be undone."""
        self._taken = 0
        self._given = 0
        try:
            self._inflater = Inflater(encoding)
        except KeyError:
            raise _broken(Cause.ENCODING, "a content-encoding that nobody asked for") from None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` stands for, as `Inflater.pieces` does. Raises `TransportError`."""
        self._taken += len(data)
        try:
            for piece in self._inflater.pieces(data):
                self._given += len(piece)
                if self._given > BOMB_BYTES and self._given > RATIO_MAX * self._taken:
                    raise _broken(Cause.TOO_LARGE, "a body that explodes when decompressed")
                yield piece
        except Damaged:
            raise _broken(Cause.ENCODING, "the body is not what its encoding says") from None

    def end(self) -> None:
        """The body is over: raise `TransportError` if what it stands for is not."""
        if self._taken and not self._inflater.whole():
            raise _broken(Cause.CLOSED, "a compressed body was cut short")
