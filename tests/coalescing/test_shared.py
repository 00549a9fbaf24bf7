"""What is kept of shared answers, for whom, and for how long."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import cast

import pytest
from stand_ins import candidate, request
from virtual_time import in_virtual_time, loop, settled

from balancer.coalescing.key import Key, key
from balancer.coalescing.shared import (
    ABORTED,
    CHUNK_COST_BYTES,
    COMING,
    LEFT,
    READ_BYTES,
    WHOLE,
    End,
    InFlight,
    Reader,
    Reads,
    SharedResponse,
)

ONE, TWO = (cast("Key", key(asked, 1, 0)) for asked in (request(), request(b"other")))


class World:
    def __init__(self, max_bytes: int = 1_000_000) -> None:
        self.now = 0.0
        self.in_flight = InFlight(max_bytes, lambda: self.now)

    def answer(self, name: Key = ONE, *chunks: bytes, status: int = 200) -> SharedResponse:
        """Return an answer of which these chunks have come."""
        shared = self.in_flight.lead(name)
        shared.status = status
        for chunk in chunks:
            self.in_flight.grow(shared, chunk)
        return shared


# Joining


def test_what_is_in_flight_can_be_joined_and_nothing_else() -> None:
    world = World()
    shared = world.answer()

    assert world.in_flight.find(ONE) is shared
    assert world.in_flight.find(TWO) is None
    assert len(world.in_flight) == 1


@pytest.mark.parametrize("end", [WHOLE, ABORTED])
def test_what_has_ended_can_not_be_joined(end: End) -> None:
    world = World()
    shared = world.answer(ONE, b"x")
    world.in_flight.done(shared, end, 0.0)

    assert world.in_flight.find(ONE) is None
    assert (shared.end, shared.joinable, world.in_flight.held_bytes) == (end, False, 0)
    assert world.in_flight._holding == set()


def test_a_new_answer_takes_the_place_of_one_that_cannot_be_joined_and_is_not_forgotten_with_it() -> None:
    world = World()
    old = world.answer(ONE, b"x")
    world.in_flight.close(old)
    new = world.answer(ONE)
    world.in_flight.done(old, WHOLE, 0.0)

    assert world.in_flight.find(ONE) is new


def test_a_follower_is_known_to_have_been_there() -> None:
    shared = World().answer()
    assert not shared.followed
    reader = shared.join()
    shared.followers.discard(reader)

    assert shared.followed


# Replays


REPLAYED = {
    "a good answer": (200, WHOLE, 5.0, True),
    "for a moment": (200, WHOLE, 0.1, True),
    "without a replay": (200, WHOLE, 0.0, False),
    "an error": (529, WHOLE, 5.0, False),
    "another success": (204, WHOLE, 5.0, False),
    "one that broke off": (200, ABORTED, 5.0, False),
}


@pytest.mark.parametrize(("status", "end", "replay_s", "again"), REPLAYED.values(), ids=REPLAYED)
def test_only_good_answers_are_given_again(status: int, end: End, replay_s: float, again: bool) -> None:
    world = World()
    shared = world.answer(ONE, b"x", status=status)
    world.in_flight.done(shared, end, replay_s)

    assert (world.in_flight.find(ONE) is shared) is again
    assert (world.in_flight.held_bytes > 0) is again


def test_an_answer_is_given_again_until_its_time_and_no_longer() -> None:
    world = World()
    shared = world.answer(ONE, b"x")
    world.in_flight.done(shared, WHOLE, 5.0)
    world.now = 4.99
    assert world.in_flight.find(ONE) is shared
    world.now = 5.0

    assert world.in_flight.find(ONE) is None
    assert (len(world.in_flight), world.in_flight.held_bytes) == (0, 0)


def test_a_short_replay_ends_in_time_behind_a_long_one() -> None:
    world = World()
    long, short = world.answer(ONE, b"x"), world.answer(TWO, b"x")
    world.in_flight.done(long, WHOLE, 3600.0)
    world.in_flight.done(short, WHOLE, 5.0)
    world.now = 5.1

    assert world.in_flight.find(TWO) is None
    assert world.in_flight.find(ONE) is long


def test_what_could_not_be_kept_whole_is_not_given_again() -> None:
    world = World(max_bytes=1000)
    shared = world.answer(ONE, b"x" * 2000)
    world.in_flight.done(shared, WHOLE, 5.0)

    assert world.in_flight.find(ONE) is None


def test_a_reader_of_a_replay_keeps_it_until_it_has_read_it() -> None:
    world = World()
    shared = world.answer(ONE, b"x")
    world.in_flight.done(shared, WHOLE, 5.0)
    reader = shared.join()
    world.now = 6.0
    assert world.in_flight.find(ONE) is None
    assert shared.following(reader.at) == (b"x", 1)
    world.in_flight.leave(shared, reader)

    assert world.in_flight.held_bytes == 0


# Bounds


@pytest.mark.parametrize("over", [0, 1])
def test_held_is_as_much_as_the_limit_at_most(over: int) -> None:
    world = World(max_bytes=1000 + CHUNK_COST_BYTES)
    shared = world.answer(ONE, b"x" * (1000 + over))

    assert shared.joinable is not bool(over)
    assert world.in_flight.held_bytes == (0 if over else 1000 + CHUNK_COST_BYTES)


@pytest.mark.parametrize("less", [0, 1])
def test_nobody_joins_while_all_of_the_limit_is_held(less: int) -> None:
    world = World(max_bytes=1000 + CHUNK_COST_BYTES)
    shared = world.answer(ONE, b"x" * (1000 - less))

    assert (world.in_flight.find(ONE) is shared) is bool(less)


def test_another_limit_holds_from_the_next_chunk_on() -> None:
    world = World()
    shared = world.answer(ONE, b"x" * 1000)
    world.in_flight.max_bytes = 500
    assert world.in_flight.find(ONE) is None
    world.in_flight.grow(shared, b"y")

    assert (shared.joinable, world.in_flight.held_bytes) == (False, 0)


def test_alone_and_not_joinable_nothing_is_kept_but_counted() -> None:
    world = World()
    shared = world.answer(ONE, b"x")
    world.in_flight.forget(shared)
    world.in_flight.grow(shared, b"y")

    assert (shared.chunks, shared.count, world.in_flight.held_bytes) == ([], 2, 0)


def test_the_largest_gives_way_to_one_that_grows() -> None:
    world = World(max_bytes=10_000)
    large, small = world.answer(ONE, b"x" * 9000), world.answer(TWO)
    small.join()
    world.in_flight.grow(small, b"y" * 2000)

    assert large.chunks == []
    assert world.in_flight.held_bytes == 2000 + CHUNK_COST_BYTES


@pytest.mark.parametrize("over", [0, 1])
def test_a_growing_answer_without_readers_gives_way_before_a_larger_one(over: int) -> None:
    """What is held afterwards may be as much as the limit."""
    world = World()
    large, growing = world.answer(ONE, b"x" * (9000 + over)), world.answer(TWO)
    world.in_flight.max_bytes = 9000 + CHUNK_COST_BYTES
    world.in_flight.grow(growing, b"y")

    assert (growing.joinable, growing.chunks) == (False, [])
    assert large.joinable is (not over)


def test_nobody_is_cut_off_where_dropping_is_enough() -> None:
    world, cut = World(), []

    class Cut(Reader):
        def cut(self) -> None:
            cut.append(self)

    chunk = 1000 + CHUNK_COST_BYTES
    large, growing = world.answer(ONE, b"x" * 1000, b"x" * 1000, b"x" * 1000), world.answer(TWO)
    slow, other = Cut(at=1), Cut()
    large.followers.add(slow)
    growing.followers.add(other)
    world.in_flight.max_bytes = 3 * chunk
    world.in_flight.grow(growing, b"y" * 1000)
    assert (world.in_flight.held_bytes, cut) == (3 * chunk, [])
    world.in_flight.grow(growing, b"")

    assert cut == [slow]


def test_what_the_leaders_own_client_has_not_read_is_kept_for_it() -> None:
    world = World()
    shared = world.answer()
    shared.leading = Reader()
    world.in_flight.forget(shared)
    world.in_flight.grow(shared, b"x")

    assert shared.following(0) == (b"x", 1)


def test_what_all_have_read_is_dropped_before_anybody_is_cut_off() -> None:
    world = World(max_bytes=3000)
    shared = world.answer(ONE, b"x" * 1000, b"x" * 1000)
    quick, slow = shared.join(), shared.join()
    quick.at, slow.at = 2, 1
    world.in_flight.grow(shared, b"x" * 1000)

    assert (shared.dropped, len(shared.chunks)) == (1, 2)
    assert world.in_flight.held_bytes == shared.size == 2 * (1000 + CHUNK_COST_BYTES)
    assert shared.following(slow.at) == (b"x" * 2000, 3)


@in_virtual_time
async def test_beyond_the_limit_the_slowest_reader_is_cut_off_and_no_other() -> None:
    world = World(max_bytes=1500)
    shared = world.answer(ONE, b"x" * 1000)
    quick, slow = shared.join(), shared.join()
    quick.at = 1
    cut: list[Reader] = []

    async def stands(reader: Reader) -> None:
        try:
            async with asyncio.timeout(100) as reader.patience:
                await asyncio.Event().wait()
        except TimeoutError:
            cut.append(reader)

    tasks = [asyncio.create_task(stands(reader)) for reader in (quick, slow)]
    await settled()
    world.in_flight.grow(shared, b"x" * 1000)
    await settled()

    assert (cut, loop().time()) == ([slow], 0.0)
    tasks[0].cancel()


@in_virtual_time
async def test_a_reader_whose_time_has_just_run_out_can_be_cut() -> None:
    reader = Reader()
    with suppress(TimeoutError):
        async with asyncio.timeout(1) as reader.patience:
            await asyncio.sleep(2)
    reader.cut()
    reader.cut()

    assert reader.patience is None


@pytest.mark.parametrize(("sizes", "read"), [((READ_BYTES, 1), 1), ((READ_BYTES - 1, 1, 1), 2)])
def test_a_reader_that_lags_is_given_little_at_a_time(sizes: tuple[int, ...], read: int) -> None:
    shared = World().answer(ONE, *[b"x" * size for size in sizes])
    data, at = shared.following(0)

    assert (len(data), at) == (sum(sizes[:read]), read)


# Readers that leave


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("led", [True, False])
def test_the_last_reader_that_leaves_ends_the_relay_once(led: bool, others: int) -> None:
    world, cancelled = World(), []
    shared = world.answer(ONE, b"x")
    shared.cancel = lambda: cancelled.append(1)
    readers = [shared.join() for _ in range(1 + others)]
    if not led:
        shared.leader = LEFT
    world.in_flight.leave(shared, readers[0])
    assert cancelled == ([1] if not led and not others else [])
    for reader in readers[1:]:
        world.in_flight.leave(shared, reader)

    assert cancelled == ([] if led else [1])
    assert (world.in_flight.find(ONE) is None) is not led


def test_a_reader_that_leaves_after_the_end_cancels_nothing() -> None:
    world, cancelled = World(), []
    shared = world.answer(ONE, b"x")
    shared.cancel = lambda: cancelled.append(1)
    reader = shared.join()
    shared.leader = LEFT
    world.in_flight.done(shared, WHOLE, 0.0)
    world.in_flight.leave(shared, reader)

    assert (cancelled, world.in_flight.held_bytes) == ([], 0)


# How it ended for a follower

OUTCOMES = {
    "whole": (200, True, WHOLE, False, "ok"),
    "the caller's fault": (400, False, WHOLE, False, "client_error"),
    "just below": (399, False, WHOLE, False, "ok"),
    "rate limited": (429, False, WHOLE, False, "failed"),
    "everybody failed": (503, False, WHOLE, False, "failed"),
    "the first of the server's": (500, False, WHOLE, False, "failed"),
    "the last of the client's": (499, False, WHOLE, False, "client_error"),
    "an error behind pings": (200, False, WHOLE, True, "failed"),
    "an error behind content": (200, True, WHOLE, True, "broken_stream"),
    "cut behind content": (200, True, ABORTED, False, "broken_stream"),
    "cut before content": (200, False, ABORTED, False, "broken_stream"),
}


@pytest.mark.parametrize(("status", "content", "end", "unshareable", "outcome"), OUTCOMES.values(), ids=OUTCOMES)
def test_how_it_ended_for_a_follower(status: int, content: bool, end: End, unshareable: bool, outcome: str) -> None:
    shared = World().answer(status=status)
    reader = shared.join()
    shared.answered_by = candidate() if content else None
    shared.end, shared.unshareable = end, unshareable
    assert shared.outcome(reader) == "abandoned"
    reader.reads = Reads.BODY
    assert shared.outcome(reader) == "abandoned"
    reader.reads = Reads.ALL

    assert shared.outcome(reader) == outcome


@in_virtual_time
async def test_everything_that_waits_is_woken_once() -> None:
    shared, woken = World().answer(), []

    async def waits(number: int) -> None:
        await shared.more()
        woken.append(number)

    tasks = [asyncio.create_task(waits(number)) for number in range(3)]
    await settled()
    tasks[1].cancel()
    await settled()
    shared.changed()
    shared.changed()
    await settled()

    assert woken == [0, 2]
    assert shared.end is COMING
