"""Health that all workers know."""

from __future__ import annotations

from dataclasses import replace

import pytest
from state.shared_world import SharedWorld, group_of, shared_worlds
from state.world import BAD, OVERLOADED

from balancer.events import CooldownStarted, ProviderRecovered
from balancer.model import Operation
from balancer.policy.circuit import Health
from balancer.policy.verdicts import Mark, Scope, Statement, Trouble, Verdict
from balancer.state.shared_health import joined


def test_what_cools_down_at_one_worker_is_not_asked_by_another_at_its_next_decision() -> None:
    with shared_worlds(2) as (one, other):
        one.fail("a", at=10.0)

        assert other.rests("a", 10.0) == pytest.approx(one.rests("a", 10.0)) != 0
        assert other.order(now=10.0) == "ba"


def test_a_cooldown_is_told_by_the_worker_that_saw_the_failure_alone() -> None:
    with shared_worlds(2) as (one, other):
        one.fail("a", at=10.0)
        other.fleet.learn()

        assert [type(event) for event in one.told] == [CooldownStarted]
        assert other.told == []


def test_all_workers_know_the_same_of_a_failure() -> None:
    trouble = Verdict(
        Mark.BAD, needs_operator=Trouble.KEY, reason="401 authentication_error", status=401, scope=Scope.PROVIDER
    )
    with shared_worlds(3) as (one, other, third):
        one.fail("a", at=10.0, verdict=trouble)

        for world in (other, third):
            world.fleet.learn()
            assert world.health.entries == one.health.entries


def test_a_provider_that_recovers_at_one_worker_is_asked_by_all() -> None:
    with shared_worlds(2) as (one, other):
        one.fail("a", at=10.0)
        assert other.rests("a", 10.0)

        one.succeed("a", at=30.0)

        assert other.order(now=30.0) == "ab"
        assert [type(event) for event in one.told][-1] is ProviderRecovered
        assert other.told == []


def test_failures_in_a_row_double_the_cooldown_whichever_workers_they_come_to() -> None:
    with shared_worlds(2) as (one, other):
        one.fail("a", at=10.0)
        first_s = one.rests("a", 10.0)
        other.fail("a", at=30.0)

        assert one.rests("a", 30.0) > 1.3 * first_s


def test_one_request_of_all_workers_probes_what_is_half_open() -> None:
    with shared_worlds(2) as (one, other):
        one.fail("a", at=10.0)
        now = 10.0 + one.rests("a", 10.0) + 1

        with one.fleet.admission.slot(one.candidate("a"), now):
            assert not other.availability("a", now).usable
            one.health.content_began(one.candidate("a"), now, now + 1)
            assert other.availability("a", now + 1).usable, "its content has begun: it has shown that it works"

        assert other.availability("a", now).usable


def test_a_probe_ends_with_the_worker_that_probes() -> None:
    with group_of(2) as group:
        one, other = (SharedWorld(group, n, "", "ab", "") for n in range(2))
        one.fail("a", at=10.0)
        now = 10.0 + one.rests("a", 10.0) + 1
        one.fleet.admission.slot(one.candidate("a"), now).__enter__()
        assert not other.availability("a", now).usable

        group.end(0)

        assert other.availability("a", now).usable


def test_a_woken_provider_is_awake_at_all_workers() -> None:
    with shared_worlds(2) as (one, other):
        one.fail("a", at=10.0)
        assert other.rests("a", 10.0)

        other.fleet.orders.wake("a", 1010.0)

        assert one.order(now=10.0) == "ab"


def test_a_cooldown_that_a_probe_has_ended_is_over_at_all_workers() -> None:
    with shared_worlds(2) as (one, other):
        one.fail("a", at=10.0)
        assert other.rests("a", 10.0)

        one.fleet.orders.end_early("a", 11.0, 1011.0)

        assert other.availability("a", 11.0).usable


def test_what_an_injected_fault_has_done_is_undone_at_all_workers() -> None:
    with shared_worlds(2) as (one, other):
        one.health.observe(one.candidate("a"), BAD, 10.0, 10.0, 1010.0, injected=True)
        assert other.rests("a", 10.0)

        one.health.end_injected("a", 11.0)

        assert other.order(now=11.0) == "ab"


