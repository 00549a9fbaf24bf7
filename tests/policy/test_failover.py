"""The failover rule, as stories: who is asked, who waits, when it is over."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import candidate

from balancer.model import Abandoned, Broken, Candidate, Completed, Fault, Outcome, Refused, Stage, Unfit
from balancer.policy import exhausted
from balancer.policy import failover as failover_rule
from balancer.policy.failover import (
    EARNING_S,
    LOOK_AGAIN_S,
    NEAR_S,
    RETRIES,
    SHOWN_S,
    WAIT_MAX_S,
    Availability,
    Done,
    Failover,
    Next,
    Phase,
    Try,
    Wait,
)
from balancer.policy.retry_budget import Budget
from balancer.script import Cause

A, B, C = (candidate(name) for name in "abc")
OVERLOADED = Refused(Fault(529, "overloaded_error"), Stage.WAIT)
REFUSED = Broken(Stage.CONNECT, Cause.REFUSED)


@dataclass
class World:
    """Standings by provider name; whoever is not named is usable and proven."""

    states: dict[str, Availability] = field(default_factory=dict)

    def __call__(self, candidate: Candidate, now: float) -> Availability:
        return self.states.get(candidate.provider.name, Availability(usable=True, proven=True))


def travel(failover: Failover, world: World, script: dict[str, Outcome], now: float = 0.0) -> list[str]:
    """Step a journey to its end; return who was asked and how long it waited in between."""
    told: list[str] = []
    while True:
        step: Next = failover.next(now, world, chance=1.0)
        match step:
            case Done():
                return told
            case Wait(seconds=seconds):
                told.append(f"wait {seconds:g}")
                now += seconds
                if step.for_place:
                    failover.queued_s += seconds
            case Try(candidate=who):
                told.append(who.provider.name)
                failover.record(who, script.get(who.provider.name, Completed()))


def failover(*candidates: Candidate, budget: float = 10.0, deadline: float = 300.0) -> Failover:
    return Failover(candidates, deadline, Budget(tokens=budget))


def test_the_first_answers() -> None:
    assert travel(failover(A, B), World(), {}) == ["a"]


def test_the_next_is_asked_at_once_when_the_first_fails() -> None:
    assert travel(failover(A, B), World(), {"a": OVERLOADED}) == ["a", "b"]


def test_the_callers_own_fault_ends_it() -> None:
    fault = Refused(Fault(400, "invalid_request_error", "messages: too few"), Stage.WAIT)

    assert travel(failover(A, B), World(), {"a": fault}) == ["a"]


def test_after_content_nobody_else_is_asked() -> None:
    assert travel(failover(A, B), World(), {"a": Broken(Stage.STREAM, Cause.RESET)}) == ["a"]


def test_all_failed_come_back_with_growing_waits_to_who_failed_longest_ago() -> None:
    world = World({"a": Availability(True, last_failure=2.0), "b": Availability(True, last_failure=1.0)})

    assert travel(failover(A, B), world, {"a": REFUSED, "b": REFUSED}) == ["a", "b", "wait 0.5", "b", "wait 1", "b"]


def test_a_single_provider_gets_the_retries_itself() -> None:
    told = travel(failover(A), World(), {"a": OVERLOADED})

    assert told == ["a", "wait 0.5", "a", "wait 1", "a"]
    assert told.count("a") == 1 + RETRIES


def test_without_budget_nobody_comes_back() -> None:
    assert travel(failover(A, budget=0.0), World(), {"a": OVERLOADED}) == ["a"]


def test_a_named_rest_is_respected_when_coming_back() -> None:
    short = Refused(Fault(429, "rate_limit_error", retry_after_s=3.0), Stage.WAIT)
    long = Refused(Fault(429, "rate_limit_error", retry_after_s=30.0), Stage.WAIT)

    assert travel(failover(A), World(), {"a": short})[:3] == ["a", "wait 3", "a"]
    assert travel(failover(A), World(), {"a": long}) == ["a"]


def test_a_refused_key_is_not_asked_again() -> None:
    assert travel(failover(A), World(), {"a": Refused(Fault(401, "authentication_error"), Stage.WAIT)}) == ["a"]


def test_who_rests_is_skipped() -> None:
    world = World({"a": Availability(usable=False, cooldown_until=50.0)})

    assert travel(failover(A, B), world, {}) == ["b"]


def test_a_near_recovery_is_waited_for_and_the_probe_of_another_request_too_then_the_panic_rule_tries_once() -> None:
    world = World({"a": Availability(usable=False, cooldown_until=4.0, last_failure=-1.0)})
    told = travel(failover(A), world, {}, now=0.0)

    assert told[0] == "wait 4"
    waits_s = [float(step.removeprefix("wait ")) for step in told[1:-1]]
    assert waits_s[0] == LOOK_AGAIN_S
    assert sum(waits_s) == pytest.approx(WAIT_MAX_S - 4.0, abs=LOOK_AGAIN_S)
    assert told[-1] == "a"


def test_waiting_for_recoveries_costs_no_token() -> None:
    way = failover(A, B, budget=0.0)
    way.record(A, OVERLOADED)
    world = World({"b": Availability(usable=False, cooldown_until=2.0)})
    assert way.next(0.0, world, 1.0) == Wait(2.0)
    assert way.next(2.0, world, 1.0) == Wait(LOOK_AGAIN_S), "another request probes it"
    world.states.clear()

    assert way.next(2.1, world, 1.0) == Try(B, 297.9, last_hope=True)


def test_with_everybody_resting_long_tokens_buy_one_try_after_the_other() -> None:
    failed_at = {"a": 3.0, "b": 1.0, "c": 2.0}
    cooling = World({n: Availability(False, cooldown_until=50.0, last_failure=at) for n, at in failed_at.items()})
    script: dict[str, Outcome] = {"b": OVERLOADED, "c": OVERLOADED}

    assert travel(failover(A, B, C, budget=2.0), cooling, script) == ["b", "c", "a"]
    assert travel(failover(A, B, C, budget=1.9), cooling, script) == ["b", "c"]
    assert travel(failover(A, B, C, budget=0.0), cooling, script) == ["b"], "the first try is free"


def test_what_needs_a_person_is_the_last_choice_of_the_panic_rule_and_no_second_one() -> None:
    broken = Availability(False, cooldown_until=500.0, last_failure=1.0, needs_operator=True)
    cooling = Availability(False, cooldown_until=50.0, last_failure=3.0)

    assert travel(failover(A, B), World({"a": broken, "b": cooling}), {"b": OVERLOADED})[0] == "b"
    assert "a" not in travel(failover(A, B), World({"a": broken, "b": cooling}), {"b": OVERLOADED})
    assert travel(failover(A, B), World({"a": broken, "b": broken}), {"a": OVERLOADED})[0] == "a"


def named(until: float) -> Availability:
    return Availability(usable=False, cooldown_until=until, last_failure=1.0, named_until=until)


def test_a_cooldown_that_the_provider_named_is_kept() -> None:
    cooling = Availability(usable=False, cooldown_until=50.0, last_failure=3.0)

    assert travel(failover(A), World({"a": named(50.0)}), {}) == []
    assert travel(failover(A, B), World({"a": named(50.0), "b": named(60.0)}), {}) == []
    assert travel(failover(A, B), World({"a": named(50.0), "b": cooling}), {}) == ["b"]
    assert travel(failover(A), World({"a": named(4.0)}), {})[0] == "wait 4", "it is near"


def test_who_failed_is_come_back_to_while_the_other_ones_keep_what_they_named() -> None:
    world = World({"b": named(100.0)})

    assert travel(failover(A, B), world, {"a": OVERLOADED}) == ["a", "wait 0.5", "a", "wait 1", "a"]
    assert travel(failover(A, B), World({"a": named(50.0), "b": named(100.0)}), {}) == []


def test_what_another_request_was_told_meanwhile_is_kept_when_coming_back() -> None:
    way = failover(A)
    way.record(A, OVERLOADED)

    assert way.next(0.0, World({"a": named(3.0)}), 1.0) == Wait(3.0)
    late = failover(A)
    late.record(A, OVERLOADED)
    assert late.next(0.0, World({"a": named(NEAR_S + 0.1)}), 1.0) == Done()


def test_what_another_request_is_told_during_the_wait_before_coming_back_is_kept() -> None:
    way = failover(A)
    way.record(A, OVERLOADED)
    assert way.next(0.0, World(), 1.0) == Wait(0.5)

    assert way.next(0.5, World({"a": named(900.0)}), 1.0) == Done()

    near = failover(A)
    near.record(A, OVERLOADED)
    assert near.next(0.0, World(), 1.0) == Wait(0.5)
    assert near.next(0.5, World({"a": named(3.5)}), 1.0) == Wait(3.0)
    assert near.next(3.5, World({"a": named(3.5)}), 1.0) == Try(A, 296.5, last_hope=True)


def test_who_was_told_to_wait_during_the_wait_leaves_the_return_to_another_one() -> None:
    world = World({"a": Availability(True, last_failure=1.0), "b": Availability(True, last_failure=2.0)})
    way = failover(A, B)
    way.record(A, OVERLOADED)
    way.record(B, OVERLOADED)
    assert way.next(3.0, world, 1.0) == Wait(0.5)
    world.states["a"] = Availability(True, full=True, last_failure=1.0, named_until=900.0)

    assert way.next(3.5, world, 1.0) == Wait(1.0)
    assert way.next(4.5, world, 1.0) == Try(B, 295.5, last_hope=True)


@pytest.mark.parametrize("cause", [Cause.SILENT, Cause.HEAD_TIMEOUT, Cause.IDLE_TIMEOUT])
def test_who_was_too_slow_is_not_asked_to_begin_anew(cause: Cause) -> None:
    assert travel(failover(A), World(), {"a": Broken(Stage.WAIT, cause)}) == ["a"]
    told = travel(failover(A, B), World(), {"a": Broken(Stage.WAIT, cause), "b": OVERLOADED})
    assert told == ["a", "b", "wait 0.5", "b", "wait 1", "b"]


LEFT: dict[str, tuple[Availability, bool]] = {
    "a usable one": (Availability(usable=True), False),
    "one that is full now": (Availability(usable=True, full=True), False),
    "one that is usable before the time is up": (Availability(usable=False, cooldown_until=59.9), False),
    "one that is usable only then": (Availability(usable=False, cooldown_until=60.0), True),
    "a paused one": (Availability(usable=False, paused=True), True),
}


@pytest.mark.parametrize(("other", "last_hope"), LEFT.values(), ids=LEFT)
def test_the_last_hope_is_who_nobody_else_could_replace_in_time(other: Availability, last_hope: bool) -> None:
    world = World({"b": other})
    assert failover(A, B).next(0.0, world, 1.0) == Try(A, 300.0, last_hope)
    well = Failover([A, B], 300.0, Budget(), all_well=True)
    assert well.next(0.0, world, 1.0) == Try(A, 300.0, last_hope=False), "nobody looks"
    well.record(A, OVERLOADED)
    assert well.next(0.0, World({"b": Availability(True), "a": other}), 1.0) == Try(B, 300.0, last_hope=True)


def test_with_everybody_resting_long_who_failed_longest_ago_is_tried_first() -> None:
    world = World(
        {
            "a": Availability(usable=False, cooldown_until=50.0, last_failure=9.0),
            "b": Availability(usable=False, cooldown_until=60.0, last_failure=3.0),
        }
    )

    assert travel(failover(A, B), world, {"a": OVERLOADED, "b": OVERLOADED})[:2] == ["b", "a"]


def test_full_providers_are_passed_over_and_a_queue_is_bounded() -> None:
    full = Availability(usable=True, full=True)
    overloaded = failover(A, B)

    assert travel(failover(A, B), World({"a": full}), {}) == ["b"]
    assert travel(overloaded, World({"a": full, "b": full}), {}) == ["wait 10"]
    assert overloaded.overloaded


def test_an_unproven_provider_costs_a_token_when_others_are_on_their_way_to_it() -> None:
    world = World({"b": Availability(usable=True, in_flight=3)})
    budget = Budget(tokens=1.0)

    first = Failover([A, B], 300.0, budget)
    assert travel(first, world, {"a": OVERLOADED}) == ["a", "b"]
    assert budget.tokens == 0.0

    second = Failover([A, B], 300.0, budget)
    second.record(A, OVERLOADED)
    assert isinstance(second.next(0.0, world, 1.0), Wait)  # until the others have shown the way
    assert isinstance(second.next(0.1, World(), 1.0), Try)  # they have


def test_one_request_may_always_look_whether_the_way_is_good() -> None:
    world = World({"b": Availability(usable=True, in_flight=0)})

    assert travel(failover(A, B, budget=0.0), world, {"a": OVERLOADED}) == ["a", "b"]


def test_a_total_outage_is_not_amplified() -> None:
    """100 requests against two dead providers: at most 1.2 attempts each, and 10."""
    budget, attempts, down = Budget(), 0, World()
    for _ in range(100):
        told = travel(Failover([A, B], 300.0, budget), down, {"a": OVERLOADED, "b": OVERLOADED})
        attempts += sum(not step.startswith("wait") for step in told)
        down = World({n: Availability(usable=False, cooldown_until=1e9, last_failure=1.0) for n in "ab"})

    assert attempts <= 1.2 * 100 + 10


def test_the_deadline_ends_it() -> None:
    late = failover(A, B, deadline=10.0)

    assert isinstance(late.next(10.0, World(), 1.0), Done)


def test_a_request_that_nobody_can_take_goes_to_everybody_without_cost() -> None:
    budget = Budget(tokens=0.0)
    world = World({name: Availability(usable=True, in_flight=5) for name in "ab"})

    assert travel(Failover([A, B], 300.0, budget), world, {"a": Unfit("no"), "b": Unfit("no")}) == ["a", "b"]


def test_who_has_just_failed_is_not_asked_without_a_token_even_where_nobody_rests() -> None:
    just_failed = World({"b": Availability(usable=True, last_failure=9.7)})
    assert travel(failover(A, B, budget=0), just_failed, {"a": OVERLOADED}, now=10.0) == ["a"]
    assert travel(failover(A, B, budget=1), just_failed, {"a": OVERLOADED}, now=10.0) == ["a", "b"]

    failed_before = World({"b": Availability(usable=True, last_failure=8.5)})
    assert travel(failover(A, B, budget=0), failed_before, {"a": OVERLOADED}, now=10.0) == ["a", "b"]


def test_coming_back_waits_for_a_place() -> None:
    world = World({"a": Availability(usable=True, full=True, in_flight=1)})
    way = failover(A)
    way.record(A, OVERLOADED)

    waits = [way.next(0.0, world, 1.0), way.next(0.5, world, 1.0)]
    world.states.clear()

    assert waits == [Wait(0.5), Wait(10.0, for_place=True)]
    assert isinstance(way.next(1.0, world, 1.0), Try)


def test_in_panic_nobody_is_asked_who_is_full() -> None:
    world = World(
        {
            "a": Availability(usable=False, full=True, cooldown_until=100.0, last_failure=1.0),
            "b": Availability(usable=False, cooldown_until=100.0, last_failure=2.0),
        }
    )

    step = failover(A, B).next(10.0, world, 1.0)

    assert isinstance(step, Try)
    assert step.candidate is B


def test_who_queues_looks_again_when_somebody_has_rested() -> None:
    world = World({"a": Availability(usable=True, full=True), "b": Availability(usable=False, cooldown_until=13.0)})

    assert failover(A, B).next(10.0, world, 1.0) == Wait(3.0, for_place=True)


def test_what_is_dispensable_is_neither_waited_for_nor_asked_twice() -> None:
    def counting(*candidates: Candidate) -> Failover:
        return Failover(candidates, 300.0, Budget(), optional=True)

    resting = World({"a": Availability(usable=False, cooldown_until=3.0)})
    full = World({"a": Availability(usable=True, full=True)})

    assert travel(counting(A, B), World(), {"a": OVERLOADED, "b": OVERLOADED}) == ["a", "b"]
    assert travel(counting(A), resting, {}) == []
    assert travel(counting(A), full, {}) == []


def test_a_model_that_is_not_there_is_not_asked_for_again() -> None:
    assert travel(failover(A), World(), {"a": Refused(Fault(404, "not_found_error"), Stage.WAIT)}) == ["a"]


def test_a_prompt_that_is_too_long_goes_to_a_larger_context_and_to_no_other() -> None:
    long = Refused(Fault(400, "invalid_request_error", "prompt is too long: 2 tokens > 1 maximum"), Stage.WAIT)
    small, same = candidate("a"), candidate("b")
    large = dataclasses.replace(candidate("c"), context_window=1_000_000)

    assert travel(failover(small, same, large), World(), {"a": long}) == ["a", "c"]
    assert travel(failover(small, large, same), World(), {"a": long, "c": long}) == ["a", "c"]
    assert travel(failover(large, small), World(), {"c": long}) == ["c"]
    assert travel(failover(small, same), World(), {"a": long}) == ["a"]


def test_the_larger_context_that_fails_is_told_as_a_prompt_that_is_too_long() -> None:
    long = Refused(Fault(400, "invalid_request_error", "prompt is too long: 2 tokens > 1 maximum"), Stage.WAIT)
    way = failover(candidate("a"), dataclasses.replace(candidate("c"), context_window=9))
    travel(way, World(), {"a": long, "c": OVERLOADED})

    assert exhausted.answer("m", way.attempts, [], None, overloaded=False).status == 400


# What a substitute can't take

NARROW = Refused(Fault(400, "invalid_request_error", "tools.0.x: Extra inputs are not permitted"), Stage.WAIT)
FIRST, SECOND = candidate("a", priority=1), candidate("b", priority=2)


def test_what_a_substitute_cant_take_is_no_answer_while_the_first_may_be_back_soon() -> None:
    busy = Refused(Fault(529, "overloaded_error", retry_after_s=2.0), Stage.WAIT)
    way = failover(FIRST, SECOND)
    told = travel(way, World(), {"a": busy, "b": NARROW})

    assert told[:4] == ["a", "b", "wait 2", "a"]
    assert told.count("b") == 1, "it would say the same"
    assert exhausted.answer("m", way.attempts, [], None, overloaded=False).status == 503


def test_the_first_that_cools_down_is_waited_for_where_its_substitute_cant_take_it() -> None:
    world = World({"a": Availability(usable=False, cooldown_until=3.0)})

    assert travel(failover(FIRST, SECOND), world, {"b": NARROW})[:2] == ["b", "wait 3"]


def test_what_the_first_cant_take_goes_back_at_once() -> None:
    assert travel(failover(FIRST, SECOND), World(), {"a": NARROW}) == ["a"]
    refused_key = Refused(Fault(401, "authentication_error"), Stage.WAIT)
    way = failover(FIRST, SECOND)
    assert travel(way, World(), {"a": refused_key, "b": NARROW}) == ["a", "b"], "that does not pass"
    assert exhausted.answer("m", way.attempts, [], None, overloaded=False).status == 400


# Bounds


@pytest.mark.parametrize(("now", "step"), [(99.99, Try), (100.0, Done), (100.01, Done)])
def test_nothing_begins_at_the_deadline(now: float, step: type[Next]) -> None:
    assert isinstance(failover(A, deadline=100.0).next(now, World(), 1.0), step)


def test_without_candidates_it_is_over() -> None:
    assert failover().next(0.0, World(), 1.0) == Done()


def test_a_try_has_the_time_that_is_left_and_knows_whether_it_is_the_last_hope() -> None:
    way = failover(A, B, deadline=100.0)
    assert way.next(40.0, World(), 1.0) == Try(A, 60.0, last_hope=False)
    way.record(A, OVERLOADED)

    assert way.next(70.0, World(), 1.0) == Try(B, 30.0, last_hope=True)


def test_coming_back_is_not_planned_beyond_the_deadline_and_costs_nothing_then() -> None:
    way = failover(A, deadline=1.0)
    way.record(A, REFUSED)

    assert way.next(0.5, World(), 1.0) == Done(), "the wait would end at the deadline"
    assert way.budget.tokens == 10.0
    assert way.next(0.49, World(), 1.0) == Wait(0.5)
    assert way.budget.tokens == 9.0


@pytest.mark.parametrize(("chance", "waits"), [(0.0, [0.0, 0.0]), (0.5, [0.25, 0.5]), (1.0, [0.5, 1.0])])
def test_waits_before_coming_back_double_with_full_jitter(chance: float, waits: list[float]) -> None:
    way, seen = failover(A), []
    way.record(A, OVERLOADED)
    for _ in range(RETRIES):
        step = way.next(0.0, World(), chance)
        assert isinstance(step, Wait)
        seen.append(step.seconds)
        assert isinstance(way.next(0.0, World(), chance), Try)
        way.record(A, OVERLOADED)

    assert seen == waits
    assert way.next(0.0, World(), chance) == Done()
    assert way.budget.tokens == 10.0 - RETRIES, "each return costs one token"


@pytest.mark.parametrize(("named_s", "asked_again"), [(NEAR_S, True), (NEAR_S + 0.1, False)])
def test_a_cooldown_that_the_provider_named_is_waited_for_if_it_is_near(named_s: float, asked_again: bool) -> None:
    limited = Refused(Fault(429, "rate_limit_error", retry_after_s=named_s), Stage.WAIT)
    steps = travel(failover(A), World(), {"a": limited})

    assert steps[1:3] == ([f"wait {named_s:g}", "a"] if asked_again else [])


@pytest.mark.parametrize(("left_s", "step"), [(NEAR_S, Wait(NEAR_S)), (NEAR_S + 0.01, Try(A, 290.0, True))])
def test_a_recovery_is_waited_for_if_it_is_near(left_s: float, step: Next) -> None:
    world = World({"a": Availability(usable=False, cooldown_until=10.0 + left_s)})

    assert failover(A).next(10.0, world, 1.0) == step


@pytest.mark.parametrize(("deadline", "waits"), [(13.0, False), (13.01, True)])
def test_a_recovery_at_the_deadline_is_not_waited_for(deadline: float, waits: bool) -> None:
    world = World({"a": Availability(usable=False, cooldown_until=13.0)})

    assert isinstance(failover(A, deadline=deadline).next(10.0, world, 1.0), Wait) is waits


def test_recoveries_are_waited_for_a_bounded_time() -> None:
    way, world = failover(A), World({"a": Availability(usable=False, cooldown_until=4.0)})
    assert way.next(0.0, world, 1.0) == Wait(4.0)
    world.states["a"] = Availability(usable=False, cooldown_until=8.5)
    assert way.next(4.0, world, 1.0) == Wait(4.5)
    world.states["a"] = Availability(usable=False, cooldown_until=10.5)

    assert way.next(8.5, world, 1.0) == Try(A, 291.5, last_hope=True), "that would be 10.5 s in all"
    assert way.phase is Phase.PANICKED


def test_a_token_is_waited_for_while_requests_succeed() -> None:
    budget = Budget(tokens=0.9)
    way, world = Failover([A, B], 300.0, budget), World({"b": Availability(False, cooldown_until=99.0)})
    way.record(A, OVERLOADED)
    budget.earned_at = 10.0
    assert way.next(10.0 + EARNING_S, world, 1.0) == Wait(LOOK_AGAIN_S)
    assert way.next(10.01 + EARNING_S, world, 1.0) == Done(), "nobody earns any"
    budget.earn(11.5)

    assert isinstance(way.next(11.6, world, 1.0), Try)


def test_a_token_is_waited_for_a_bounded_time() -> None:
    budget = Budget(tokens=0.0, earned_at=0.0)
    way, world, now = Failover([A, B], 300.0, budget), World({"b": Availability(False, cooldown_until=99.0)}), 0.0
    way.record(A, OVERLOADED)
    while isinstance(step := way.next(now, world, 1.0), Wait):
        now = budget.earned_at = now + step.seconds

    assert now == pytest.approx(WAIT_MAX_S, abs=2 * LOOK_AGAIN_S)


def test_a_probe_by_another_request_is_waited_for_a_while() -> None:
    """It is not usable, and its cooldown is over."""
    world = World({"a": Availability(usable=False, cooldown_until=5.0, in_flight=1)})
    way, now = failover(A), 10.0
    while isinstance(step := way.next(now, world, 1.0), Wait):
        now += step.seconds

    assert now == pytest.approx(10.0 + WAIT_MAX_S, abs=2 * LOOK_AGAIN_S)
    assert isinstance(step, Try)


@pytest.mark.parametrize(("ago_s", "steps"), [(SHOWN_S - 0.01, ["a"]), (SHOWN_S, ["a", "b"])])
def test_what_has_just_failed_needs_a_token(ago_s: float, steps: list[str]) -> None:
    world = World({"b": Availability(usable=True, last_failure=10.0 - ago_s)})

    assert travel(failover(A, B, budget=0), world, {"a": OVERLOADED}, now=10.0) == steps


def test_behind_another_request_one_looks_again_soon_and_within_the_deadline() -> None:
    busy = World({"b": Availability(usable=True, in_flight=1)})
    way, late = failover(A, B, budget=0), failover(A, B, budget=0, deadline=10.01)
    for each in (way, late):
        each.record(A, OVERLOADED)

    assert way.next(10.0, busy, 1.0) == Wait(LOOK_AGAIN_S)
    assert isinstance(step := late.next(10.0, busy, 1.0), Wait)
    assert step.seconds == pytest.approx(0.01)


def test_behind_another_request_a_later_provider_that_is_known_to_work_is_asked_at_once() -> None:
    busy = World({"b": Availability(usable=True, in_flight=1)})

    assert travel(failover(A, B, C, budget=0), busy, {"a": OVERLOADED}) == ["a", "c"]


@pytest.mark.parametrize("last_failure", [0.0, 9.9])
def test_behind_another_request_a_later_provider_that_nobody_asks_is_asked_at_once(last_failure: float) -> None:
    busy = Availability(usable=True, in_flight=1)
    world = World({"b": busy, "c": Availability(usable=True, last_failure=last_failure)})
    way = failover(A, B, C, budget=0)
    way.record(A, OVERLOADED)

    expected = Wait(LOOK_AGAIN_S) if last_failure else Try(C, 290.0, last_hope=False)
    assert way.next(10.0, world, 1.0) == expected


def test_behind_a_request_that_takes_long_one_looks_less_and_less_often() -> None:
    busy = World({"b": Availability(usable=True, in_flight=1)})
    way, now, waits_s = failover(A, B, budget=0), 0.0, []
    way.record(A, OVERLOADED)
    while isinstance(step := way.next(now, busy, 1.0), Wait):
        waits_s.append(step.seconds)
        now += step.seconds

    assert now == pytest.approx(300.0)
    assert len(waits_s) < 350
    assert all(wait_s <= max(LOOK_AGAIN_S, sum(waits_s[:at]) / 8 + 1e-9) for at, wait_s in enumerate(waits_s))


def test_who_queues_looks_again_when_what_has_just_failed_may_be_asked() -> None:
    world = World({"b": Availability(usable=True, full=True), "c": Availability(usable=True, last_failure=9.75)})
    way = failover(A, B, C, budget=0)
    way.record(A, OVERLOADED)

    assert way.next(10.0, world, 1.0) == Wait(SHOWN_S - 0.25, for_place=True)
    assert way.next(10.25, world, 1.0) == Try(C, 289.75, last_hope=False)


# Tokens


def test_what_costs_a_token_and_what_does_not() -> None:
    unproven, cooling = Availability(usable=True, in_flight=1), Availability(usable=False, cooldown_until=100.0)
    costs: dict[str, tuple[Failover, World, list[tuple[Candidate, Outcome]]]] = {
        "a first try": (failover(A, B), World({"a": unproven}), []),
        "going on to what is proven": (failover(A, B), World(), [(A, OVERLOADED)]),
        "going on to what no request asks": (failover(A, B), World({"b": Availability(True)}), [(A, OVERLOADED)]),
        "going on after a request that was not fit": (failover(A, B), World({"b": unproven}), [(A, Unfit("no"))]),
        "panic of the first": (failover(A), World({"a": cooling}), []),
    }
    for name, (way, world, earlier) in costs.items():
        for who, outcome in earlier:
            way.record(who, outcome)
        assert isinstance(way.next(0.0, world, 1.0), Try), name
        assert way.budget.tokens == 10.0, name

    for name, world in {"what is unproven": World({"b": unproven}), "panic": World({"b": cooling})}.items():
        way = failover(A, B)
        way.record(A, OVERLOADED)
        assert isinstance(way.next(0.0, world, 1.0), Try), name
        assert way.budget.tokens == 9.0, name


def test_panic_after_a_failure_needs_a_token() -> None:
    way = failover(A, B, budget=0.5)
    way.record(A, OVERLOADED)

    assert way.next(0.0, World({"b": Availability(usable=False, cooldown_until=100.0)}), 1.0) == Done()


# Queue


def test_waits_for_slots_count_together() -> None:
    full = World({"a": Availability(usable=True, full=True)})
    way = Failover([A], 300.0, Budget(), queue_s=10.0)
    assert way.next(0.0, full, 1.0) == Wait(10.0, for_place=True)
    way.queued_s = 9.5
    assert way.next(0.0, full, 1.0) == Wait(0.5, for_place=True)
    way.queued_s = 10.0

    assert (way.next(0.0, full, 1.0), way.phase, way.overloaded) == (Done(), Phase.NO_SLOT, True)


def test_a_slot_is_not_waited_for_beyond_the_deadline() -> None:
    full = World({"a": Availability(usable=True, full=True)})

    assert failover(A, deadline=3.0).next(1.0, full, 1.0) == Wait(2.0, for_place=True)


def test_what_is_full_and_cools_down_is_waited_for_as_what_cools_down() -> None:
    both = World({"a": Availability(usable=False, full=True, cooldown_until=13.0)})

    assert failover(A).next(10.0, both, 1.0) == Wait(3.0), "its recovery is near"
    both.states["a"] = Availability(usable=False, full=True, cooldown_until=99.0)
    assert failover(A).next(10.0, both, 1.0) == Wait(10.0, for_place=True), "nobody else is there to be tried"


# Optional


def test_an_optional_answer_never_waits_for_a_probe_and_never_panics() -> None:
    way = Failover([A, B], 300.0, Budget(tokens=0.0), optional=True)
    way.record(A, OVERLOADED)

    assert way.next(0.0, World({"b": Availability(usable=True, in_flight=3)}), 1.0) == Done()
    assert way.next(0.0, World({"b": Availability(usable=False, cooldown_until=99.0)}), 1.0) == Done()


# Pauses


PAUSED = Availability(usable=False, paused=True)


def test_a_candidate_that_is_paused_meanwhile_is_passed_over() -> None:
    assert travel(failover(A, B), World({"a": PAUSED}), {}) == ["b"]
    assert travel(failover(A, B), World({"a": PAUSED, "b": PAUSED}), {}) == []
    assert travel(failover(A), World({"a": PAUSED}), {}) == []


def test_a_paused_candidate_hides_no_other_rule() -> None:
    near = Availability(usable=False, cooldown_until=4.0)
    full = Availability(usable=True, full=True)

    assert failover(A, B).next(0.0, World({"a": PAUSED, "b": near}), 1.0) == Wait(4.0)
    assert failover(A, B).next(0.0, World({"a": PAUSED, "b": full}), 1.0) == Wait(10.0, for_place=True)
    way = failover(A, B)
    way.record(B, OVERLOADED)
    assert way.next(0.0, World({"a": PAUSED}), 1.0) == Wait(0.5), "it comes back to the one that was tried"


def test_nobody_comes_back_to_what_is_paused() -> None:
    way = failover(A, B)
    way.record(A, OVERLOADED)
    way.record(B, OVERLOADED)
    assert isinstance(way.next(0.0, World(), 1.0), Wait)

    step = way.next(0.5, World({"a": PAUSED}), 1.0)
    assert isinstance(step, Wait), "another return, to the other one"
    assert way.next(1.5, World({"a": PAUSED}), 1.0) == Try(B, 298.5, last_hope=True)


def test_while_all_are_paused_nobody_comes_back() -> None:
    way = failover(A)
    way.record(A, OVERLOADED)
    assert isinstance(way.next(0.0, World(), 1.0), Wait)

    assert way.next(0.5, World({"a": PAUSED}), 1.0) == Done()
    assert isinstance(way.next(0.6, World(), 1.0), Wait), "it was resumed"


# Phases


ENDS: dict[str, tuple[Outcome, Phase]] = {
    "a whole answer": (Completed(), Phase.SETTLED),
    "a client that left": (Abandoned(Stage.WAIT), Phase.SETTLED),
    "the caller's own fault": (
        Refused(Fault(400, "invalid_request_error", "max_tokens: x"), Stage.WAIT),
        Phase.SETTLED,
    ),
    "what may be anybody's fault": (Refused(Fault(400, "invalid_request_error", "x"), Stage.WAIT), Phase.ASKING),
    "a failure after content": (Broken(Stage.STREAM, Cause.RESET), Phase.SETTLED),
    "a failure before content": (OVERLOADED, Phase.ASKING),
    "a request that does not fit": (Unfit("no"), Phase.ASKING),
}


@pytest.mark.parametrize(("outcome", "phase"), ENDS.values(), ids=ENDS)
def test_an_outcome_that_stands_ends_it(outcome: Outcome, phase: Phase) -> None:
    way = failover(A, B)
    verdict = way.record(A, outcome)

    assert way.phase is phase
    assert way.attempts == [(A, outcome, verdict)]
    assert (way.next(0.0, World(), 1.0) == Done()) is phase.ended


def test_only_the_last_two_phases_are_ends() -> None:
    assert [phase.ended for phase in Phase] == [False, False, False, False, True, True]


def test_the_table_of_phases_names_every_phase() -> None:
    rows = [line.split()[0] for line in (failover_rule.__doc__ or "").splitlines() if line.startswith("    ")]

    assert rows[1:] == [phase.name for phase in Phase]


STATES = st.builds(
    Availability,
    usable=st.booleans(),
    full=st.booleans(),
    cooldown_until=st.sampled_from([0.0, 2.0, 4.0, 30.0, 400.0]),
    last_failure=st.sampled_from([0.0, 1.0, 3.0]),
    proven=st.booleans(),
    in_flight=st.integers(0, 2),
) | st.just(PAUSED)
ANY: list[Outcome] = [OVERLOADED, REFUSED, Unfit("no"), Completed(), Refused(Fault(401, "x"), Stage.WAIT)]


@given(st.data())
def test_whatever_happens_a_failover_ends_and_only_moves_on(data: st.DataObject) -> None:
    way, now = failover(A, B, C, budget=data.draw(st.sampled_from([0.0, 2.0, 10.0])), deadline=100.0), 0.0
    order = list(Phase)
    tried: list[str] = []
    for _ in range(60):
        states = {name: data.draw(STATES) for name in "abc"}
        before = way.phase
        step = way.next(now, lambda c, _, states=states: states[c.provider.name], 1.0)  # type: ignore[misc]
        if isinstance(step, Wait):
            assert 0 <= step.seconds <= 100.0 - now
            now += step.seconds or 0.01
            way.queued_s += step.seconds if step.for_place else 0.0
        elif isinstance(step, Try):
            state, name = states[step.candidate.provider.name], step.candidate.provider.name
            assert not state.paused
            assert not state.full
            untried = [states[n] for n in "abc" if n not in tried]
            assert name not in tried or not any(s.usable and not s.full and not s.paused for s in untried)
            tried.append(name)
            way.record(step.candidate, data.draw(st.sampled_from(ANY)))
        elif way.phase.ended or not data.draw(st.booleans()):
            break
        assert order.index(way.phase) >= order.index(before)

    assert len(tried) <= 3 + RETRIES
