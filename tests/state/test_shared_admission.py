"""Admission over all workers."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import pytest
from state.shared_world import SharedWorld, group_of, shared_worlds

from balancer.state.admission import SlotTaken


def _come(world: SharedWorld, stack: ExitStack, client: str = "") -> bool:
    """Let a request come in, as the relay does; say whether it may."""
    admission = world.fleet.admission
    if admission.full or not admission.may_come(client):
        return False
    stack.enter_context(world.fleet.admit(client))
    return True


def test_the_limit_of_the_balancer_holds_over_all_workers() -> None:
    with shared_worlds(4, "limits: {max_in_flight: 8}") as worlds, ExitStack() as stack:
        came = [_come(worlds[n % 4], stack) for n in range(40)]

        assert came == [True] * 8 + [False] * 32
        assert {world.fleet.admission.held for world in worlds} == {8}
        stack.close()

        assert _come(worlds[0], stack)


def test_a_place_that_was_asked_for_and_not_entered_is_the_next_requests() -> None:
    with shared_worlds(2, "limits: {max_in_flight: 1}") as (one, other), ExitStack() as stack:
        assert one.fleet.admission.may_come("")
        assert not other.fleet.admission.may_come("")
        assert _come(one, stack)
        assert not one.fleet.admission.may_come("")
        stack.close()
        assert one.fleet.admission.held == 0


async def test_who_waits_at_one_worker_is_woken_by_another() -> None:
    with shared_worlds(2, "limits: {max_in_flight: 1, queue_s: 5}") as (one, other), ExitStack() as stack:
        assert _come(one, stack)
        waits = asyncio.ensure_future(other.fleet.admission.wait(time.monotonic))
        await asyncio.sleep(0.02)
        assert not waits.done()

        began = time.monotonic()
        stack.close()
        await waits

        assert time.monotonic() - began < 1.0
        assert other.fleet.admission.may_come("")
        with other.fleet.admit():
            pass


async def test_a_wait_for_a_place_has_an_end() -> None:
    with shared_worlds(2, "limits: {max_in_flight: 1, queue_s: 0.05}") as (one, other), ExitStack() as stack:
        assert _come(one, stack)
        await other.fleet.admission.wait(time.monotonic)
        assert not other.fleet.admission.may_come("")


def test_the_limit_of_a_provider_holds_over_all_workers() -> None:
    with shared_worlds(2, provider=", max_in_flight: 2") as (one, other), ExitStack() as stack:
        stack.enter_context(one.fleet.admission.slot(one.candidate("a"), 0.0))
        assert not other.availability("a", 0.0).full
        stack.enter_context(other.fleet.admission.slot(other.candidate("a"), 0.0))

        for world in (one, other):
            state = world.availability("a", 0.0)
            assert (state.full, state.in_flight) == (True, 2)
            with pytest.raises(SlotTaken):
                world.fleet.admission.slot(world.candidate("a"), 0.0)
            assert not world.availability("b", 0.0).full
        with one.fleet.admission.slot_beyond(one.candidate("a"), 0.0):
            assert other.availability("a", 0.0).in_flight == 3
        stack.close()

        assert one.availability("a", 0.0).in_flight == 0


async def test_who_waits_for_a_provider_is_woken_by_another_worker() -> None:
    with shared_worlds(2, provider=", max_in_flight: 1") as (one, other):
        slot = one.fleet.admission.slot(one.candidate("a"), 0.0)
        slot.__enter__()
        waits = asyncio.ensure_future(other.fleet.admission.slot_freed(5.0))
        await asyncio.sleep(0.02)
        assert not waits.done()

        slot.__exit__(None, None, None)

        async with asyncio.timeout(1.0):
            await waits


def test_a_second_probe_is_refused_and_gives_its_place_back_unless_it_insists() -> None:
    with shared_worlds(2, provider=", max_in_flight: 5") as (one, other):
        one.fail("a", at=10.0)
        now = 10.0 + one.rests("a", 10.0) + 1
        other.fleet.learn()

        with one.fleet.admission.slot(one.candidate("a"), now):
            with pytest.raises(SlotTaken):
                other.fleet.admission.slot(other.candidate("a"), now)
            assert other.availability("a", now).in_flight == 1
            with other.fleet.admission.slot(other.candidate("a"), now, insists=True):
                assert one.availability("a", now).in_flight == 2
            assert not other.availability("a", now).usable, "the lease is still the first one's"


def test_no_client_holds_more_than_its_share_over_all_workers() -> None:
    settings = (
        "auth: {keys: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb]}, limits: {max_in_flight: 10}"
    )
    with shared_worlds(2, settings) as worlds, ExitStack() as stack:
        came = [_come(worlds[n % 2], stack, "alice") for n in range(10)]

        assert came == [True] * 8 + [False] * 2
        assert _come(worlds[0], stack, "bob")


def test_what_a_killed_worker_held_is_free() -> None:
    with group_of(2) as group, ExitStack() as stack:
        one, other = (SharedWorld(group, n, "limits: {max_in_flight: 2}", "ab", "") for n in range(2))
        assert [_come(one, stack), _come(one, stack), _come(other, stack)] == [True, True, False]
        stack.pop_all()

        group.end(0)

        assert other.fleet.admission.may_come("")
