"""One provider's circuit: closed, open, half-open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from balancer.model import Mark, Proof, Statement, Trouble, Verdict
from balancer.policy.circuit import (
    DECAY_S,
    FIRST_COOLDOWN_S,
    OPERATOR_COOLDOWN_MAX_S,
    OPERATOR_COOLDOWN_S,
    WITNESS_S,
    Circuit,
    CooldownPolicy,
    Health,
    end_early,
    observe,
)

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

    assert again_soon.cooldown_until - 140.0 == 10.0, "it was not twice in a row"
    assert again_later.cooldown_until - (115.0 + 600.0) == 5.0


def test_failures_of_single_requests_among_good_answers_do_not_double_the_cooldown() -> None:
    health, now = Health(), 100.0
    for _ in range(20):
        health = seen(health, BAD, now)
        assert health.cooldown_until - now == FIRST_COOLDOWN_S
        health = seen(health, GOOD, health.cooldown_until + 1.0)
        now = health.last_failure + DECAY_S


def test_failures_close_together_among_good_answers_halve_the_cooldown_down_to_a_quarter() -> None:
    health, now, cooldowns = Health(), 100.0, []
    for _ in range(4):
        health = seen(health, BAD, now)
        cooldowns.append(health.cooldown_until - now)
        health = seen(health, GOOD, health.cooldown_until + 1.0)
        now = health.last_failure + DECAY_S - 0.1
    assert cooldowns == [5.0, 2.5, 1.25, 1.25]

    in_a_row = []
    for _ in range(4):
        health = seen(health, BAD, now)
        in_a_row.append(health.cooldown_until - now)
        now = health.cooldown_until
    assert in_a_row == pytest.approx([1.25, 2.5, 5.0, 10.0])


def test_what_needs_a_person_never_halves_its_cooldown() -> None:
    refused = Verdict(Mark.BAD, retry_elsewhere=True, needs_operator=Trouble.KEY)
    mended = Health(level=1, last_failure=100.0, content_at=110.0, needs_operator=Trouble.KEY)

    assert seen(mended, refused, 120.0).cooldown_until == 120.0 + OPERATOR_COOLDOWN_S


def test_what_breaks_off_after_content_has_not_gone_well() -> None:
    broken_off = Verdict(Mark.BAD, retry_elsewhere=False, reason="cut short")
    first = Health(level=1, last_failure=100.0, content_at=106.0)

    assert seen(first, broken_off, 107.0).level == 2
    assert seen(first, BAD, 107.0).level == 0
    assert seen(first, BAD, 100.0 + DECAY_S).level == 1
    assert seen(Health(level=3, last_failure=100.0, content_at=106.0), BAD, 107.0).level == 2
    assert seen(Health(level=3, last_failure=100.0, content_at=100.0), BAD, 107.0).level == 4


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
    first = seen(Health(), Verdict(Mark.BAD, needs_operator=Trouble.KEY), 100.0)
    second = seen(first, Verdict(Mark.BAD, needs_operator=Trouble.KEY), first.cooldown_until)

    assert first.cooldown_until - 100.0 == OPERATOR_COOLDOWN_S
    assert second.cooldown_until - first.cooldown_until == 2 * OPERATOR_COOLDOWN_S


def test_a_key_found_bad_during_an_ordinary_rest_prolongs_it() -> None:
    health = seen(seen(Health(), BAD, 100.0), Verdict(Mark.BAD, needs_operator=Trouble.KEY), 101.0)

    assert health.cooldown_until >= 101.0 + OPERATOR_COOLDOWN_S
    assert health.needs_operator


def test_a_key_found_bad_after_many_ordinary_failures_rests_as_long_as_any() -> None:
    health = seen(seen(Health(), BAD, 100.0), BAD, 200.0)
    refused = seen(health, Verdict(Mark.BAD, needs_operator=Trouble.KEY), 300.0)
    mended = seen(refused, BAD, refused.cooldown_until)

    assert refused.cooldown_until - 300.0 == OPERATOR_COOLDOWN_S
    assert mended.cooldown_until - refused.cooldown_until == FIRST_COOLDOWN_S


def test_the_longest_rest_differs_too_and_a_keys_does_not() -> None:
    health = seen(seen(Health(), BAD, 100.0), BAD, 200.0, CooldownPolicy(max_s=5.0))

    def cooldown_s(verdict: Verdict, chance: float) -> float:
        return observe(health, verdict, 300.0, CooldownPolicy(max_s=5.0), chance, 300.0).cooldown_until - 300.0

    assert cooldown_s(BAD, 0.0) == pytest.approx(4.0)
    assert cooldown_s(Verdict(Mark.BAD, needs_operator=Trouble.KEY), 0.0) == OPERATOR_COOLDOWN_S


def test_a_cooldown_of_zero_means_no_rest() -> None:
    health = seen(Health(), Verdict(Mark.BAD, needs_operator=Trouble.KEY), 100.0, CooldownPolicy(max_s=0.0))

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


# Bounds


@pytest.mark.parametrize(
    ("healthy_s", "cooldown_s"), [(0.0, 20.0), (59.9, 20.0), (60.0, 10.0), (120.0, 5.0), (1e6, 5.0)]
)
def test_each_minute_without_a_failure_takes_one_doubling_back(healthy_s: float, cooldown_s: float) -> None:
    health = Health(level=2, last_failure=100.0, last_good=101.0)
    now = 100.0 + healthy_s

    assert seen(health, BAD, now).cooldown_until - now == pytest.approx(cooldown_s)


def test_nothing_decays_while_it_has_not_answered_well() -> None:
    never, before = Health(level=2, last_failure=100.0), Health(level=2, last_failure=100.0, last_good=99.0)

    assert seen(never, BAD, 1e6).level == 3
    assert seen(before, BAD, 1e6).level == 3


def test_the_doubling_has_no_end_that_a_float_does_not_hold() -> None:
    health = Health(level=5000, last_failure=1.0)

    assert seen(health, BAD, 100.0).cooldown_until == 160.0
    operator = Health(level=5000, last_failure=1.0, needs_operator=Trouble.KEY)
    refused = Verdict(Mark.BAD, needs_operator=Trouble.KEY)
    assert seen(operator, refused, 100.0).cooldown_until == 100.0 + OPERATOR_COOLDOWN_MAX_S


def test_a_refused_key_cools_down_for_an_hour_at_most() -> None:
    health, now, cooldowns = Health(), 100.0, []
    for _ in range(5):
        health = seen(health, Verdict(Mark.BAD, needs_operator=Trouble.KEY), now)
        cooldowns.append(health.cooldown_until - now)
        now = health.cooldown_until

    assert cooldowns == [600.0, 1200.0, 2400.0, 3600.0, 3600.0]


def test_another_trouble_that_needs_a_person_is_of_the_same_kind() -> None:
    first = seen(Health(), Verdict(Mark.BAD, needs_operator=Trouble.KEY), 100.0)
    second = seen(first, Verdict(Mark.BAD, needs_operator=Trouble.CREDIT), first.cooldown_until)

    assert second.cooldown_until - first.cooldown_until == 2 * OPERATOR_COOLDOWN_S
    assert second.needs_operator is Trouble.CREDIT


@pytest.mark.parametrize(
    ("at", "state"), [(104.99, Circuit.OPEN), (105.0, Circuit.HALF_OPEN), (1e9, Circuit.HALF_OPEN)]
)
def test_half_open_begins_when_the_cooldown_is_over(at: float, state: Circuit) -> None:
    assert seen(Health(), BAD, 100.0).circuit(at) is state


@pytest.mark.parametrize(("began", "closed"), [(99.99, False), (100.0, True)])
def test_only_an_attempt_that_began_after_the_last_failure_closes_it(began: float, closed: bool) -> None:
    health = seen(seen(Health(), BAD, 100.0), GOOD, 106.0, began=began)

    assert (health.circuit(106.0) is Circuit.CLOSED) is closed


# What is remembered


def test_a_good_answer_forgets_all_but_how_often_it_was_doubled() -> None:
    named = Verdict(Mark.BAD, needs_operator=Trouble.KEY, cooldown_s=700.0, reason="401", status=401)
    health = seen(seen(Health(), named, 100.0), GOOD, 900.0)

    assert health == Health(level=1, last_failure=100.0, last_good=900.0, content_at=900.0)


def test_the_reason_and_its_status_are_those_of_the_latest_failure() -> None:
    health = seen(Health(), Verdict(Mark.BAD, reason="529 x", status=529), 100.0)
    assert (health.reason, health.status) == ("529 x", 529)
    health = seen(health, Verdict(Mark.BAD, reason="reset"), 101.0)

    assert (health.reason, health.status) == ("reset", None)


def test_while_it_needs_a_person_another_failure_does_not_hide_why() -> None:
    refused = Verdict(Mark.BAD, needs_operator=Trouble.KEY, reason="401 x", status=401)
    late = Verdict(Mark.BAD, cooldown_s=900.0, reason="529 x", status=529)
    health = seen(seen(Health(), refused, 100.0), late, 101.0)

    assert (health.reason, health.status, health.needs_operator) == ("401 x", 401, Trouble.KEY)
    assert (health.failures, health.last_failure, health.cooldown_until) == (2, 101.0, 1001.0)

    probed = seen(health, late, 1001.0)
    assert (probed.reason, probed.needs_operator) == ("529 x", None), "it was asked again, and says something else"


def test_without_cooldowns_it_is_known_what_needs_a_person() -> None:
    refused = Verdict(Mark.BAD, needs_operator=Trouble.KEY, reason="401 x", status=401)
    health = seen(Health(), refused, 100.0, CooldownPolicy(max_s=0.0))

    assert (health.needs_operator, health.reason, health.cooldown_until) == (Trouble.KEY, "401 x", 0.0)
    assert seen(health, GOOD, 101.0).needs_operator is None
    assert seen(health, BAD, 101.0, CooldownPolicy(max_s=0.0)).needs_operator is None


def test_what_a_provider_named_is_kept_without_cooldowns_of_our_own() -> None:
    policy = CooldownPolicy(max_s=0.0)
    health = seen(Health(), Verdict(Mark.BAD, cooldown_s=20.0), 100.0, policy)
    assert (health.opened_at, health.cooldown_until, health.named_until) == (100.0, 120.0, 120.0)

    during = seen(health, BAD, 110.0, policy)
    assert (during.opened_at, during.cooldown_until, during.named_until) == (100.0, 120.0, 120.0)
    assert during.circuit(120.0) is Circuit.HALF_OPEN, "one request probes it"
    after = seen(during, BAD, 121.0, policy)
    assert (after.circuit(121.0), after.named_until) == (Circuit.CLOSED, 0.0), "there are no cooldowns of our own"


def test_what_the_provider_said_last_is_known() -> None:
    first, second = Statement("busy until two", 200.0), Statement("busy until three", 300.0)
    health = observe(Health(), BAD, 100.0, CooldownPolicy(), EVEN, 99.0, said=first)
    assert health.said is first
    health = observe(health, BAD, 101.0, CooldownPolicy(), EVEN, 100.0, said=second)
    assert health.said is second
    assert seen(health, GOOD, 400.0).said is None


def test_it_is_known_since_when_and_until_when_by_whose_word() -> None:
    health = seen(Health(), BAD, 100.0)
    assert (health.opened_at, health.named_until) == (100.0, 0.0)
    health = seen(health, Verdict(Mark.BAD, cooldown_s=30.0), 101.0)
    assert (health.opened_at, health.named_until, health.cooldown_until) == (100.0, 131.0, 131.0)
    health = seen(health, Verdict(Mark.BAD, cooldown_s=1.0), 102.0)
    assert (health.named_until, health.cooldown_until) == (131.0, 131.0)
    health = seen(health, BAD, 140.0)

    assert (health.opened_at, health.named_until, health.cooldown_until) == (140.0, 131.0, 150.0)


# Ended before its time


def test_a_cooldown_that_is_ended_early_is_half_open() -> None:
    refused = Verdict(Mark.BAD, needs_operator=Trouble.KEY, reason="401 x", status=401)
    health = end_early(seen(Health(), refused, 100.0), 130.0)

    assert health.circuit(130.0) is Circuit.HALF_OPEN
    assert (health.needs_operator, health.reason, health.failures) == (None, "401 x", 1)
    assert seen(health, refused, 131.0).cooldown_until == 131.0 + OPERATOR_COOLDOWN_S, "not doubled: it was mended once"


def test_the_time_that_the_provider_named_is_kept() -> None:
    named = Verdict(Mark.BAD, needs_operator=Trouble.KEY, cooldown_s=200.0)
    health = end_early(seen(Health(), named, 100.0), 130.0)

    assert health.cooldown_until == 300.0
    assert end_early(health, 350.0).cooldown_until == 350.0


def test_trouble_that_needs_a_person_does_not_shorten_a_longer_cooldown() -> None:
    health = seen(Health(), BAD, 100.0, CooldownPolicy(max_s=5000.0, constant=True))

    assert seen(health, Verdict(Mark.BAD, needs_operator=Trouble.KEY), 101.0).cooldown_until == 5100.0


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_no_jitter_exceeds_the_longest_cooldown(chance: float) -> None:
    health = Health(failures=9, level=9, cooldown_until=99.0, last_failure=90.0)

    assert observe(health, BAD, 100.0, CooldownPolicy(max_s=60.0), chance, 100.0).cooldown_until <= 160.0


# Witnesses: how much one request proves

UNSURE = Verdict(Mark.NONE, retry_elsewhere=True, reason="403 no API's error", proof=Proof.UNSURE)
LIKELY = Verdict(Mark.BAD, retry_elsewhere=True, reason="500", proof=Proof.LIKELY)


def met(health: Health, verdict: Verdict, now: float, witness: int) -> Health:
    return observe(health, verdict, now, CooldownPolicy(), EVEN, now, witness)


def test_what_may_be_the_requests_own_fault_counts_once_another_request_meets_it() -> None:
    once = met(Health(), UNSURE, 1.0, witness=7)
    again = met(once, UNSURE, 2.0, witness=7)
    other = met(again, UNSURE, 3.0, witness=8)

    assert once.circuit(1.0) is again.circuit(2.0) is Circuit.CLOSED
    assert (once.failures, again.failures, other.failures) == (0, 0, 1)
    assert (other.circuit(3.0), other.cooldown_until) == (Circuit.OPEN, 3.0 + FIRST_COOLDOWN_S)
    assert other.reason == UNSURE.reason


def test_the_two_have_to_meet_the_same_not_long_apart_and_with_no_good_answer_between() -> None:
    once = met(Health(), UNSURE, 1.0, witness=7)
    another = replace(UNSURE, reason="402 no API's error")

    assert met(once, another, 2.0, witness=8).circuit(2.0) is Circuit.CLOSED
    assert met(seen(once, GOOD, 1.5), UNSURE, 2.0, witness=8).circuit(2.0) is Circuit.CLOSED
    assert met(once, UNSURE, 1.0 + WITNESS_S, witness=8).circuit(1.0 + WITNESS_S) is Circuit.CLOSED
    assert met(once, UNSURE, WITNESS_S, witness=8).circuit(WITNESS_S) is Circuit.OPEN


def test_a_request_that_is_not_known_is_no_second_witness() -> None:
    assert met(met(Health(), UNSURE, 1.0, witness=0), UNSURE, 2.0, witness=0).circuit(2.0) is Circuit.CLOSED


def test_a_second_witness_of_an_account_makes_the_cooldown_long() -> None:
    account = replace(UNSURE, needs_operator=Trouble.ACCESS)
    health = met(met(Health(), account, 1.0, witness=7), account, 2.0, witness=8)

    assert (health.needs_operator, health.cooldown_until) == (Trouble.ACCESS, 2.0 + OPERATOR_COOLDOWN_S)


def test_a_request_that_is_repeated_makes_the_cooldown_no_longer() -> None:
    health, now = met(Health(), LIKELY, 1.0, witness=7), 1.0
    for _ in range(3):
        now = health.cooldown_until
        health = met(health, LIKELY, now, witness=7)
        assert health.cooldown_until - now == FIRST_COOLDOWN_S
    now = health.cooldown_until
    assert met(health, LIKELY, now, witness=8).cooldown_until - now == 2 * FIRST_COOLDOWN_S


def test_it_is_the_same_request_also_after_a_good_answer_to_another() -> None:
    health = met(seen(met(Health(), LIKELY, 1.0, witness=7), GOOD, 9.0), LIKELY, 10.0, witness=7)

    assert health.cooldown_until - 10.0 == FIRST_COOLDOWN_S


def test_what_is_certain_doubles_whoever_meets_it() -> None:
    health = met(met(Health(), BAD, 0.0, witness=7), BAD, FIRST_COOLDOWN_S, witness=7)

    assert health.cooldown_until - FIRST_COOLDOWN_S == 2 * FIRST_COOLDOWN_S
