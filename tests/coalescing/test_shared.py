"""One answer for several: who gets what, at which pace, and what is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from stand_ins import Taker, request

from balancer.coalescing import writers
from balancer.coalescing.key import key
from balancer.coalescing.shared import CHUNK_COST_BYTES, TAKE_BYTES, InFlight, SharedResponse
from balancer.coalescing.writers import TeeWriter, follow

KEY = key(request(), 1, 0)
HEADERS = ((b"content-type", b"x"), (b"x-balancer-request-id", b"leader"))


class Slow(Taker):
    """Takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.gone = False

    @property
    def busy(self) -> bool:  # type: ignore[override]
        return not self.go.is_set()

    async def write(self, data: bytes, *, last: bool = False) -> None:
        await self.go.wait()
        await super().write(data, last=last)


class World:
    def __init__(self, max_bytes: int = 1000_000, replay_s: float = 0.0, leader: Taker | None = None) -> None:
        self.clock = 0.0
        self.registry = InFlight(max_bytes, lambda: self.clock)
        self.shared: SharedResponse = self.registry.lead(KEY)
        self.leader = leader or Taker()
        self.writer = TeeWriter(self.leader, self.registry, self.shared, replay_s)

    def join(self, taker: Taker | None = None) -> tuple[Taker, asyncio.Task[Any]]:
        shared = self.registry.find(KEY)
        assert shared is not None
        client = taker or Taker()
        own = ((b"x-balancer-request-id", b"own"),)
        return client, asyncio.create_task(follow(shared, shared.join(), self.registry, client, own))


async def test_followers_get_the_whole_answer_from_its_beginning() -> None:
    world = World()
    early, first = world.join()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"one ")
    late, second = world.join()
    await world.writer.write(b"two")
    await world.writer.finish()
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
    world.writer.start(200, HEADERS)
    for _ in range(100):
        await world.writer.write(b"x" * 100)
    await world.writer.finish()
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
    world.writer.start(200, HEADERS)
    await world.writer.write(b"x")
    await world.writer.finish()
    await quickly

    assert (quick.body, slow.body) == (b"x", b"")
    slow.go.set()
    await world.writer.drained()
    assert (slow.body, slow.end) == (b"x", "whole")
    assert world.registry.held_bytes == 0


async def test_a_slow_leader_slows_the_relay_until_somebody_follows() -> None:
    slow = Slow()
    world = World(leader=slow)
    world.writer.start(200, HEADERS)
    writing = asyncio.create_task(world.writer.write(b"one "))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not writing.done()

    quick, quickly = world.join()
    await writing
    await world.writer.write(b"two", last=True)
    await quickly
    assert (quick.body, slow.body) == (b"one two", b"")
    slow.go.set()
    await world.writer.drained()
    assert (slow.body, slow.end) == (b"one two", "whole")


async def test_a_leader_that_is_stuck_is_cut_off_and_its_follower_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "STUCK_S", 0.05)
    slow = Slow()
    world, cancelled = World(leader=slow), asyncio.Event()
    world.shared.cancel = cancelled.set
    quick, quickly = world.join()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"one ")
    await world.writer.drained()
    assert (slow.end, cancelled.is_set()) == ("aborted", False)

    await world.writer.write(b"two", last=True)
    await quickly
    assert (quick.body, quick.end) == (b"one two", "whole")


async def test_alone_it_can_be_joined_until_its_end() -> None:
    world = World()
    world.writer.start(200, HEADERS)
    for _ in range(100):
        await world.writer.write(b"x" * 1000)
    late, following = world.join()
    await world.writer.write(b"y", last=True)
    await following

    assert late.body == world.leader.body == b"x" * 100_000 + b"y"
    assert world.registry.find(KEY) is None
    assert world.registry.held_bytes == 0


async def test_beyond_the_limit_nobody_can_join_and_what_was_taken_is_let_go() -> None:
    world = World(max_bytes=1000 + CHUNK_COST_BYTES)
    follower, following = world.join()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"x" * 1000)
    assert world.registry.find(KEY) is None  # whoever comes now is served by a request of its own
    for _ in range(10):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await world.writer.write(b"y" * 1000)
        assert world.registry.held_bytes <= world.registry.max_bytes + 1000 + CHUNK_COST_BYTES
    await world.writer.finish()
    await following

    assert follower.body == b"x" * 1000 + b"y" * 10_000
    assert world.registry.held_bytes == 0


async def test_beyond_the_limit_who_lags_furthest_is_cut_off() -> None:
    world, slow = World(max_bytes=10_000), Slow()
    _, slowly = world.join(slow)
    quick, quickly = world.join()
    world.writer.start(200, HEADERS)
    for _ in range(20):
        await world.writer.write(b"x" * 1000)
        for _ in range(4):
            await asyncio.sleep(0)
    await slowly
    await world.writer.finish()
    await quickly

    assert (slow.body, slow.end) == (b"", "aborted")
    assert (len(quick.body), quick.end) == (20_000, "whole")
    assert world.registry.held_bytes == 0


