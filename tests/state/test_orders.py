"""What people order while the balancer runs, and what ends by itself."""

from __future__ import annotations

import asyncio

import pytest

from balancer.dialects.simulated.faults import Drill
from balancer.events import Drilled, ProviderPaused, ProviderResumed, ProviderWoken
from balancer.model import Operation
from balancer.policy.verdicts import Mark, Scope, Trouble, Verdict
from balancer.state.orders import Orders

from .world import BAD, OVERLOADED, World


def orders(world: World) -> Orders:
    return world.fleet.orders


def met(world: World, name: str, at: float) -> None:
    """A request meets an injected fault."""
    world.fleet.observe(world.candidate(name), OVERLOADED, BAD, began=at, now=at, wall=1000.0 + at, injected=True)


NAMED = {
    "wake": lambda world: orders(world).wake("z", 0.0),
    "pause": lambda world: orders(world).pause("z", 0.0),
    "resume": lambda world: orders(world).resume("z", 0.0),
    "inject": lambda world: orders(world).inject("z", Drill("z", "529"), 0.0, 0.0),
    "end a fault": lambda world: orders(world).inject("z", None, 0.0, 0.0),
}


@pytest.mark.parametrize("order", NAMED.values(), ids=NAMED)
def test_an_order_about_nobody_is_refused_and_changes_nothing(order: object) -> None:
    world = World()
    assert callable(order)
    with pytest.raises(KeyError):
        order(world)

    assert world.told == []
    assert world.health.paused == set()
    assert world.fleet.stats("z").drill is None


# Wake


def test_waking_ends_the_cooldowns_of_all_scopes_and_of_nobody_else() -> None:
    world = World()
    for name in "ab":
        for scope in Scope:
            world.observe(
                world.candidate(name), OVERLOADED, Verdict(Mark.BAD, scope=scope, needs_operator=Trouble.KEY), 1.0
            )
    world.told.clear()
    orders(world).wake("a", 1002.0)

    for operation in (Operation.MESSAGES, Operation.COUNT_TOKENS):
        assert world.health.availability(world.candidate("a", operation), 2.0).usable
        assert not world.health.availability(world.candidate("b", operation), 2.0).usable
    assert world.told == [ProviderWoken(1002.0, "a", "operator")]
    assert world.health.state_of(world.candidate("a").provider, 2.0)[1].failures == 0


async def test_waking_wakes_whoever_waits() -> None:
    world = World()
    world.fail("a", 1.0)
    waiting = asyncio.create_task(world.fleet.admission.slot_freed(30.0))
    await asyncio.sleep(0)
    orders(world).wake("a", 0.0)
    await asyncio.wait_for(waiting, 5)


def test_waking_resumes_nobody() -> None:
    world = World()
    orders(world).pause("a", 0.0)
    orders(world).wake("a", 0.0)

    assert world.order() == "bc"


# Pause and resume


def test_a_pause_lasts_until_it_is_taken_back() -> None:
    world = World()
    orders(world).pause("a", 1001.0)
    orders(world).pause("a", 1002.0)
    assert world.order(1e9) == "bc"
    orders(world).resume("a", 1003.0)
    assert world.order(1e9) == "abc"
    orders(world).resume("a", 1004.0)

    assert world.told == [
        ProviderPaused(1001.0, "a"),
        ProviderPaused(1002.0, "a"),
        ProviderResumed(1003.0, "a"),
        ProviderResumed(1004.0, "a"),
    ]


