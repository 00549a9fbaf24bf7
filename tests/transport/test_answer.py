"""An answer as it is read: whole within a limit, and as it was before it was compressed."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest
from virtual_time import in_virtual_time

from balancer.headers import Headers
from balancer.script import Cause
from balancer.transport import TransportError, UpstreamResponse
from balancer.transport.answer import Decompressed, plain
from balancer.transport.decompress import PIECE_BYTES


class Told(UpstreamResponse):
    """An answer whose body is told piece by piece."""

    flows = True

    def __init__(self, *pieces: bytes, encoding: bytes | None = None, headers: Headers = ()) -> None:
        self.status, self.headers, self.encoding = 201, headers, encoding
        self._pieces = [*pieces]

    async def read(self, within_s: float) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


class Slow(Told):
    """One whose pieces come a second apart."""

    async def read(self, within_s: float) -> bytes:
        await asyncio.sleep(1)
        return await super().read(within_s)


async def test_a_body_up_to_the_limit_is_read_and_no_larger_one() -> None:
    assert await Told(b"he", b"llo").read_whole(5, 1) == b"hello"
    with pytest.raises(TransportError) as caught:
        await Told(b"he", b"llo").read_whole(4, 1)
    assert (caught.value.cause, caught.value.sent, caught.value.headed) == (Cause.TOO_LARGE, True, True)


@pytest.mark.parametrize("encoding", [None, b"", b"identity", b" Identity "])
def test_what_is_not_compressed_is_the_same_answer(encoding: bytes | None) -> None:
    answer = Told(encoding=encoding)

    assert plain(answer) is answer


async def test_what_is_compressed_comes_as_it_was_without_the_headers_that_say_otherwise() -> None:
    packed = gzip.compress(b"hello" * 100)
    headers = ((b"content-encoding", b"gzip"), (b"content-length", b"%d" % len(packed)), (b"x", b"y"))
    answer = plain(Told(*(packed[at : at + 1] for at in range(len(packed))), encoding=b"gzip", headers=headers))

    assert isinstance(answer, Decompressed)
    assert (answer.status, answer.headers, answer.flows) == (201, ((b"x", b"y"),), False)
    assert answer.read_nowait() is None
    assert await answer.read_whole(500, 1) == b"hello" * 100


async def test_what_was_compressed_and_cut_is_no_whole_body() -> None:
    answer = plain(Told(gzip.compress(b"hello" * 100)[:-9], encoding=b"gzip"))

    assert await answer.read(1)
    with pytest.raises(TransportError, match="a compressed body was cut short"):
        await answer.read(1)


async def test_a_body_that_grows_is_given_in_pieces_between_which_others_have_their_turns() -> None:
    answer = plain(Told(gzip.compress(bytes(20 * PIECE_BYTES)), encoding=b"gzip"))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    sizes = []
    while data := await answer.read(1):
        sizes.append(len(data))
    beside.cancel()

    assert (sum(sizes), max(sizes)) == (20 * PIECE_BYTES, PIECE_BYTES)
    assert turns >= 20


@in_virtual_time
async def test_bytes_that_stand_for_nothing_are_no_sign_of_life() -> None:
    packer = zlib.compressobj(wbits=31)
    head = packer.compress(b"hello") + packer.flush(zlib.Z_SYNC_FLUSH)
    answer = plain(Slow(head, *[b"\x00\x00\x00\xff\xff"] * 9, encoding=b"gzip"))

    assert await answer.read(5) == b"hello"
    with pytest.raises(TransportError) as caught:
        await answer.read(5)
    assert caught.value.cause is Cause.IDLE_TIMEOUT


def test_an_encoding_that_can_not_be_undone_is_refused_with_the_head() -> None:
    with pytest.raises(TransportError) as caught:
        plain(Told(encoding=b"zz"))
    assert (caught.value.cause, caught.value.headed) == (Cause.ENCODING, True)
