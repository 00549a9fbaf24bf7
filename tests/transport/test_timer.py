"""One timer for many waits: it goes off when it should, and is set as rarely as can be."""

from __future__ import annotations

import asyncio

from virtual_time import in_virtual_time, loop

from balancer.transport.timer import NEVER, LazyTimer


def timer() -> tuple[LazyTimer, list[float]]:
    went_off: list[float] = []
    return LazyTimer(loop(), lambda: went_off.append(loop().time())), went_off


def wait(lazy: LazyTimer, within_s: float) -> None:
    lazy.deadline = loop().time() + within_s
    if lazy.due > lazy.deadline:
        lazy.set()


@in_virtual_time
async def test_it_goes_off_at_its_deadline_once() -> None:
    lazy, went_off = timer()
    wait(lazy, 5)
    await asyncio.sleep(60)

    assert went_off == [5.0]
    assert lazy.due == NEVER


@in_virtual_time
async def test_a_deadline_that_is_moved_on_sets_nothing_anew() -> None:
    lazy, went_off = timer()
    wait(lazy, 5)
    set_before = loop().timers
    for _ in range(100):
        wait(lazy, 5)
    assert loop().timers == set_before

    await asyncio.sleep(3)
    wait(lazy, 5)
    await asyncio.sleep(60)
    assert went_off == [8.0]


@in_virtual_time
async def test_a_deadline_that_comes_sooner_is_kept() -> None:
    lazy, went_off = timer()
    wait(lazy, 50)
    wait(lazy, 1)
    await asyncio.sleep(60)

    assert went_off == [1.0]


@in_virtual_time
async def test_a_timer_that_was_cancelled_does_not_go_off_and_can_be_set_again() -> None:
    lazy, went_off = timer()
    wait(lazy, 5)
    lazy.cancel()
    await asyncio.sleep(60)
    assert (went_off, lazy.due) == ([], NEVER)

    wait(lazy, 5)
    await asyncio.sleep(60)
    assert went_off == [65.0]
