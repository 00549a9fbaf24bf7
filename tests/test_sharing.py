"""One answer for several: who gets what, at which pace, and what is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from stand_ins import Taker, request

from balancer.dedup import key
from balancer.sharing import KEPT_BYTES, LeaderSink, Registry, Shared, follow

KEY = key(request(), 1)
HEADERS = ((b"content-type", b"x"), (b"x-balancer-request-id", b"leader"))


class Slow(Taker):
    """Takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def write(self, data: bytes, *, last: bool = False) -> None:
        await self.go.wait()
        await super().write(data, last=last)


class World:
    def __init__(self, max_bytes: int = 1000_000, replay_s: float = 0.0, leader: Taker | None = None) -> None:
        self.clock = 0.0
        self.registry = Registry(max_bytes, lambda: self.clock)
        self.shared: Shared = self.registry.lead(KEY)
        self.leader = leader or Taker()
        self.sink = LeaderSink(self.leader, self.registry, KEY, self.shared, replay_s)

    def join(self, taker: Taker | None = None) -> tuple[Taker, asyncio.Task[Any]]:
        shared = self.registry.find(KEY)
        assert shared is not None
        shared.followers += 1
        taker = taker or Taker()
        return taker, asyncio.create_task(follow(shared, self.registry, taker, ((b"x-balancer-request-id", b"own"),)))


async def test_followers_get_the_whole_answer_from_its_beginning() -> None:
    world = World()
    early, first = world.join()
    world.sink.start(200, HEADERS)
    await world.sink.write(b"one ")
    late, second = world.join()
    await world.sink.write(b"two")
    await world.sink.finish()
    await asyncio.gather(first, second)

    for taker in (world.leader, early, late):
        assert (taker.status, taker.body, taker.end) == (200, b"one two", "whole")
    assert world.leader.headers[b"x-balancer-dedup"] == b"leader"
    assert late.headers[b"x-balancer-dedup"] == b"follower"
    assert late.headers[b"x-balancer-request-id"] == b"own"
    assert (len(world.registry), world.registry.held_bytes) == (0, 0)


async def test_a_slow_follower_slows_nobody() -> None:
    world, slow = World(), Slow()
    _, slowly = world.join(slow)
    quick, quickly = world.join()
    world.sink.start(200, HEADERS)
    for _ in range(100):
        await world.sink.write(b"x" * 100)
    await world.sink.finish()
    await quickly

    assert len(quick.body) == len(world.leader.body) == 10_000
    assert slow.body == b""
    slow.go.set()
    await slowly
    assert len(slow.body) == 10_000
    assert world.registry.held_bytes == 0


async def test_a_slow_leader_slows_no_follower() -> None:
    slow = Slow()
    world = World(leader=slow)
    quick, quickly = world.join()
    world.sink.start(200, HEADERS)
    await world.sink.write(b"x")
    finishing = asyncio.create_task(world.sink.finish())
    await quickly

    assert (quick.body, slow.body) == (b"x", b"")
    slow.go.set()
    await finishing
    assert (slow.body, slow.end) == (b"x", "whole")


async def test_alone_only_the_beginning_is_kept_and_then_nobody_can_join() -> None:
    world = World()
    world.sink.start(200, HEADERS)
    await world.sink.write(b"x" * KEPT_BYTES)
    assert world.registry.find(KEY) is world.shared
    await world.sink.write(b"y")

    assert world.registry.find(KEY) is None
    assert (world.registry.held_bytes, world.shared.chunks) == (0, [])
    await world.sink.write(b"z" * 1000)
    assert world.registry.held_bytes == 0
    assert len(world.leader.body) == KEPT_BYTES + 1001


async def test_memory_is_bounded() -> None:
    world = World(max_bytes=1000)
    follower, following = world.join()
    world.sink.start(200, HEADERS)
    await world.sink.write(b"x" * 1001)

    assert world.registry.find(KEY) is None  # whoever comes now is served by a request of its own
    await world.sink.write(b"y")
    await world.sink.finish()
    await following
    assert len(follower.body) == 1002
    assert world.registry.held_bytes == 0


async def test_what_breaks_breaks_for_all() -> None:
    world = World()
    follower, following = world.join()
    world.sink.start(200, HEADERS)
    await world.sink.write(b"half")
    await world.sink.abort()
    await following

    assert (follower.body, follower.end) == (b"half", "aborted")
    assert world.registry.find(KEY) is None


async def test_a_relay_that_dies_leaves_nobody_waiting() -> None:
    world = World()
    follower, following = world.join()
    world.sink.close()
    await following

    assert (follower.status, follower.end) == (0, "aborted")


async def test_the_last_one_who_leaves_ends_it() -> None:
    world, cancelled = World(), asyncio.Event()
    world.shared.cancel = cancelled.set
    (_, first), (_, second) = world.join(), world.join()
    await asyncio.sleep(0)
    world.shared.leader_left = True
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert not cancelled.is_set()
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert cancelled.is_set()


@pytest.mark.parametrize(
    ("status", "end", "again"), [(200, "finish", True), (529, "finish", False), (200, "abort", False)]
)
async def test_only_successes_are_replayed_and_only_for_a_while(status: int, end: str, again: bool) -> None:
    world = World(replay_s=5.0)
    world.sink.start(status, HEADERS)
    await world.sink.write(b"x")
    await getattr(world.sink, end)()

    assert (world.registry.find(KEY) is not None) is again
    if again:
        taker, task = world.join()
        await task
        assert (taker.body, taker.end) == (b"x", "whole")
    world.clock = 5.1
    assert world.registry.find(KEY) is None
    assert world.registry.held_bytes == 0
