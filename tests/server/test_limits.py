"""When a body is late."""

from __future__ import annotations

import asyncio

import pytest
from virtual_time import in_virtual_time, loop

from balancer.server.limits import BodyTimer, ClientLimits

LIMITS = ClientLimits()


class Late:
    """Notes when it is called."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def __call__(self) -> None:
        self.at.append(loop().time())


def timer(late: Late) -> BodyTimer:
    return BodyTimer(loop(), LIMITS, late)


@in_virtual_time
async def test_a_body_that_stops_is_late_once_after_its_time() -> None:
    late = Late()
    body = timer(late)
    body.add(10_000)
    await asyncio.sleep(10)
    body.add(10_000)
    await asyncio.sleep(1000)

    assert late.at == [pytest.approx(10 + LIMITS.body_idle_s)]


PACES = {
    "just fast enough": (LIMITS.body_min_bytes_per_s + 10, False),
    "a little too slow": (LIMITS.body_min_bytes_per_s - 10, True),
}


@pytest.mark.parametrize(("bytes_per_s", "expected"), PACES.values(), ids=PACES)
@in_virtual_time
async def test_a_body_that_drips_is_late_after_the_same_time(bytes_per_s: float, expected: bool) -> None:
    late = Late()
    body = timer(late)
    for _ in range(1000):
        if not late.at:
            body.add(int(bytes_per_s / 2))
            await asyncio.sleep(0.5)

    assert bool(late.at) is expected
    assert late.at == ([pytest.approx(LIMITS.body_idle_s, abs=1)] if expected else [])


@in_virtual_time
async def test_a_body_that_is_whole_is_not_late_and_costs_no_timer_for_the_next() -> None:
    late = Late()
    body = timer(late)
    timers = loop().timers
    for _ in range(10):
        body.add(1)
        body.waiting = False
        await asyncio.sleep(1)
    assert loop().timers - timers - 10 == 1  # ten of them are this test's own
    await asyncio.sleep(1000)

    assert late.at == []


@in_virtual_time
async def test_the_time_of_the_next_body_begins_with_its_own_first_part() -> None:
    late = Late()
    body = timer(late)
    body.add(1)
    body.waiting = False
    await asyncio.sleep(29)
    body.add(1)
    await asyncio.sleep(1000)

    assert late.at == [pytest.approx(29 + LIMITS.body_idle_s)]


@in_virtual_time
async def test_a_late_body_can_begin_again() -> None:
    late = Late()
    body = timer(late)
    body.add(1)
    await asyncio.sleep(LIMITS.body_idle_s + 1)
    assert not body.waiting
    body.add(1)
    await asyncio.sleep(LIMITS.body_idle_s + 1)

    assert len(late.at) == 2


@in_virtual_time
async def test_a_closed_timer_does_nothing() -> None:
    late = Late()
    body = timer(late)
    body.close()
    body.add(1)
    body.close()
    body.close()
    await asyncio.sleep(1000)

    assert (late.at, body.waiting) == ([], False)
