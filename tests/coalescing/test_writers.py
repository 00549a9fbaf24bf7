"""Who gets a shared answer: the leader's client and its followers, each at its own pace, to the same end."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from stand_ins import Taker, candidate, request
from virtual_time import in_virtual_time, loop, settled

from balancer import events
from balancer.coalescing.key import Key, key
from balancer.coalescing.shared import (
    ABORTED,
    CHUNK_COST_BYTES,
    DIRECT,
    LEFT,
    PUMPED,
    WHOLE,
    InFlight,
    Leader,
    SharedResponse,
    SharingLimits,
)
from balancer.coalescing.writers import TeeWriter, follow, recorded

KEY = cast("Key", key(request(), 1, 0))
HEADERS = ((b"content-type", b"x"), (b"x-balancer-request-id", b"leader"))
LIMITS = SharingLimits()


class Slow(Taker):
    """Takes nothing until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.gone = False
        self.left: list[Any] = []

    @property
    def busy(self) -> bool:  # type: ignore[override]
        return not self.go.is_set()

    async def write(self, data: bytes, *, last: bool = False) -> None:
        await self.go.wait()
        await super().write(data, last=last)


class Quick(Taker):
    """Takes everything at once, as a connection does."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = 0

    def put(self, data: bytes, *, last: bool = False) -> bool:
        self.puts += 1
        self.body += data
        if last:
            self.end = "whole"
        return True


class World:
    def __init__(self, max_bytes: int = 1000_000, replay_s: float = 0.0, leader: Taker | None = None) -> None:
        self.in_flight = InFlight(max_bytes, asyncio.get_running_loop().time)
        self.shared: SharedResponse = self.in_flight.lead(KEY)
        self.leader = leader or Taker()
        self.writer = TeeWriter(self.leader, self.in_flight, self.shared, replay_s)
        self.cancelled = 0
        self.shared.cancel = self._cancel

    def _cancel(self) -> None:
        self.cancelled += 1

    def join(self, taker: Taker | None = None) -> tuple[Taker, asyncio.Task[Any]]:
        shared = self.in_flight.find(KEY)
        assert shared is not None
        client = taker or Taker()
        own = ((b"x-balancer-request-id", b"own"),)
        return client, asyncio.create_task(follow(shared, shared.join(), self.in_flight, client, own))


@in_virtual_time
async def test_followers_get_the_whole_answer_from_its_beginning() -> None:
    world = World()
    early, first = world.join()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"one ")
    late, second = world.join()
    await world.writer.write(b"two")
    await world.writer.finish()
    await asyncio.gather(first, second)
    await world.writer.drained()

    for client in (world.leader, early, late):
        assert (client.status, client.body, client.end) == (200, b"one two", "whole")
        assert client.headers[b"content-type"] == b"x"
    assert world.leader.headers[b"x-balancer-dedup"] == b"leader"
    assert late.headers[b"x-balancer-dedup"] == b"follower"
    assert late.headers[b"x-balancer-request-id"] == b"own"
    assert (len(world.in_flight), world.in_flight.held_bytes) == (0, 0)


# An answer that nobody joins


@in_virtual_time
async def test_alone_it_goes_straight_to_the_client_and_costs_no_task() -> None:
    world = World(leader=Quick())
    tasks = loop().tasks
    world.writer.start(200, HEADERS)
    assert world.writer.put(b"one ")
    assert not world.writer.gone
    assert world.writer.put(b"two", last=True)
    await world.writer.finish()
    world.writer.close()

    assert (world.leader.body, world.leader.end) == (b"one two", "whole")
    assert (world.shared.end, world.shared.leader) == (WHOLE, DIRECT)
    assert (len(world.in_flight), world.in_flight.held_bytes, loop().tasks - tasks) == (0, 0, 0)
    assert world.writer.dedup == ""


@in_virtual_time
async def test_a_single_put_is_not_even_kept_unless_it_may_be_replayed() -> None:
    for replay_s, held in ((0.0, 0), (5.0, 1 + CHUNK_COST_BYTES)):
        world = World(replay_s=replay_s, leader=Quick())
        world.writer.start(200, HEADERS)
        assert world.writer.put(b"x", last=True)

        assert world.in_flight.held_bytes == held
        assert (world.in_flight.find(KEY) is None) is (not held)
        assert world.shared.end is WHOLE


@in_virtual_time
async def test_alone_it_can_be_joined_until_its_end() -> None:
    world = World()
    world.writer.start(200, HEADERS)
    for _ in range(100):
        await world.writer.write(b"x" * 1000)
    late, following = world.join()
    await world.writer.write(b"y", last=True)
    await following

    assert late.body == world.leader.body == b"x" * 100_000 + b"y"
    assert world.in_flight.find(KEY) is None
    assert world.in_flight.held_bytes == 0


@in_virtual_time
async def test_what_a_client_does_not_take_at_once_is_not_put() -> None:
    """A follower, a slow client, or one that has left: all of them go the way that waits."""
    for change in ("follower", "left", "pumped"):
        world = World(leader=Quick())
        world.writer.start(200, HEADERS)
        if change == "follower":
            world.shared.join()
        else:
            world.shared.leader = LEFT if change == "left" else PUMPED

        assert not world.writer.put(b"x"), change
        assert world.leader.body == b""


# Who is slow


@in_virtual_time
async def test_a_slow_follower_slows_nobody() -> None:
    world, slow = World(), Slow()
    _, slowly = world.join(slow)
    quick, quickly = world.join()
    world.writer.start(200, HEADERS)
    for _ in range(100):
        await world.writer.write(b"x" * 100)
    await world.writer.finish()
    await quickly
    await world.writer.drained()

    assert len(quick.body) == len(world.leader.body) == 10_000
    assert slow.body == b""
    slow.go.set()
    await slowly
    assert len(slow.body) == 10_000
    assert world.in_flight.held_bytes == 0


@in_virtual_time
async def test_a_slow_leader_slows_no_follower() -> None:
    slow = Slow()
    world = World(leader=slow)
    quick, quickly = world.join()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"x")
    await world.writer.finish()
    await quickly

    assert (quick.body, slow.body) == (b"x", b"")
    slow.go.set()
    await world.writer.drained()
    assert (slow.body, slow.end) == (b"x", "whole")
    assert world.in_flight.held_bytes == 0


@in_virtual_time
async def test_a_slow_leader_slows_the_relay_until_it_is_followed() -> None:
    slow = Slow()
    world = World(leader=slow)
    world.writer.start(200, HEADERS)
    writing = asyncio.create_task(world.writer.write(b"one "))
    await settled()
    assert not writing.done()

    quick, quickly = world.join()
    await writing
    await world.writer.write(b"two", last=True)
    await quickly
    assert (quick.body, slow.body) == (b"one two", b"")
    slow.go.set()
    await world.writer.drained()
    assert (slow.body, slow.end) == (b"one two", "whole")


@in_virtual_time
async def test_a_slow_leader_that_catches_up_lets_the_relay_go_on() -> None:
    slow = Slow()
    world = World(leader=slow)
    world.writer.start(200, HEADERS)
    writing = asyncio.create_task(world.writer.write(b"one "))
    await settled()
    slow.go.set()
    await writing
    await world.writer.write(b"two ")
    await world.writer.write(b"three", last=True)
    await world.writer.drained()

    assert (slow.body, slow.end) == (b"one two three", "whole")
    assert world.shared.leader is PUMPED


@in_virtual_time
async def test_a_leader_that_only_looks_quick_slows_no_follower() -> None:
    class Blocking(Slow):
        busy = False

    world = World(leader=Blocking())
    quick, quickly = world.join()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"x", last=True)
    await quickly

    assert (quick.body, world.leader.body) == (b"x", b"")
    world.writer.close()


@in_virtual_time
async def test_a_leader_that_is_slow_when_all_is_stopped_is_cut_off() -> None:
    slow = Slow()
    world = World(leader=slow)
    world.shared.join()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"x", last=True)
    await settled()
    world.writer.close()
    await world.writer.drained()

    assert (slow.body, slow.end) == (b"", "aborted")


@in_virtual_time
async def test_a_slow_leader_is_not_forgotten_when_its_answer_can_not_be_joined_any_more() -> None:
    slow = Slow()
    world = World(leader=slow)
    _, following = world.join()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"one ")
    following.cancel()
    await settled()
    world.in_flight.forget(world.shared)
    writing = asyncio.create_task(world.writer.write(b"two", last=True))
    await settled()
    slow.go.set()
    await writing
    await world.writer.drained()

    assert (slow.body, slow.end) == (b"one two", "whole")


STUCK = [(LIMITS.stuck_s - 0.01, False), (LIMITS.stuck_s + 0.01, True)]


@pytest.mark.parametrize(("waited_s", "cut"), STUCK)
@in_virtual_time
async def test_a_leader_that_is_stuck_is_cut_off_in_time_and_its_follower_is_not(waited_s: float, cut: bool) -> None:
    slow = Slow()
    world = World(leader=slow)
    quick, quickly = world.join()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"one ")
    await asyncio.sleep(waited_s)
    assert (slow.end == "aborted", world.shared.leader is LEFT) == (cut, cut)
    assert not world.writer.gone

    await world.writer.write(b"two", last=True)
    await quickly
    assert (quick.body, quick.end, world.cancelled) == (b"one two", "whole", 0)
    world.writer.close()


@in_virtual_time
async def test_a_leader_that_is_stuck_alone_ends_the_relay_once() -> None:
    slow = Slow()
    world = World(leader=slow)
    world.writer.start(200, HEADERS)
    writing = asyncio.create_task(world.writer.write(b"x"))
    await asyncio.sleep(LIMITS.stuck_s + 0.01)

    assert (slow.end, world.cancelled, world.writer.gone) == ("aborted", 1, True)
    assert world.in_flight.find(KEY) is None
    await writing


@pytest.mark.parametrize(("waited_s", "cut"), STUCK)
@in_virtual_time
async def test_a_follower_that_is_stuck_is_cut_off_in_time(waited_s: float, cut: bool) -> None:
    world, slow = World(), Slow()
    _, slowly = world.join(slow)
    world.writer.start(200, HEADERS)
    await world.writer.write(b"x")
    await asyncio.sleep(waited_s)

    assert (slow.end == "aborted") is cut
    assert slowly.done() is cut
    slow.go.set()
    await world.writer.finish()
    await slowly


# Bounds


@in_virtual_time
async def test_beyond_the_limit_nobody_can_join_and_what_was_read_is_dropped() -> None:
    world = World(max_bytes=1000 + CHUNK_COST_BYTES)
    follower, following = world.join()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"x" * 1000)
    assert world.in_flight.find(KEY) is None  # a request that comes now is sent on its own
    for _ in range(10):
        await settled()
        await world.writer.write(b"y" * 1000)
        assert world.in_flight.held_bytes <= world.in_flight.max_bytes + 1000 + CHUNK_COST_BYTES
    await world.writer.finish()
    await following
    await world.writer.drained()

    assert follower.body == b"x" * 1000 + b"y" * 10_000
    assert world.in_flight.held_bytes == 0


@in_virtual_time
async def test_beyond_the_limit_the_slowest_reader_is_cut_off() -> None:
    world, slow = World(max_bytes=10_000), Slow()
    _, slowly = world.join(slow)
    quick, quickly = world.join()
    world.writer.start(200, HEADERS)
    for _ in range(20):
        await world.writer.write(b"x" * 1000)
        await settled()
    await slowly
    await world.writer.finish()
    await quickly
    await world.writer.drained()

    assert (slow.body, slow.end) == (b"", "aborted")
    assert (len(quick.body), quick.end) == (20_000, "whole")
    assert world.in_flight.held_bytes == 0
    assert loop().time() == 0.0


@in_virtual_time
async def test_a_reader_that_lags_gets_everything_when_it_reads() -> None:
    world, slow = World(), Slow()
    _, slowly = world.join(slow)
    world.writer.start(200, HEADERS)
    for _ in range(100):
        await world.writer.write(b"x" * 10_000)
    slow.go.set()
    await world.writer.finish()
    await slowly

    assert len(slow.body) == 1_000_000


# Who leaves


@in_virtual_time
async def test_a_leader_that_leaves_alone_ends_the_relay_once() -> None:
    world = World()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"x")
    world.writer.leave()

    assert (world.cancelled, world.writer.gone, world.in_flight.held_bytes) == (1, True, 0)
    assert world.in_flight.find(KEY) is None


@in_virtual_time
async def test_the_last_one_who_leaves_ends_it_once() -> None:
    world = World()
    (_, first), (_, second) = world.join(), world.join()
    await settled()
    world.writer.leave()
    assert not world.writer.gone
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert world.cancelled == 0
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)

    assert (world.cancelled, world.writer.gone) == (1, True)
    assert world.in_flight.find(KEY) is None


@in_virtual_time
async def test_a_leader_that_leaves_is_given_nothing_more_and_its_follower_all() -> None:
    world = World(leader=Quick())
    follower, following = world.join()
    world.writer.leave()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"x")
    await world.writer.finish()
    await following

    assert (world.leader.status, world.leader.body) == (0, b"")
    assert (follower.body, follower.end) == (b"x", "whole")


@in_virtual_time
async def test_a_leader_that_leaves_while_it_is_slow_is_written_to_no_more() -> None:
    slow = Slow()
    world = World(leader=slow)
    follower, following = world.join()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"x")
    await settled()
    world.writer.leave()
    await world.writer.drained()
    slow.go.set()
    await world.writer.finish()
    await following

    assert (slow.body, slow.end) == (b"", "")
    assert (follower.body, follower.end) == (b"x", "whole")


# How it ends


@in_virtual_time
async def test_what_breaks_breaks_for_all() -> None:
    world = World()
    follower, following = world.join()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"half")
    await world.writer.abort()
    await following
    await world.writer.drained()

    for client in (world.leader, follower):
        assert (client.body, client.end) == (b"half", "aborted")
    assert world.in_flight.find(KEY) is None


@in_virtual_time
async def test_what_breaks_alone_breaks_for_the_leader_once() -> None:
    world = World()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"half")
    await world.writer.abort()
    world.writer.close()

    assert (world.leader.body, world.leader.end, world.shared.end) == (b"half", "aborted", ABORTED)


@in_virtual_time
async def test_a_relay_that_dies_leaves_nobody_waiting() -> None:
    world = World()
    follower, following = world.join()
    world.writer.close()
    await following

    assert (follower.status, follower.end) == (0, "aborted")


@in_virtual_time
async def test_what_ends_with_words_of_failure_is_not_given_again() -> None:
    world = World(replay_s=30.0)
    world.writer.start(200, HEADERS)
    await world.writer.write(b"half, ")
    world.writer.mark_unshareable()
    await world.writer.write(b"an error", last=True)

    assert world.in_flight.find(KEY) is None
    assert world.in_flight.held_bytes == 0


@in_virtual_time
async def test_a_replay_is_the_whole_answer() -> None:
    world = World(replay_s=5.0)
    world.writer.start(200, HEADERS)
    await world.writer.write(b"x", last=True)
    await asyncio.sleep(4.9)
    client, following = world.join()
    await following

    assert (client.body, client.end) == (b"x", "whole")


# When all is stopped


@in_virtual_time
async def test_when_all_is_stopped_a_follower_gets_the_last_words_too() -> None:
    client = Slow()
    client.go.set()
    world = World()
    _, following = world.join(client)
    world.writer.start(200, HEADERS)
    await world.writer.write(b"half, ")
    await settled()
    following.cancel()
    await settled()
    world.writer.mark_unshareable()
    await world.writer.write(b"stopped", last=True)
    await asyncio.gather(following, return_exceptions=True)

    assert (client.body, client.end) == (b"half, stopped", "whole")
    assert following.cancelled()


@in_virtual_time
async def test_when_all_is_stopped_the_last_words_are_waited_for_within_a_bound() -> None:
    client = Slow()
    client.go.set()
    world = World()
    _, following = world.join(client)
    world.writer.start(200, HEADERS)
    await world.writer.write(b"half")
    await settled()
    following.cancel()
    await asyncio.sleep(LIMITS.parting_s - 0.01)
    assert not following.done()
    await asyncio.sleep(0.02)

    assert (following.done(), client.end) == (True, "")


@in_virtual_time
async def test_a_follower_that_has_left_is_not_given_the_last_words() -> None:
    world = World()
    client, following = world.join()  # a Taker is gone when it is cancelled
    world.writer.start(200, HEADERS)
    await settled()
    following.cancel()
    await settled()

    assert (following.done(), client.end) == (True, "")


# What is told of it


class Told:
    def __init__(self) -> None:
        self.events: list[events.Event] = []
        self.bus = events.Bus()
        self.bus.add(self.events.append)


@in_virtual_time
async def test_a_follower_is_recorded_with_what_it_got() -> None:
    world, told = World(), Told()
    asked = request(client="c", user_agent="agent/1")
    reader = world.shared.join()
    with recorded(asked, world.shared, reader, told.bus, loop().clock):
        work = asyncio.create_task(follow(world.shared, reader, world.in_flight, Taker(), ()))
        world.writer.start(200, ((b"x-balancer-provider", b"of the leader"),))
        world.writer.committed(candidate("b", "their-model"))
        await world.writer.write(b"x", last=True)
        await asyncio.sleep(2)
        await work
    began, ended = told.events

    assert isinstance(began, events.RequestBegan)
    assert (began.id, began.model, began.stream, began.client) == (asked.id, "m", True, "c")
    assert (began.user_agent, began.body_bytes, began.operation) == ("agent/1", len(asked.body), "messages")
    assert isinstance(ended, events.RequestEnded)
    assert (ended.id, ended.status, ended.outcome, ended.duration_s) == (asked.id, 200, "ok", 2.0)
    assert (ended.provider, ended.provider_model, ended.dedup) == ("b", "their-model", "follower")
    assert ended.wall == began.wall + 2


@in_virtual_time
async def test_a_follower_that_fails_is_recorded_too() -> None:
    world, told = World(), Told()
    reader = world.shared.join()
    with pytest.raises(LookupError), recorded(request(), world.shared, reader, told.bus, loop().clock):
        raise LookupError
    ended = told.events[-1]

    assert isinstance(ended, events.RequestEnded)
    assert (ended.outcome, ended.provider, ended.provider_model) == ("abandoned", "", "")


def states(shared: SharedResponse) -> tuple[Leader, bool]:
    return shared.leader, shared.leading is not None


@in_virtual_time
async def test_the_states_of_the_leader_follow_each_other_as_the_table_says() -> None:
    slow = Slow()
    world = World(leader=slow)
    assert (states(world.shared), world.writer.pumped) == ((DIRECT, False), False)
    world.writer.start(200, HEADERS)
    world.shared.join()
    await world.writer.write(b"x", last=True)
    assert (states(world.shared), world.writer.pumped) == ((PUMPED, True), True)
    slow.go.set()
    await world.writer.drained()
    assert states(world.shared) == (PUMPED, False)
    world.writer.leave()
    assert states(world.shared) == (LEFT, False)
