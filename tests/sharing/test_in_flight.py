"""Requests that a worker has begun and not ended."""

from __future__ import annotations

from sharing.tables import tables

from balancer.sharing.layout import IN_FLIGHT_BYTES, IN_FLIGHT_ROWS
from balancer.sharing.table import ended


def test_what_was_begun_and_not_ended_is_told_once_when_the_worker_has_ended() -> None:
    with tables(2) as (one, other):
        for n in range(4):
            one.began(f"r{n}", b"request %d" % n)
        other.began("other", b"another worker's")
        one.ended("r1")
        one.ended("never begun")
        one.began("r4", b"4")

        assert sorted(ended(other.memory, 0)) == [b"4", b"request 0", b"request 2", b"request 3"]
        assert ended(other.memory, 0) == []
        assert ended(one.memory, 1) == [b"another worker's"]


def test_what_is_too_much_or_too_long_is_not_noted() -> None:
    with tables(1) as (one,):
        one.began("long", bytes(IN_FLIGHT_BYTES))
        for n in range(IN_FLIGHT_ROWS + 5):
            one.began(f"r{n}", b"x")
        for n in range(IN_FLIGHT_ROWS + 5):
            one.ended(f"r{n}")
        one.began("again", b"y")

        assert ended(one.memory, 0) == [b"y"]
