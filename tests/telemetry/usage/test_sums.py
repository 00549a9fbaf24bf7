"""Sums over the ledger: by each group, from a time on, and the parts that came from the prompt cache."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from telemetry.usage.test_ledger import ended, ledger

from balancer.model import Usage
from balancer.telemetry.usage import sums
from balancer.telemetry.usage.sums import Sum

NOW = 1.8e9


def test_each_group_is_summed_and_the_dearest_is_first(tmp_path: Path) -> None:
    kept = ledger(tmp_path)
    for number, fields in enumerate(
        (
            {"project": "one", "usage": Usage(10, 1, 30, 10)},
            {"project": "two", "usage": Usage(1000, 1), "key": "", "session": "s2"},
            {"project": "two", "usage": Usage(), "outcome": "failed", "provider": "", "provider_model": ""},
            {"project": "two", "model": "gpt", "provider_model": "gpt", "usage": Usage(1, 1)},
            {"project": "old", "wall": NOW - 1000.0},
        )
    ):
        kept.take(ended(number, **{"wall": NOW, **fields}))  # type: ignore[arg-type]
    kept.close()

    def summed(by: str) -> dict[str, Sum]:
        rows = ledger(tmp_path).rows(sums.statement(by), {"since": NOW - 10})
        return {group.group: group for group in sums.summed(rows)}

    projects = summed("project")
    assert list(projects) == ["two", "one"]
    assert (projects["two"].requests, projects["two"].failed, projects["two"].unpriced) == (3, 1, 1)
    assert projects["one"].cache_share == pytest.approx(0.6)
    assert summed("client").keys() == {"team", "0123"}
    assert summed("session").keys() == {"s1", "s2"}
    assert summed("model").keys() == {"claude-sonnet-4-5", "gpt"}
    assert summed("provider").keys() == {"a", ""}
    assert summed("day").keys() == {time.strftime("%Y-%m-%d", time.localtime(NOW))}
    whole = sums.total(list(projects.values()))
    assert (whole.requests, whole.input_tokens) == (4, 1011)


def test_a_group_without_tokens_has_no_share() -> None:
    assert sums.total([]).cache_share is None


@pytest.mark.parametrize(("text", "back_s"), [("90m", 5400), ("24h", 86400), ("7d", 604800), ("2w", 1209600)])
def test_a_span_goes_back_from_now(text: str, back_s: float) -> None:
    assert sums.since(text, NOW) == NOW - back_s


def test_a_day_begins_at_midnight_of_this_machine() -> None:
    assert time.localtime(sums.since("today", NOW))[:6] == (*time.localtime(NOW)[:3], 0, 0, 0)
    assert time.localtime(sums.since("2026-11-01", NOW))[:6] == (2026, 11, 1, 0, 0, 0)


@pytest.mark.parametrize("text", ["", "soon", "7", "7x", "2026-13-01", "-1d", "1" * 5000 + "d"])
def test_other_words_are_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="no time"):
        sums.since(text, NOW)