async def test_one_that_grows_makes_the_largest_give_way() -> None:
    world = World(max_bytes=10_000)
    world.writer.start(200, HEADERS)
    await world.writer.write(b"x" * 9000)
    other = world.registry.lead(key(request(b"other"), 1, 0))
    other.join()
    world.registry.grow(other, b"y" * 2000)

    assert world.shared.chunks == []
    assert world.registry.held_bytes == 2000 + CHUNK_COST_BYTES


async def test_one_that_lags_is_given_little_at_a_time() -> None:
    world, slow = World(), Slow()
    _, slowly = world.join(slow)
    world.writer.start(200, HEADERS)
    for _ in range(100):
        await world.writer.write(b"x" * 10_000)
    data, _ = world.shared.following(0)
    assert TAKE_BYTES <= len(data) < TAKE_BYTES + 10_000
    slow.go.set()
    await world.writer.finish()
    await slowly
    assert len(slow.body) == 1_000_000


async def test_nobody_can_join_what_is_being_given_up() -> None:
    world = World()
    _, following = world.join()
    await asyncio.sleep(0)
    world.writer.left()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)

    assert world.registry.find(KEY) is None


async def test_when_all_is_stopped_a_follower_gets_the_last_words_too() -> None:
    client = Slow()
    client.go.set()
    world = World()
    _, following = world.join(client)
    world.writer.start(200, HEADERS)
    await world.writer.write(b"half, ")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    following.cancel()
    await asyncio.sleep(0)
    world.writer.mark_unshareable()
    await world.writer.write(b"stopped", last=True)
    await asyncio.gather(following, return_exceptions=True)

    assert (client.body, client.end) == (b"half, stopped", "whole")


async def test_what_breaks_breaks_for_all() -> None:
    world = World()
    follower, following = world.join()
    world.writer.start(200, HEADERS)
    await world.writer.write(b"half")
    await world.writer.abort()
    await following

    assert (follower.body, follower.end) == (b"half", "aborted")
    assert world.registry.find(KEY) is None


async def test_a_relay_that_dies_leaves_nobody_waiting() -> None:
    world = World()
    follower, following = world.join()
    world.writer.close()
    await following

    assert (follower.status, follower.end) == (0, "aborted")


async def test_the_last_one_who_leaves_ends_it() -> None:
    world, cancelled = World(), asyncio.Event()
    world.shared.cancel = cancelled.set
    (_, first), (_, second) = world.join(), world.join()
    await asyncio.sleep(0)
    world.writer.left()
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
    world.writer.start(status, HEADERS)
    await world.writer.write(b"x")
    await getattr(world.writer, end)()

    assert (world.registry.find(KEY) is not None) is again
    if again:
        taker, task = world.join()
        await task
        assert (taker.body, taker.end) == (b"x", "whole")
    world.clock = 5.1
    assert world.registry.find(KEY) is None
    assert world.registry.held_bytes == 0


async def test_a_short_replay_ends_in_time_behind_a_long_one() -> None:
    world = World(replay_s=3600.0)
    other = key(request(b"other"), 1, 0)
    short = TeeWriter(Taker(), world.registry, world.registry.lead(other), 5.0)
    for writer in (world.writer, short):
        writer.start(200, HEADERS)
        await writer.write(b"x", last=True)
    world.clock = 5.1

    assert world.registry.find(other) is None
    assert world.registry.find(KEY) is world.shared


OUTCOMES = {
    "whole": (200, b"a", "finish", False, "ok"),
    "the caller's fault": (400, b"", "finish", False, "client_error"),
    "everybody overloaded": (529, b"", "finish", False, "failed"),
    "an error behind pings": (200, b"", "finish", True, "failed"),
    "an error behind content": (200, b"a", "finish", True, "broken_stream"),
    "cut": (200, b"a", "abort", False, "broken_stream"),
}


@pytest.mark.parametrize("name", OUTCOMES)
async def test_how_it_ended_for_a_follower(name: str) -> None:
    status, provider, end, unshareable, outcome = OUTCOMES[name]
    world = World()
    taker = world.shared.join()
    following = asyncio.create_task(follow(world.shared, taker, world.registry, Taker(), ()))
    assert world.shared.outcome(taker) == "abandoned"
    world.writer.start(status, ((b"x-balancer-provider", provider),) if provider else ())
    await world.writer.write(b"x")
    if unshareable:
        world.writer.mark_unshareable()
    await getattr(world.writer, end)()
    await following

    assert world.shared.outcome(taker) == outcome
    assert world.shared.provider == provider.decode()
