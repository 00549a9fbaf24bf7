"""Statistics of a provider: counters, averages, the last error."""

from __future__ import annotations

import pytest

from balancer.model import Broken, Fault, Outcome, Refused, Stage, Unfit, Usage
from balancer.policy.strategies import Load
from balancer.policy.verdicts import Mark, Verdict
from balancer.script import Cause
from balancer.state.stats import Loads, ProviderStats, StatsTable


def test_a_provider_begins_at_zero_and_keeps_its_statistics() -> None:
    table = StatsTable(ProviderStats)
    table["a"].requests += 1

    assert (table["a"].requests, table["b"].requests) == (1, 0)


def test_tokens_are_added_up_by_kind_and_what_was_not_reported_is_not_counted() -> None:
    stats = ProviderStats()
    stats.count(Usage(1, 2, 3, 4))
    stats.count(Usage(10, None, 30, None))
    stats.count(Usage())

    assert stats.usage == {"input": 11, "output": 2, "cache_read": 33, "cache_creation": 4}


def test_the_time_to_first_content_jumps_up_and_comes_down_slowly() -> None:
    stats = ProviderStats()
    stats.content_began(1.0, 100.0)
    assert (stats.first_content_s, stats.first_content_at, stats.latest_first_content_s) == (1.0, 100.0, 1.0)
    stats.content_began(5.0, 101.0)
    assert stats.first_content_s == 5.0
    stats.content_began(1.0, 111.0)

    assert stats.first_content_s == pytest.approx(3.0), "half of the way in ten seconds"
    assert (stats.first_content_at, stats.latest_first_content_s) == (111.0, 1.0)


def test_the_duration_is_an_average_of_successes() -> None:
    stats = ProviderStats()
    stats.succeeded(10.0)
    assert (stats.successes, stats.duration_s) == (1, 10.0)
    stats.succeeded(20.0)

    assert stats.successes == 2
    assert stats.duration_s == pytest.approx(12.0)


ERRORS: dict[str, tuple[Outcome, dict[str, object]]] = {
    "a refusal": (Refused(Fault(529, "overloaded_error"), Stage.WAIT), {"kind": "overloaded_error", "status": 529}),
    "a broken exchange": (Broken(Stage.CONNECT, Cause.REFUSED), {"kind": "refused", "status": None}),
    "anything else": (Unfit("no"), {"kind": "error", "status": None}),
}


@pytest.mark.parametrize(("outcome", "shown"), ERRORS.values(), ids=ERRORS)
def test_the_last_error_is_kept(outcome: Outcome, shown: dict[str, object]) -> None:
    stats = ProviderStats()
    stats.failed(outcome, Verdict(Mark.BAD, reason="in plain words"), 1.8e9)

    assert stats.failures == 1
    assert stats.last_error == {**shown, "message": "in plain words", "at": 1.8e9}


def test_loads_are_a_view_of_the_statistics() -> None:
    table = StatsTable(ProviderStats)
    loads = Loads(table)
    table["a"].in_flight, table["a"].first_content_s = 3, 0.5

    assert dict(loads) == {"a": Load(3, 0.5)}
    assert len(loads) == 1
    assert loads["b"] == Load()
    assert "b" not in table, "to look is not to ask"


def test_the_organization_of_its_answers_is_kept_as_a_short_hash() -> None:
    stats = ProviderStats()
    named = ((b"request-id", b"r"), (b"anthropic-organization-id", b"org_1"))

    stats.content_began(1.0, 100.0, named)
    known = stats.organization
    stats.content_began(1.0, 101.0, ())
    assert (len(known), stats.organization) == (12, known), "not every answer is looked at"
    stats.content_began(1.0, 161.0, ((b"anthropic-organization-id", b"org_2"),))
    assert stats.organization not in ("", known)
    stats.content_began(1.0, 300.0, ())
    assert stats.organization == ""
    stats.content_began(1.0, 301.0, named)
    assert stats.organization == known, "one that was missing is looked for soon again"
