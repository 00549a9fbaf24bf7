"""What requests share: order, pins, places, probes, and what survives a reload."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from stand_ins import request

from balancer import config, events
from balancer.model import Candidate, Completed, Fault, Mark, Operation, Refused, Scope, Stage, Verdict
from balancer.state.fleet import COUNTING, HEALTHS_MAX, Fleet

BAD = Verdict(Mark.BAD, retry_elsewhere=True, reason="529 overloaded_error")
GOOD = Verdict(Mark.GOOD)
OVERLOADED = Refused(Fault(529, "overloaded_error"), Stage.WAIT)


def read(settings: str = "", names: str = "abc", secret: str = "s") -> config.Config:
    lines = [
        f'  - {{name: {n}, type: anthropic, base_url: "http://127.0.0.1:1", auth_value: {secret}-{n}}}' for n in names
    ]
    targets = ", ".join(f"{{provider: {n}}}" for n in names)
    text = "\n".join(["providers:", *lines, f'model_routes: {{"*": [{targets}]}}', f"settings: {{{settings}}}"])
    return config.parse(text, "p.yaml", {})


class World:
    def __init__(self, settings: str = "", names: str = "abc") -> None:
        self.told: list[Any] = []
        bus = events.Bus()
        bus.add(self.told.append)
        self.fleet = Fleet(read(settings, names), bus, random.Random(4))

    def order(self, now: float = 0.0, conversation: str | None = None) -> str:
        route = self.fleet.route("m")
        assert route is not None
        candidates, _ = self.fleet.candidates(request(conversation=conversation), route, now)
        return "".join(c.provider.name for c in candidates)

    def candidate(self, name: str) -> Candidate:
        route = self.fleet.route("m")
        assert route is not None
        return next(c for c in self.fleet.candidates(request(), route, 0.0)[0] if c.provider.name == name)

    def fail(self, name: str, now: float, verdict: Verdict = BAD) -> None:
        self.fleet.observe(self.candidate(name), OVERLOADED, verdict, began=now, now=now, wall=0.0)

    def succeed(self, name: str, now: float) -> None:
        self.fleet.observe(self.candidate(name), Completed(), GOOD, began=now, now=now, wall=0.0)


async def test_who_rests_comes_last() -> None:
    world = World()
    world.fail("a", 1.0)

    assert world.order(2.0) == "bca"
    assert world.order(100.0) == "abc"


async def test_round_robin_takes_turns_among_those_that_are_well() -> None:
    world = World("selection_strategy: round_robin")
    assert [world.order()[0] for _ in range(6)] == list("abcabc")

    world.fail("b", 1.0)
    assert {world.order(2.0)[0] for _ in range(4)} == {"a", "c"}


async def test_a_conversation_stays_and_moves_only_on_failure() -> None:
    world = World("selection_strategy: round_robin")
    route = world.fleet.route("m")
    assert route is not None
    world.fleet.pin(world.candidate("b"), request(conversation="x"), route, 0.0)

    assert [world.order(1.0, "x")[0] for _ in range(4)] == list("bbbb")
    assert {world.order(1.0, None)[0] for _ in range(6)} == set("abc")

    world.fail("b", 2.0)
    assert world.order(3.0, "x")[0] != "b"
    world.fleet.pin(world.candidate("c"), request(conversation="x"), route, 3.0)
    assert world.order(50.0, "x")[0] == "c"


async def test_without_sticky_there_are_no_pins() -> None:
    world = World("sticky: {enabled: false}")
    route = world.fleet.route("m")
    assert route is not None
    world.fleet.pin(world.candidate("c"), request(conversation="x"), route, 0.0)

    assert world.order(1.0, "x")[0] == "a"


async def test_a_half_open_provider_is_probed_by_one_request_at_a_time() -> None:
    world = World()
    world.fail("a", 0.0)
    candidate = world.candidate("a")

    with world.fleet.slot(candidate, 10.0):
        assert not world.fleet.availability(candidate, 10.0).usable
        assert world.fleet.health_of(candidate.provider, 10.0)[0] == "probing"
    assert world.fleet.availability(candidate, 10.0).usable

    world.succeed("a", 11.0)
    with world.fleet.slot(candidate, 12.0):
        assert world.fleet.availability(candidate, 12.0).usable


async def test_a_limit_rests_the_model_and_not_the_provider() -> None:
    world = World()
    world.fail("a", 1.0, Verdict(Mark.BAD, retry_elsewhere=True, scope=Scope.MODEL, cooldown_s=30.0, reason="429"))
    other = Candidate(world.candidate("a").provider, "other")

    assert not world.fleet.availability(world.candidate("a"), 2.0).usable
    assert world.fleet.availability(other, 2.0).usable
    assert world.fleet.cooling_models("a", 2.0) == {"m": 29.0}


async def test_a_good_answer_is_told_as_a_recovery_once() -> None:
    world = World()
    world.fail("a", 0.0)
    world.succeed("a", 20.0)
    world.succeed("a", 21.0)

    kinds = [type(event).__name__ for event in world.told]
    assert kinds == ["CooldownStarted", "ProviderRecovered"]


async def test_health_survives_a_reload_by_name_unless_the_key_changed() -> None:
    world = World()
    world.fail("a", 1.0)

    changes = world.fleet.reload(read("request_timeout: 9"), 0.0)
    assert "settings.request_timeout changed" in changes
    assert not world.fleet.availability(world.candidate("a"), 2.0).usable
    assert world.fleet.generation == 1

    world.fleet.reload(read(secret="new"), 0.0)
    assert world.fleet.availability(world.candidate("a"), 2.0).usable


async def test_room_is_waited_for_and_the_wait_is_bounded() -> None:
    world = World("limits: {max_in_flight: 1, queue_s: 0.2}")
    loop = asyncio.get_running_loop()
    with world.fleet:
        assert await world.fleet.room(loop.time) >= 0.2
        full_still = world.fleet.full
        waiting = asyncio.create_task(world.fleet.room(loop.time))
        await asyncio.sleep(0)
    assert full_still
    assert await waiting < 0.2
    assert not world.fleet.full
    assert world.fleet.in_flight == 0


async def test_a_full_provider_says_so() -> None:
    text = """
