"""Compressed bodies: every encoding that is undone, wherever it is cut, and what is refused."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.script import Cause
from balancer.transport import TransportError
from balancer.transport.decompress import BOMB_BYTES, RATIO_MAX, Decompressor


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = {
    b"gzip": gzip.compress,
    b"x-gzip": gzip.compress,
    b" GZIP ": gzip.compress,
    b"deflate": zlib.compress,
    b"br": brotli.compress,
}


@pytest.mark.parametrize("encoding", [*PACKED, b"raw"])
@given(data=st.binary(min_size=1, max_size=2000), step=st.integers(1, 500))
def test_what_was_packed_comes_out_wherever_it_is_cut(encoding: bytes, data: bytes, step: int) -> None:
    packed = raw_deflate(data) if encoding == b"raw" else PACKED[encoding](data)
    if encoding == b"raw":  # what is told by the first bytes has to be there: servers send them together
        step = max(step, 20)
    unpacker = Decompressor(b"deflate" if encoding == b"raw" else encoding)

    assert b"".join(unpacker.feed(packed[at : at + step]) for at in range(0, len(packed), step)) == data
    unpacker.end()


@pytest.mark.parametrize("encoding", PACKED)
def test_what_is_cut_short_is_not_whole(encoding: bytes) -> None:
    unpacker = Decompressor(encoding)
    unpacker.feed(PACKED[encoding](b"hello" * 99)[:-1])

    with pytest.raises(TransportError) as caught:
        unpacker.end()
    assert (caught.value.cause, caught.value.sent, caught.value.headed) == (Cause.CLOSED, True, True)


@pytest.mark.parametrize("encoding", PACKED)
def test_a_body_that_is_empty_is_whole(encoding: bytes) -> None:
    Decompressor(encoding).end()


@pytest.mark.parametrize("encoding", PACKED)
def test_what_was_never_packed_is_refused(encoding: bytes) -> None:
    with pytest.raises(TransportError, match="encoding: the body is not what its encoding says"):
        Decompressor(encoding).feed(b"hello, this is plain text" * 10)


@pytest.mark.parametrize("encoding", [b"zstd", b"compress", b"gzip, br", b"x"])
def test_other_encodings_are_refused(encoding: bytes) -> None:
    with pytest.raises(TransportError, match="encoding: a content-encoding that nobody asked for"):
        Decompressor(encoding)


def test_a_body_that_explodes_is_refused_and_a_large_one_is_not() -> None:
    """Zeros are packed a thousand times; what is packed less, or is not large, was not made to hurt."""
    assert len(Decompressor(b"gzip").feed(gzip.compress(bytes(BOMB_BYTES)))) == BOMB_BYTES
    with pytest.raises(TransportError) as caught:
        Decompressor(b"gzip").feed(gzip.compress(bytes(BOMB_BYTES + 1)))
    assert caught.value.cause is Cause.TOO_LARGE

    unpacker = Decompressor(b"gzip")
    unpacker._taken = (BOMB_BYTES + 1) // RATIO_MAX + 1
    assert len(unpacker.feed(gzip.compress(bytes(BOMB_BYTES + 1)))) == BOMB_BYTES + 1
