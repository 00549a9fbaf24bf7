"""When a cooldown is probed before its time, and what the answer proves."""

from __future__ import annotations

import pytest

from balancer.model import Fault
from balancer.policy.circuit import Health
from balancer.policy.probing import (
    JITTER,
    LONG_S,
    PROBE_AT_S,
    denies_access,
    is_probed,
    lacks_endpoint,
    next_probe,
    proves,
)
from balancer.policy.verdicts import Trouble


def cooling(
    trouble: Trouble | None = None, status: int | None = None, lasts_s: float = 60.0, named_s: float = 0.0
) -> Health:
    return Health(
        failures=1,
        opened_at=100.0,
        cooldown_until=100.0 + lasts_s,
        named_until=100.0 + named_s if named_s else 0.0,
        needs_operator=trouble,
        status=status,
    )


@pytest.mark.parametrize("trouble", Trouble)
def test_of_what_a_person_has_to_mend_only_what_a_free_answer_can_prove_is_probed(trouble: Trouble) -> None:
    assert is_probed(cooling(trouble, lasts_s=600.0)) is (trouble in (Trouble.KEY, Trouble.ACCESS))


@pytest.mark.parametrize(("lasts_s", "probed"), [(5.0, False), (LONG_S - 0.01, False), (LONG_S, True), (3600.0, True)])
def test_an_ordinary_cooldown_is_probed_if_it_is_long(lasts_s: float, probed: bool) -> None:
    assert is_probed(cooling(status=500, lasts_s=lasts_s)) is probed


@pytest.mark.parametrize(
    ("status", "probed"), [(None, True), (500, True), (502, True), (404, True), (429, False), (529, False)]
)
def test_a_free_answer_says_nothing_about_capacity(status: int | None, probed: bool) -> None:
    assert is_probed(cooling(status=status)) is probed


@pytest.mark.parametrize(("named_s", "probed"), [(0.0, True), (59.0, True), (60.0, False), (90.0, False)])
def test_a_time_that_the_provider_named_is_kept(named_s: float, probed: bool) -> None:
    assert is_probed(cooling(status=500, lasts_s=max(60.0, named_s), named_s=named_s)) is probed


def test_the_times_of_the_probes() -> None:
    at = [next_probe(100.0, 100.0 + passed_s, 0.0) for passed_s in (0.0, 29.9, 30.0, 59.9, 60.0, 120.0, 299.9, 300.0)]

    assert at == [130.0, 130.0, 160.0, 160.0, 220.0, 400.0, 400.0, None]
    assert PROBE_AT_S == (30.0, 60.0, 120.0, 300.0)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_with_the_latest_jitter_no_probe_meets_the_next(chance: float) -> None:
    now, asked = 100.0, []
    while (due := next_probe(100.0, now, chance)) is not None:
        asked.append(due - 100.0)
        now = due

    assert asked == [pytest.approx(s * (1 + JITTER * chance)) for s in PROBE_AT_S]


DENIED, MISSING, DOWN = Fault(401, "x"), Fault(404, "x"), Fault(503, "x")

PROOFS = {
    # cooldown, the probe's fault, whether one was denied before: proven
    "a key that is accepted": (cooling(Trouble.KEY), None, False, True),
    "a key that is refused still": (cooling(Trouble.KEY), DENIED, True, False),
    "no list of models says nothing about a key": (cooling(Trouble.KEY), MISSING, False, False),
    "access that was denied and is granted": (cooling(Trouble.ACCESS), None, True, True),
    "access that nobody ever checked": (cooling(Trouble.ACCESS), None, False, False),
    "access that is denied still": (cooling(Trouble.ACCESS), DENIED, True, False),
    "it can be reached again": (cooling(), None, False, True),
    "it can be reached again, whatever it says": (cooling(), MISSING, False, True),
    "it can be reached again, but is down": (cooling(), DOWN, False, False),
    "the first status that is down": (cooling(), Fault(500, "x"), False, False),
    "the last status that is not": (cooling(), Fault(499, "x"), False, True),
    "it was down, and answers": (cooling(status=500), None, False, True),
    "it was down, and has no list of models": (cooling(status=500), MISSING, False, False),
}


@pytest.mark.parametrize(("health", "fault", "denied_before", "proven"), PROOFS.values(), ids=PROOFS)
def test_what_a_probe_proves(health: Health, fault: Fault | None, denied_before: bool, proven: bool) -> None:
    assert proves(health, fault, denied_before=denied_before) is proven


@pytest.mark.parametrize("status", range(400, 600))
def test_what_a_refusal_of_a_probe_means(status: int) -> None:
    assert denies_access(Fault(status, "x")) is (status in {401, 403, 451})
    assert lacks_endpoint(Fault(status, "x")) is (status in {404, 405, 501})


def test_an_answer_denies_nothing_and_lacks_nothing() -> None:
    assert not denies_access(None)
    assert not lacks_endpoint(None)