providers: [{name: a, type: anthropic, base_url: "http://127.0.0.1:1", auth_value: s, max_in_flight: 1}]
model_routes: {"*": [{provider: a}]}
"""
    fleet = Fleet(config.parse(text, "p", {}), events.Bus(), random.Random(1))
    route = fleet.route("m")
    assert route is not None
    (candidate,), _ = fleet.candidates(request(), route, 0.0)

    with fleet.slot(candidate, 0.0):
        assert fleet.availability(candidate, 0.0).full
    assert not fleet.availability(candidate, 0.0).full


async def test_who_counts_tokens_before_each_request_takes_nobodys_turn() -> None:
    world = World("selection_strategy: round_robin", names="ab")
    route = world.fleet.route("m")
    assert route is not None
    asked = []
    for _ in range(4):
        world.fleet.candidates(request(operation=Operation.COUNT_TOKENS), route, 0.0)
        asked.append(world.order()[0])

    assert asked == list("abab")


async def test_who_cannot_count_may_still_answer_and_who_counts_has_not_answered() -> None:
    world = World()
    route = world.fleet.route("m")
    assert route is not None
    candidates, _ = world.fleet.candidates(request(operation=Operation.COUNT_TOKENS), route, 0.0)
    counting, answering = candidates[0], world.candidate("a")

    def counted(verdict: Verdict, at: float) -> None:
        world.fleet.observe(counting, OVERLOADED, verdict, began=at, now=at, wall=0.0)

    counted(Verdict(Mark.BAD, retry_elsewhere=True, scope=Scope.COUNTING, reason="404 not_found_error"), 1.0)
    assert not world.fleet.availability(counting, 2.0).usable
    assert world.fleet.availability(answering, 2.0).usable
    assert list(world.fleet.cooling_models("a", 2.0)) == [COUNTING]

    world.fail("a", 3.0)
    with world.fleet.slot(counting, 20.0):
        assert world.fleet.availability(answering, 20.0).usable, "counting is no probe"
        assert world.fleet.health_of(answering.provider, 20.0)[0] == "healthy"
    counted(GOOD, 20.0)
    assert world.fleet.availability(counting, 20.0).usable
    with world.fleet.slot(answering, 20.0):
        assert not world.fleet.availability(answering, 20.0).usable, "a good count ends no rest"


async def test_models_that_clients_make_up_do_not_fill_the_memory() -> None:
    world = World()
    route = world.fleet.route("m")
    assert route is not None
    for number in range(2 * HEALTHS_MAX):
        made_up, _ = world.fleet.candidates(request(model=f"m{number}"), route, 0.0)
        gone = Verdict(Mark.BAD, retry_elsewhere=True, scope=Scope.MODEL, reason="404")
        world.fleet.observe(made_up[0], OVERLOADED, gone, began=number, now=number, wall=0.0)

    assert len(world.fleet.cooling_models("a", 0.0)) <= HEALTHS_MAX


async def test_without_rests_who_was_passed_over_is_named_with_its_failure() -> None:
    world = World("failure_cooldown: 0", names="ab")
    world.fail("b", 1.0)

    assert world.fleet.cooling_down([world.candidate("b")], 1.0)[0] == [("b", "529 overloaded_error")]


async def test_who_waits_no_longer_for_a_place_is_forgotten_and_the_others_are_woken() -> None:
    fleet = World().fleet
    waiting = [asyncio.create_task(fleet.slot_freed(within_s)) for within_s in (60.0, 60.0, 0.001)]
    await waiting[2]
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])

    assert len(fleet._queue) == 1
    with fleet:
        pass
    await waiting[1]
    assert not fleet._queue
