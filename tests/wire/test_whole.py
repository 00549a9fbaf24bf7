"""Answers that are read as a whole: within a limit, and leniently where nothing hangs on it."""

from __future__ import annotations

from balancer.wire.whole import Whole


def test_what_is_collected_comes_out_joined() -> None:
    whole = Whole()

    assert [whole.add(part) for part in (b"a", b"", b"bc")] == [None, None, None]
    assert whole.joined() == b"abc"


def test_the_limit_itself_is_taken_and_one_byte_more_is_a_fault() -> None:
    whole = Whole(10)

    assert whole.add(b"x" * 10) is None
    assert whole.joined() == b"x" * 10
    fault = whole.add(b"y")
    assert fault is not None
    assert (fault.status, fault.message) == (502, "an answer of more than 10 bytes")
    assert whole.joined() == b"", "nothing is held that nobody will read"


def test_what_is_held_elsewhere_counts_and_is_not_kept() -> None:
    whole = Whole(10)

    assert whole.count(b"x" * 6) is None
    assert whole.add(b"y" * 4) is None
    assert whole.joined() == b"y" * 4
    assert whole.count(b"z") is not None