def test_cooldowns_of_models_and_of_counting_are_shared() -> None:
    with shared_worlds(2) as (one, other):
        one.observe(one.candidate("a"), OVERLOADED, Verdict(Mark.BAD, scope=Scope.MODEL, reason="404"), 10.0)
        counting = one.candidate("b", Operation.COUNT_TOKENS)
        one.observe(counting, OVERLOADED, Verdict(Mark.BAD, scope=Scope.COUNTING, reason="500"), 10.0)

        assert other.rests("a", 10.0)
        assert other.availability("b", 10.0).usable
        assert not other.health.availability(other.candidate("b", Operation.COUNT_TOKENS), 10.0).usable
        assert other.health.availability(other.candidate("a", model="another"), 10.0).usable


def test_a_worker_that_begins_later_knows_what_cools_down() -> None:
    with group_of(3) as group:
        one, other = (SharedWorld(group, n, "", "ab", "") for n in range(2))
        one.fail("a", at=10.0)
        other.fail("b", at=10.0)
        one.fleet.orders.wake("a", 1010.0)
        group.end(1)

        late = SharedWorld(group, 1, "", "ab", "")

        assert not late.rests("a", 10.0)
        assert late.rests("b", 10.0)


def test_what_was_told_of_another_key_is_of_no_interest() -> None:
    with group_of(2) as group:
        one, other = SharedWorld(group, 0, "", "a", ""), SharedWorld(group, 1, "", "a", "", secret="other")
        one.fail("a", at=10.0)

        assert not other.rests("a", 10.0)
        assert b"s-a" not in bytes(group.memory.buffer).replace(b"ollama-s-a", b"")


def test_long_words_of_a_provider_are_shortened_and_the_cooldown_is_shared() -> None:
    with shared_worlds(2) as (one, other):
        one.fail("a", at=10.0)
        key = next(iter(one.health.entries))
        told = replace(
            one.health.entries[key], reason="r" * 1000, said=Statement("w" * 4000, 33.0), cooldown_until=99.0
        )
        one.health.entries[key] = told
        one.shared._tell(key, told)

        other.fleet.learn()

        known = other.health.entries[key]
        assert (known.cooldown_until, len(known.reason)) == (99.0, 150)
        assert known.said == Statement(resets_at=33.0)


def test_what_is_not_understood_is_passed_over() -> None:
    with shared_worlds(2) as (one, other):
        one.fail("a", at=10.0)
        name = "\0".join(["health", "a", other.shared._marks["a"], "provider", ""])
        for body in (b"", b"\x93\x02\xc2\x80", b"\xff" * 40):
            one.sharing.tell(name, body)
        one.sharing.tell("weather", b"fine")
        one.sharing.tell(name.replace("provider", "planet"), b"")

        other.fleet.learn()

        assert not other.rests("a", 10.0)


OPEN = Health(failures=1, level=1, cooldown_until=30.0, last_failure=10.0, opened_at=10.0)


@pytest.mark.parametrize(
    ("mine", "theirs", "until"),
    [
        (OPEN, replace(OPEN, cooldown_until=40.0, last_failure=10.1, opened_at=10.1), 40.0),
        (replace(OPEN, cooldown_until=40.0), replace(OPEN, last_failure=10.1, opened_at=10.1), 40.0),
        (replace(OPEN, cooldown_until=40.0, last_failure=10.1, opened_at=10.1), OPEN, 40.0),
        (OPEN, replace(OPEN, cooldown_until=40.0, last_failure=9.9, opened_at=9.9), 40.0),
        (OPEN, replace(OPEN, cooldown_until=12.0), 12.0),
        (replace(OPEN, cooldown_until=600.0), replace(OPEN, last_failure=20.0, opened_at=20.0), 30.0),
        (OPEN, Health(last_failure=10.0, last_good=10.0), 0.0),
        (OPEN, Health(last_failure=9.0, last_good=9.5), 30.0),
        (Health(last_failure=10.0, last_good=12.0), OPEN, 0.0),
    ],
    ids=[
        "at the same time, theirs later",
        "at the same time, mine later",
        "they did not know of mine, which is later",
        "they did not know of mine, theirs is later",
        "ended early by somebody who knew of mine",
        "closed meanwhile, and failed again",
        "closed by somebody who knew of mine",
        "closed by somebody who did not know of mine",
        "I know better",
    ],
)
def test_of_what_two_workers_know_the_later_deadline_stands_unless_one_knew_of_the_other(
    mine: Health, theirs: Health, until: float
) -> None:
    assert joined(mine, theirs).cooldown_until == until
