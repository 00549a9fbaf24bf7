"""Compressed bodies: every encoding that is undone, wherever it is cut, and what is refused."""

from __future__ import annotations

import gzip
import random
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.script import Cause
from balancer.transport import TransportError
from balancer.transport.decompress import BOMB_BYTES, PIECE_BYTES, RATIO_MAX, Decompressor, Inflater


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def unpacked(unpacker: Decompressor, data: bytes) -> bytes:
    return b"".join(unpacker.pieces(data))


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

    parts = [packed[at : at + step] for at in range(0, len(packed), step)]
    assert b"".join(unpacked(unpacker, part) for part in parts) == data
    unpacker.end()


@pytest.mark.parametrize("encoding", PACKED)
def test_what_is_cut_short_is_not_whole(encoding: bytes) -> None:
    unpacker = Decompressor(encoding)
    unpacked(unpacker, PACKED[encoding](b"hello" * 99)[:-1])

    with pytest.raises(TransportError) as caught:
        unpacker.end()
    assert (caught.value.cause, caught.value.sent, caught.value.headed) == (Cause.CLOSED, True, True)


@pytest.mark.parametrize("encoding", PACKED)
def test_a_body_that_is_empty_is_whole(encoding: bytes) -> None:
    Decompressor(encoding).end()


@pytest.mark.parametrize("encoding", PACKED)
def test_what_was_never_packed_is_refused(encoding: bytes) -> None:
    with pytest.raises(TransportError, match="encoding: the body is not what its encoding says"):
        unpacked(Decompressor(encoding), b"hello, this is plain text" * 10)


@pytest.mark.parametrize("encoding", [b"zstd", b"compress", b"gzip, br", b"x"])
def test_other_encodings_are_refused(encoding: bytes) -> None:
    with pytest.raises(TransportError, match="encoding: a content-encoding that nobody asked for"):
        Decompressor(encoding)


def test_a_body_that_explodes_is_refused_and_a_large_one_is_not() -> None:
    """Zeros are packed a thousand times; what is packed less, or is not large, was not made to hurt."""
    assert len(unpacked(Decompressor(b"gzip"), gzip.compress(bytes(BOMB_BYTES)))) == BOMB_BYTES
    larger = gzip.compress(bytes(BOMB_BYTES + 1))
    with pytest.raises(TransportError) as caught:
        unpacked(Decompressor(b"gzip"), larger)
    assert caught.value.cause is Cause.TOO_LARGE

    unpacker = Decompressor(b"gzip")
    unpacker._taken = (BOMB_BYTES + 1) // RATIO_MAX + 1
    assert len(unpacked(unpacker, larger)) == BOMB_BYTES + 1


@pytest.mark.parametrize("encoding", PACKED)
def test_no_step_unpacks_more_than_a_piece(encoding: bytes) -> None:
    packed = PACKED[encoding](bytes(100 * PIECE_BYTES))
    pieces = Decompressor(encoding).pieces(packed)

    assert [len(next(pieces)) for _ in range(5)] <= [2 * PIECE_BYTES] * 5
    assert max(map(len, pieces)) <= 2 * PIECE_BYTES


@pytest.mark.parametrize("size", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
@pytest.mark.parametrize("encoding", PACKED)
def test_sizes_about_that_of_a_piece_come_out_whole(encoding: bytes, size: int) -> None:
    for data in (bytes(size), random.Random(size).randbytes(size)):
        inflater = Inflater(encoding)

        assert b"".join(inflater.pieces(PACKED[encoding](data))) == data
        assert inflater.whole()
        assert not inflater.more()


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
@pytest.mark.parametrize("apart", [False, True])
def test_what_stands_behind_the_end_is_found_and_not_kept(encoding: bytes, apart: bool) -> None:
    inflater = Inflater(encoding)
    packed = PACKED[encoding](b"hello")
    for part in (packed, b"more", b"more") if apart else (packed + b"more",):
        list(inflater.pieces(part))

    assert inflater.whole()
    assert inflater.more()
