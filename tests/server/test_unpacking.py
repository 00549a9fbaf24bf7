"""Compressed bodies of requests: undone in small pieces, within a limit. (`test_endpoint` has the ways they come.)"""

from __future__ import annotations

import asyncio
import gzip

import pytest

from balancer.headers import Headers
from balancer.server.access import Admitted
from balancer.server.rejected import Rejected
from balancer.server.unpacking import as_plain, coding_of, unpacked
from balancer.transport.decompress import PIECE_BYTES


@pytest.mark.parametrize("named", [b"", b" ", b"identity", b" IDENTITY "])
def test_what_is_not_compressed_has_no_coding(named: bytes) -> None:
    assert coding_of(named) is None


def test_what_is_not_known_is_refused_and_no_key_is_quoted() -> None:
    with pytest.raises(Rejected, match=r"content-encoding '\[redacted\]' is not supported"):
        coding_of(b"sk-ant-0123456789")


async def test_a_bomb_is_unpacked_no_further_than_the_limit_and_others_have_their_turns() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    with pytest.raises(Rejected) as caught:
        await unpacked(b"gzip", gzip.compress(bytes(400 * PIECE_BYTES)), 100 * PIECE_BYTES)
    beside.cancel()

    assert caught.value.status == 413
    assert 100 <= turns <= 110


def test_the_head_says_nothing_any_more_of_the_compressed_body() -> None:
    headers: Headers = ((b"content-encoding", b"gzip"), (b"x-a", b"b"), (b"content-length", b"5"))

    assert as_plain(Admitted("c", headers, dict(headers))) == Admitted("c", ((b"x-a", b"b"),), {b"x-a": b"b"})
