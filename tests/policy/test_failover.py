"""The failover rule, as stories: who is asked, who waits, when it is over."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from stand_ins import candidate

from balancer.model import Broken, Candidate, Completed, Fault, Outcome, Refused, Stage, Unfit
from balancer.policy import exhausted
from balancer.policy.failover import RETRIES, Availability, Done, Failover, Next, Try, Wait
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


def test_a_near_recovery_is_waited_for_then_the_panic_rule_tries_once() -> None:
    world = World({"a": Availability(usable=False, cooldown_until=4.0, last_failure=-1.0)})

    assert travel(failover(A), world, {"a": OVERLOADED}, now=0.0)[:2] == ["wait 4", "a"]


def test_with_everybody_resting_long_who_failed_longest_ago_is_tried_once() -> None:
    world = World(
        {
            "a": Availability(usable=False, cooldown_until=50.0, last_failure=9.0),
            "b": Availability(usable=False, cooldown_until=60.0, last_failure=3.0),
        }
    )

    assert travel(failover(A, B), world, {"a": OVERLOADED, "b": OVERLOADED}) == ["b"]


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
