"""How a worker finds what it shares."""

from __future__ import annotations

import os

import pytest

from balancer.sharing.link import AWAY
from balancer.sharing.memory import made
from balancer.sharing.protocol import VERSION, Sharing
from balancer.sharing.worker import NUMBER, PLACE, NotShared, joined


def test_a_process_that_is_not_one_of_several_shares_nothing() -> None:
    assert joined({}) is None
    assert joined({NUMBER: "1"}) is None


def test_a_worker_without_a_hub_says_so() -> None:
    fd = made(2)
    try:
        sharing: Sharing | None = joined({NUMBER: "2", PLACE: f"{VERSION}:{fd}:1:/nowhere"})
        assert sharing is not None
        assert (sharing.worker, sharing.workers, sharing.trouble) == (1, 2, AWAY)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("99:0:0:/x", "by version 99"),
        (f"{VERSION}:9999:0:/x", "can't be used"),
        (f"{VERSION}:x", "can't be used"),
        (f"{VERSION}:FD:7:/x", "can't be used"),
    ],
)
def test_what_can_t_be_shared_is_said(where: str, words: str) -> None:
    fd = made(2)
    try:
        with pytest.raises(NotShared, match=words):
            joined({PLACE: where.replace("FD", str(fd))})
    finally:
        os.close(fd)
