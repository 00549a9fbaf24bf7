"""Pins that all workers of a machine share."""

from __future__ import annotations

import sys

from sharing.tables import tables

from balancer.sharing.layout import PIN, PIN_ROWS


def test_a_conversation_is_known_at_every_worker_and_by_a_hash_alone() -> None:
    with tables(2) as (one, other):
        assert other.pinned("session-1") is None

        one.pin("session-1", one.hash_of("p0"), 3600.0)

        known = other.pinned("session-1")
        assert known is not None
        assert (known[0], known[2]) == (other.hash_of("p0"), 3600.0)
        assert other.pinned("session-2") is None
        assert b"session-1" not in bytes(one.memory.buffer)


def test_the_newest_answer_stands() -> None:
    with tables(2) as (one, other):
        one.pin("session-1", 1, 0.0)
        other.pin("session-1", 2, 0.0)

        known = one.pinned("session-1")

        assert known is not None
        assert known[0] == 2


def test_of_two_conversations_with_one_row_the_newer_is_known() -> None:
    with tables(1) as (one,):
        for n in range(PIN_ROWS):
            one.pin(f"session-{n}", n, 0.0)

        known = [one.pinned(f"session-{n}") for n in range(PIN_ROWS)]

        assert all(pin is None or pin[0] == n for n, pin in enumerate(known))
        assert known[-1] is not None


def test_a_pin_of_which_only_the_beginning_was_written_is_none() -> None:
    with tables(1) as (one,):
        one.pin("session-1", 1, 5.0)
        start, row = one.memory.layout.pins, one.memory.digest_of("session-1")[:2]
        at = start + int.from_bytes(row, sys.byteorder) * PIN.size + 16
        one.memory.buffer[at : at + PIN.size - 16] = bytes(PIN.size - 16)

        assert one.pinned("session-1") is None
