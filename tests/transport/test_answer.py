"""An answer as it is read: whole within a limit, and as it was before it was compressed."""

from __future__ import annotations

import gzip

import pytest

from balancer.headers import Headers
from balancer.script import Cause
from balancer.transport import TransportError, UpstreamResponse
from balancer.transport.answer import Decompressed, plain


class Told(UpstreamResponse):
    """An answer whose body is told piece by piece."""

    flows = True

    def __init__(self, *pieces: bytes, encoding: bytes | None = None, headers: Headers = ()) -> None:
        self.status, self.headers, self.encoding = 201, headers, encoding
        self._pieces = [*pieces]

    async def read(self, within_s: float) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


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


def test_an_encoding_that_can_not_be_undone_is_refused_with_the_head() -> None:
    with pytest.raises(TransportError) as caught:
        plain(Told(encoding=b"zz"))
    assert (caught.value.cause, caught.value.headed) == (Cause.ENCODING, True)