async def test_resuming_wakes_whoever_waits() -> None:
    world = World()
    orders(world).pause("a", 0.0)
    waiting = asyncio.create_task(world.fleet.admission.slot_freed(30.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    orders(world).resume("a", 0.0)
    await asyncio.wait_for(waiting, 5)


def test_a_pause_changes_nothing_of_what_is_known_about_health() -> None:
    world = World()
    world.fail("a", 1.0)
    orders(world).pause("a", 0.0)
    orders(world).resume("a", 0.0)

    assert world.order(2.0) == "bca"


# Injected faults


def test_a_fault_is_injected_and_taken_back() -> None:
    world = World()
    drill = Drill("a", "529")
    orders(world).inject("a", drill, 0.0, 1000.0)
    assert world.fleet.stats("a").drill is drill
    orders(world).inject("a", None, 1.0, 1001.0)

    assert world.fleet.stats("a").drill is None
    assert world.told == [Drilled(1000.0, "a", "529", "until called off"), Drilled(1001.0, "a", "", "off")]


def test_taking_a_fault_back_undoes_what_it_caused_and_nothing_else() -> None:
    world = World()
    orders(world).inject("a", Drill("a", "529"), 0.0, 1000.0)
    world.fail("b", 1.0)
    met(world, "a", 1.0)
    assert world.order(2.0) == "cab"
    world.told.clear()
    orders(world).inject("a", None, 2.0, 1002.0)

    assert world.order(2.0) == "acb"
    assert world.told == [Drilled(1002.0, "a", "", "off"), ProviderWoken(1002.0, "a", "drill")]


def test_another_fault_begins_with_the_health_of_before() -> None:
    world = World()
    orders(world).inject("a", Drill("a", "529"), 0.0, 1000.0)
    met(world, "a", 1.0)
    orders(world).inject("a", Drill("a", "500"), 2.0, 1002.0)

    assert world.order(2.0) == "abc"
    met(world, "a", 3.0)
    orders(world).inject("a", None, 4.0, 1004.0)
    assert world.health.entries == {}


def test_a_fault_for_some_requests_ends_with_the_last_of_them() -> None:
    world = World()
    orders(world).inject("a", Drill("a", "529", requests_left=1), 0.0, 1000.0)
    world.fleet.stats("a").drill = Drill("a", "529", requests_left=0)  # as the relay counts it
    met(world, "a", 1.0)

    assert world.fleet.stats("a").drill is None
    assert world.order(1.0) == "abc"
    kinds = [type(event).__name__ for event in world.told]
    assert kinds == ["Drilled", "CooldownStarted", "Drilled", "ProviderWoken"]
    assert world.told[2] == Drilled(1001.0, "a", "", "over")


def test_a_fault_for_a_time_ends_when_that_is_over() -> None:
    world = World()
    orders(world).inject("a", Drill("a", "529", until=30.0), 0.0, 1000.0)
    met(world, "a", 1.0)
    met(world, "a", 29.0)
    orders(world).end_due(29.99, 1029.0)
    assert world.order(29.99) == "bca"
    assert world.fleet.stats("a").drill is not None
    world.told.clear()
    orders(world).end_due(30.0, 1030.0)

    assert world.order(30.0) == "abc"
    assert world.fleet.stats("a").drill is None
    assert world.told == [Drilled(1030.0, "a", "", "over"), ProviderWoken(1030.0, "a", "drill")]
    orders(world).end_due(31.0, 1031.0)
    assert len(world.told) == 2, "once"


def test_a_request_that_meets_the_fault_and_ends_after_it_causes_nothing_that_lasts() -> None:
    world = World()
    orders(world).inject("a", Drill("a", "silent"), 0.0, 1000.0)
    orders(world).inject("a", None, 1.0, 1001.0)
    met(world, "a", 60.0)

    assert world.order(60.0) == "abc"
    assert world.told[-1] == ProviderWoken(1060.0, "a", "drill")


async def test_the_end_of_a_fault_wakes_whoever_waits() -> None:
    world = World()
    orders(world).inject("a", Drill("a", "529"), 0.0, 1000.0)
    met(world, "a", 1.0)
    waiting = asyncio.create_task(world.fleet.admission.slot_freed(30.0))
    await asyncio.sleep(0)
    orders(world).inject("a", None, 2.0, 1002.0)
    await asyncio.wait_for(waiting, 5)


def test_the_next_end_is_the_earliest() -> None:
    world = World()
    assert orders(world).next_end() is None
    orders(world).inject("a", Drill("a", "529"), 0.0, 0.0)
    assert orders(world).next_end() is None, "until it is called off"
    orders(world).inject("b", Drill("b", "529", until=30.0), 0.0, 0.0)
    orders(world).inject("c", Drill("c", "529", until=20.0), 0.0, 0.0)
    assert orders(world).next_end() == 20.0
    orders(world).inject("c", None, 1.0, 0.0)
    assert orders(world).next_end() == 30.0


# Ended by a probe


def test_a_cooldown_that_a_probe_ends_is_told_and_the_next_request_decides() -> None:
    world = World()
    world.fail("a", 1.0, Verdict(Mark.BAD, needs_operator=Trouble.KEY, reason="401"))
    world.told.clear()
    orders(world).end_early("a", 31.0, 1031.0)

    assert world.told == [ProviderWoken(1031.0, "a", "probe")]
    assert world.order(31.0) == "abc"
    assert world.health.half_open(world.candidate("a"), 31.0) == [("a", Scope.PROVIDER, None)]
