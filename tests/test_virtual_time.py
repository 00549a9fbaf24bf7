"""Virtual time: nothing waits, the order is that of the clock, and every run is the same."""

from __future__ import annotations

import asyncio
import time

import pytest
from stand_ins import Taker, request
from virtual_time import NothingWillHappen, in_virtual_time, run
from worlds import GOOD, SSE, START, World, error

from balancer import events
from balancer.script import Data, Fail, Pause, Step


def test_a_day_passes_at_once() -> None:
    async def sleepy() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run(sleepy()) == pytest.approx(86_400)
    assert time.monotonic() - began < 5


@in_virtual_time
async def test_timers_run_in_the_order_of_their_times() -> None:
    seen: list[str] = []

    async def after(seconds: float, name: str) -> None:
        await asyncio.sleep(seconds)
        seen.append(name)

    await asyncio.gather(after(3, "c"), after(1, "a"), after(2, "b"))

    assert seen == ["a", "b", "c"]


@in_virtual_time
async def test_a_timeout_ends_what_would_take_longer() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await asyncio.sleep(11)

    assert asyncio.get_running_loop().time() == pytest.approx(10)


@in_virtual_time
async def test_work_for_threads_is_done_at_once() -> None:
    assert await asyncio.to_thread(sum, (1, 2)) == 3
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(divmod, 1, 0)


def test_waiting_for_what_can_not_happen_is_an_error_and_no_hang() -> None:
    async def waits() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NothingWillHappen):
        run(waits())


def afternoon() -> tuple[list[str], list[events.Event]]:
    """Play an afternoon of requests to two providers of which one keeps failing; return who was asked, and all events."""

    async def play() -> tuple[list[str], list[events.Event]]:
        ill: list[list[Step]] = [
            error(529),
            [SSE, Data(START), Pause(30)],
            [Fail("reset")],
            error(429, "rate_limit_error", retry_after="20"),
        ]
        world = World(ill, [GOOD])
        await asyncio.gather(*(after(world, 45.0 * number) for number in range(200)))
        return list(world.asked), world.events

    async def after(world: World, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await world.relay.answer(request(), Taker())

    return run(play())


def test_relay_state_and_policy_play_the_same_afternoon_twice() -> None:
    asked, seen = afternoon()

    assert (asked, seen) == afternoon()
    assert asked.count("b") >= 190
    assert 4 <= asked.count("a") <= 199, "it is asked again when its cooldown is over, and not before"
    last = [event for event in seen if isinstance(event, events.RequestEnded)][-1]
    assert last.outcome == "ok"
