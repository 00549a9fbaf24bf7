"""What named keys have used, over all workers."""

from __future__ import annotations

import asyncio
import time

from state.shared_world import SharedWorld, group_of, shared_worlds

from balancer.policy.grants import KeyGrant
from balancer.sharing.in_process import Group


def _grants(worlds: list[SharedWorld], **limits: int) -> list[KeyGrant]:
    return [KeyGrant("team", world.fleet.keys.of("team"), **limits) for world in worlds]  # type: ignore[arg-type]


async def test_requests_a_minute_are_counted_over_all_workers() -> None:
    with shared_worlds(2) as worlds:
        one, other = _grants(worlds, rpm=3)
        now = time.monotonic()
        for grant in (one, other, one):
            assert grant.exceeded(now) is None
            grant.use.requests.add(1, now)

        for grant in (one, other):
            exceeded = grant.exceeded(time.monotonic())
            assert exceeded is not None
            assert exceeded[0] == "3 requests a minute"
            assert 50 <= exceeded[1] <= 61
            assert grant.exceeded(now + 62) is None


async def test_tokens_a_minute_are_counted_over_all_workers() -> None:
    with shared_worlds(2) as worlds:
        one, other = _grants(worlds, tokens_per_minute=100)
        one.use.tokens.add(100, time.monotonic())

        assert other.exceeded(time.monotonic(), counts=True) is None
        exceeded = other.exceeded(time.monotonic())
        assert exceeded is not None
        assert exceeded[0] == "100 tokens a minute"


async def test_requests_in_flight_are_counted_over_all_workers() -> None:
    with shared_worlds(2) as worlds:
        one, other = _grants(worlds, max_in_flight=2)
        for grant in (one, other):
            assert grant.exceeded(0.0) is None
            grant.began()

        assert [grant.exceeded(0.0) for grant in (one, other)] == [("2 requests in flight", 1)] * 2
        other.use.ended()

        assert one.exceeded(0.0) is None
        assert one.exceeded(0.0) is None, "it may be asked again before the request begins"
        assert other.exceeded(0.0) is not None


async def test_a_request_that_was_let_in_and_never_began_holds_no_place() -> None:
    with shared_worlds(2) as worlds:
        one, other = _grants(worlds, max_in_flight=1)
        assert one.exceeded(0.0) is None
        assert other.exceeded(0.0) is not None

        await asyncio.sleep(0)

        assert other.exceeded(0.0) is None


async def test_a_worker_that_begins_later_knows_what_was_used() -> None:
    with group_of(2) as group:
        one = SharedWorld(group, 0, "", "ab", "")
        one.fleet.keys.of("team").requests.add(5, time.monotonic())

        late = _late(group)

        assert late.fleet.keys.of("team").requests.wait_s(5, time.monotonic()) > 0
        assert late.fleet.keys.of("other").requests.wait_s(1, time.monotonic()) == 0


def _late(group: Group) -> SharedWorld:
    return SharedWorld(group, 1, "", "ab", "")
