"""Slots at providers, places in the balancer, and the queue of those that wait for one."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from virtual_time import in_virtual_time

from balancer.policy.verdicts import Scope
from balancer.state.admission import Admission

from .world import World, read


def test_a_place_is_held_for_as_long_as_the_request() -> None:
    admission = World("limits: {max_in_flight: 2}").fleet.admission

    with admission:
        assert (admission.in_flight, admission.full) == (1, False)
        with admission:
            assert (admission.in_flight, admission.full) == (2, True)
        assert (admission.in_flight, admission.full) == (1, False)
    assert admission.in_flight == 0


async def test_a_place_is_waited_for_and_the_wait_is_bounded() -> None:
    world = World("limits: {max_in_flight: 1, queue_s: 0.2}")
    admission, loop = world.fleet.admission, asyncio.get_running_loop()
    with world.fleet.admit():
        assert await admission.wait(loop.time) >= 0.2
        assert admission.full
        waiting = asyncio.create_task(admission.wait(loop.time))
        await asyncio.sleep(0)
    assert await waiting < 0.2
    assert not admission.full


async def test_whoever_finds_room_does_not_wait() -> None:
    admission = World("limits: {max_in_flight: 1}").fleet.admission

    assert await admission.wait(lambda: 5.0) == 0.0


async def test_a_reload_that_gives_more_places_wakes_whoever_waits() -> None:
    world = World("limits: {max_in_flight: 1, queue_s: 30}")
    admission, loop = world.fleet.admission, asyncio.get_running_loop()
    with world.fleet.admit():
        waiting = asyncio.create_task(admission.wait(loop.time))
        await asyncio.sleep(0)
        world.fleet.reload(read("limits: {max_in_flight: 2, queue_s: 30}"), 0.0)
        assert await waiting < 5.0
        assert not admission.full


async def test_a_slot_counts_the_request_and_wakes_whoever_waits() -> None:
    world = World(provider=", max_in_flight: 1")
    admission, stats, candidate = world.fleet.admission, world.fleet.stats("a"), world.candidate("a")

    with admission.slot(candidate, 0.0) as held:
        assert held is stats
        assert (stats.requests, stats.in_flight) == (1, 1)
        assert world.health.availability(candidate, 0.0).full
        waiting = asyncio.create_task(admission.slot_freed(30.0))
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 5)
    assert (stats.requests, stats.in_flight) == (1, 0)
    assert not world.health.availability(candidate, 0.0).full


async def test_a_place_that_is_freed_wakes_whoever_waits_for_a_slot() -> None:
    world = World()
    with world.fleet.admit():
        waiting = asyncio.create_task(world.fleet.admission.slot_freed(30.0))
        await asyncio.sleep(0)
    await asyncio.wait_for(waiting, 5)


async def test_a_recovery_wakes_whoever_waits_for_a_slot() -> None:
    world = World()
    world.fail("a", 0.0)
    waiting = asyncio.create_task(world.fleet.admission.slot_freed(30.0))
    await asyncio.sleep(0)
    world.succeed("a", 10.0)
    await asyncio.wait_for(waiting, 5)


def test_a_probe_is_counted_until_the_last_that_probes_has_ended() -> None:
    world = World()
    world.fail("a", 0.0)
    candidate, probes, key = world.candidate("a"), world.health.probes, ("a", Scope.PROVIDER, None)

    with world.fleet.admission.slot(candidate, 10.0):
        with world.fleet.admission.slot(candidate, 10.0):
            assert probes == {key: 2}
        assert probes == {key: 1}
    assert probes == {}


def test_a_slot_is_given_back_whatever_happens() -> None:
    world = World()
    stats = world.fleet.stats("a")
    try:
        with world.fleet.admit(), world.fleet.admission.slot(world.candidate("a"), 0.0):
            raise LookupError
    except LookupError:
        pass

    assert (stats.in_flight, world.fleet.admission.in_flight) == (0, 0)


async def test_whoever_stops_waiting_is_forgotten_and_the_others_are_woken_once() -> None:
    world = World()
    admission, queue = world.fleet.admission, world.fleet.admission._queue
    waiting = [asyncio.create_task(admission.slot_freed(within_s)) for within_s in (60.0, 60.0, 0.001)]
    await waiting[2]
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])

    assert len(queue.waiting) == 1
    with world.fleet.admit():
        pass
    assert not queue.waiting
    queue.wake()
    await asyncio.wait_for(waiting[1], 5)


async def test_waking_twice_before_anybody_ran_is_no_error() -> None:
    queue = World().fleet.admission._queue
    waiting = asyncio.create_task(queue.freed(60.0))
    await asyncio.sleep(0)
    (freed,) = queue.waiting
    freed.set_result(None)
    queue.wake()
    await asyncio.wait_for(waiting, 5)


def shared(max_in_flight: int) -> Admission:
    keys = "auth: {keys: [key-of-alice-0123456789abcd, key-of-bob-0123456789abcdef]}"
    return World(f"{keys}, limits: {{max_in_flight: {max_in_flight}, queue_s: 2}}").fleet.admission


def test_with_one_key_a_client_may_have_all_places() -> None:
    admission = World("auth: {keys: [key-of-alice-0123456789abcd]}, limits: {max_in_flight: 2}").fleet.admission

    with admission.place("alice"):
        assert admission.may_come("alice")
        with admission.place("alice"):
            assert not admission.may_come("alice")


def test_with_several_keys_no_client_has_all_places() -> None:
    admission = shared(10)
    with ExitStack() as held:
        for _ in range(8):
            assert admission.may_come("alice")
            held.enter_context(admission.place("alice"))
        assert not admission.may_come("alice")
        assert admission.may_come("bob")
        for _ in range(2):
            held.enter_context(admission.place("bob"))
        assert not admission.may_come("bob"), "it is full"
    assert admission.in_flight == 0
    assert admission.may_come("alice")


def test_the_only_place_may_be_anybodys() -> None:
    assert shared(1).may_come("alice")


@in_virtual_time
async def test_of_those_that_wait_the_one_goes_first_whose_client_holds_the_fewest() -> None:
    admission, now, order = shared(5), asyncio.get_running_loop().time, []

    async def comes(client: str) -> None:
        await admission.wait(now, client=client)
        if admission.may_come(client):
            with admission.place(client):
                order.append(client)
                await asyncio.sleep(10)

    with ExitStack() as held:
        for client in ("alice", "alice", "alice", "bob"):
            held.enter_context(admission.place(client))
        last = admission.place("alice")
        with last:
            waiting = [asyncio.create_task(comes(client)) for client in ("alice", "alice", "bob", "carol")]
            await asyncio.sleep(1)
            assert order == []
        await asyncio.sleep(0.1)
        assert order == ["carol"]
    await asyncio.gather(*waiting)
    assert order == ["carol", "alice", "bob", "alice"]
    assert admission.in_flight == 0
    assert not admission._held
    assert not admission._waiting


@in_virtual_time
async def test_who_gives_up_waiting_lets_others_pass() -> None:
    admission, now = shared(5), asyncio.get_running_loop().time
    with ExitStack() as held:
        for client in ("alice", "alice", "bob"):
            held.enter_context(admission.place(client))
        first = asyncio.create_task(admission.wait(now, client="carol"))
        await asyncio.sleep(0)
        assert await admission.wait(now, client="alice") == 0
        await first


def test_places_that_were_taken_before_a_reload_are_given_back_after_it() -> None:
    admission = shared(5)
    with admission.place("alice"):
        admission.apply(max_in_flight=5, queue_s=1, fair=False)
        with admission.place("bob"):
            admission.apply(max_in_flight=5, queue_s=1, fair=True)
            assert admission.in_flight == 2
    assert admission.in_flight == 0
    assert not admission._held
