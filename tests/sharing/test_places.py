"""Places that all workers of a machine share."""

from __future__ import annotations

import ast
import itertools
import os

import pytest
from sharing.tables import process, said, tables

from balancer.sharing import layout
from balancer.sharing.memory import Memory, made
from balancer.sharing.table import Table, ended

WAIT = "print('ready', flush=True); input()\n"


def test_a_place_that_one_worker_holds_is_missing_to_all() -> None:
    with tables(2) as (one, other):
        assert one.place("p").take(1)
        assert not other.place("p").take(1)
        assert other.place("p").held() == 1
        assert other.place("q").take(1)

        one.place("p").give_back()

        assert other.place("p").take(1)


def test_a_worker_learns_that_another_has_given_a_place_back() -> None:
    with tables(2) as (one, other):
        one.place("p").take_over()
        assert not other.freed()

        one.place("p").give_back()

        assert other.freed()
        assert not other.freed()


def test_what_a_worker_held_that_has_ended_is_free_again() -> None:
    with tables(3) as (one, other, third):
        for _ in range(3):
            assert one.place("p").take(4)
        assert other.place("p").take(4)

        ended(third.memory, 0)

        assert third.place("p").held() == 1
        assert third.freed()


@pytest.mark.live
def test_four_processes_never_hold_more_than_the_limit_and_leave_no_place_unused() -> None:
    take = WAIT + "taken = sum(table.place('p').take(150) for _ in range(100)); print(taken)"
    for _ in range(3):
        fd = made(4)
        try:
            taken = [int(text) for text in said([process(fd, worker, take) for worker in range(4)])]
        finally:
            os.close(fd)

        assert sum(taken) == 150


@pytest.mark.live
def test_places_that_come_and_go_in_four_processes_stay_within_the_limit() -> None:
    churn = (
        WAIT
        + """
place, held = table.place('p'), []
ends = time.monotonic() + 2
while time.monotonic() < ends:
    if place.take(3):
        began = time.monotonic_ns()
        time.sleep(0.0005)
        held.append((began, time.monotonic_ns()))
        place.give_back()
print(held)
"""
    )
    fd = made(4)
    try:
        told = [ast.literal_eval(text) for text in said([process(fd, worker, churn) for worker in range(4)])]
        left = Table(Memory(fd), 0).place("p").held()
    finally:
        os.close(fd)

    changes = sorted(change for held in told for began, ended in held for change in ((began, 1), (ended, -1)))
    assert left == 0
    assert max(itertools.accumulate(step for _, step in changes)) == 3
    assert all(len(held) > 100 for held in told)


def test_a_turn_comes_once() -> None:
    with tables(2) as (one, other):
        assert [one.turn("r"), other.turn("r"), one.turn("r"), other.turn("s")] == [0, 1, 2, 0]


def test_without_a_row_a_worker_counts_by_itself_up_to_its_share() -> None:
    with tables(2) as (one, other):
        for n in range(layout.PLACE_ROWS):
            one.memory.words[(one.memory.layout.places + n * one.memory.layout.place_bytes) // 8] = n + 1

        place = other.place("beyond")

        assert [place.take(4), place.take(4), place.take(4)] == [True, True, False]
        assert other.trouble != ""
        place.give_back()
        assert place.held() == 1
