"""One provider's circuit: closed, open, half-open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.model import Mark, Verdict
from balancer.policy.circuit import FIRST_COOLDOWN_S, OPERATOR_COOLDOWN_S, Circuit, CooldownPolicy, Health, observe

BAD = Verdict(Mark.BAD, retry_elsewhere=True, reason="529")
GOOD = Verdict(Mark.GOOD)
NONE = Verdict(Mark.NONE)
EVEN = 0.5
"""Chance without jitter."""


def seen(
    health: Health, verdict: Verdict, now: float, policy: CooldownPolicy | None = None, began: float | None = None
) -> Health:
    return observe(health, verdict, now, policy or CooldownPolicy(), EVEN, now if began is None else began)


def test_a_failure_opens_the_circuit_for_the_first_rest() -> None:
    health = seen(Health(), BAD, 100.0)

    assert health.circuit(100.0) is Circuit.OPEN
    assert health.cooldown_until == 100.0 + FIRST_COOLDOWN_S
    assert health.circuit(100.0 + FIRST_COOLDOWN_S) is Circuit.HALF_OPEN


def test_each_failed_probe_doubles_the_rest_up_to_the_cooldown() -> None:
    health, now, rests = Health(), 100.0, []
    for _ in range(6):
        health = seen(health, BAD, now)
        rests.append(health.cooldown_until - now)
        now = health.cooldown_until

    assert rests == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_failures_of_attempts_under_way_do_not_double_it() -> None:
    health = seen(Health(), BAD, 100.0)

    for _ in range(50):
        health = seen(health, BAD, 100.1)

    assert health.cooldown_until == 105.0
    assert health.failures == 51


def test_a_good_answer_closes_it_and_forgets_the_failures() -> None:
    health = seen(seen(Health(), BAD, 100.0), GOOD, 106.0, began=105.5)

    assert health.circuit(106.0) is Circuit.CLOSED
    assert health.failures == 0


def test_an_old_stream_that_ends_well_says_nothing_about_now() -> None:
    health = seen(Health(), BAD, 100.0)

    assert seen(health, GOOD, 101.0, began=90.0) == health


def test_the_doubling_decays_with_time_in_health() -> None:
    health = Health()
    for now in (100.0, 105.0, 115.0):  # rests of 5, 10, 20
        health = seen(health, BAD, now)
    health = seen(health, GOOD, 135.0)

    again_soon = seen(health, BAD, 140.0)
    again_later = seen(health, BAD, 115.0 + 10 * 60.0)

    assert again_soon.cooldown_until - 140.0 == 40.0
    assert again_later.cooldown_until - (115.0 + 600.0) == 5.0


def test_a_client_that_left_changes_nothing() -> None:
    health = seen(Health(), BAD, 100.0)

    assert seen(health, NONE, 101.0) == health


def test_a_rest_that_the_provider_names_is_a_minimum_and_deadlines_never_come_closer() -> None:
    named = seen(Health(), Verdict(Mark.BAD, cooldown_s=90.0), 100.0)
    shorter = seen(named, Verdict(Mark.BAD, cooldown_s=1.0), 101.0)
    longer = seen(named, Verdict(Mark.BAD, cooldown_s=200.0), 101.0)

    assert named.cooldown_until == 190.0
    assert shorter.cooldown_until == 190.0
    assert longer.cooldown_until == 301.0


def test_a_refused_key_rests_long_and_doubles() -> None:
    first = seen(Health(), Verdict(Mark.BAD, needs_operator=True), 100.0)
    second = seen(first, Verdict(Mark.BAD, needs_operator=True), first.cooldown_until)

    assert first.cooldown_until - 100.0 == OPERATOR_COOLDOWN_S
    assert second.cooldown_until - first.cooldown_until == 2 * OPERATOR_COOLDOWN_S


def test_a_key_found_bad_during_an_ordinary_rest_prolongs_it() -> None:
    health = seen(seen(Health(), BAD, 100.0), Verdict(Mark.BAD, needs_operator=True), 101.0)

    assert health.cooldown_until >= 101.0 + OPERATOR_COOLDOWN_S
    assert health.needs_operator


def test_a_key_found_bad_after_many_ordinary_failures_rests_as_long_as_any() -> None:
    health = seen(seen(Health(), BAD, 100.0), BAD, 200.0)
    refused = seen(health, Verdict(Mark.BAD, needs_operator=True), 300.0)
    mended = seen(refused, BAD, refused.cooldown_until)

    assert refused.cooldown_until - 300.0 == OPERATOR_COOLDOWN_S
    assert mended.cooldown_until - refused.cooldown_until == FIRST_COOLDOWN_S


def test_the_longest_rest_differs_too_and_a_keys_does_not() -> None:
    health = seen(seen(Health(), BAD, 100.0), BAD, 200.0, CooldownPolicy(max_s=5.0))

    def cooldown_s(verdict: Verdict, chance: float) -> float:
        return observe(health, verdict, 300.0, CooldownPolicy(max_s=5.0), chance, 300.0).cooldown_until - 300.0

    assert cooldown_s(BAD, 0.0) == pytest.approx(4.0)
    assert cooldown_s(Verdict(Mark.BAD, needs_operator=True), 0.0) == OPERATOR_COOLDOWN_S


def test_a_cooldown_of_zero_means_no_rest() -> None:
    health = seen(Health(), Verdict(Mark.BAD, cooldown_s=90.0, needs_operator=True), 100.0, CooldownPolicy(max_s=0.0))

    assert health.circuit(100.0) is Circuit.CLOSED
    assert health.failures == 1


def test_a_constant_cooldown_is_constant() -> None:
    policy = CooldownPolicy(max_s=60.0, constant=True)
    first = seen(Health(), BAD, 100.0, policy)
    second = seen(first, BAD, 160.0, policy)

    assert (first.cooldown_until, second.cooldown_until) == (160.0, 220.0)


@pytest.mark.parametrize(("chance", "cooldown_s"), [(0.0, 4.0), (1.0, 6.0)])
def test_jitter_is_a_fifth_either_way(chance: float, cooldown_s: float) -> None:
    assert observe(Health(), BAD, 100.0, CooldownPolicy(), chance, 100.0).cooldown_until == pytest.approx(
        100.0 + cooldown_s
    )


@given(st.lists(st.tuples(st.sampled_from([BAD, GOOD, NONE]), st.floats(0.01, 50.0), st.floats(0, 1)), max_size=30))
def test_a_rest_is_never_longer_than_the_cooldown(history: list[tuple[Verdict, float, float]]) -> None:
    health, now = Health(), 1.0
    for verdict, passed_s, chance in history:
        now += passed_s
        health = observe(health, verdict, now, CooldownPolicy(), chance, now)

        assert health.cooldown_until <= now + 60.0
