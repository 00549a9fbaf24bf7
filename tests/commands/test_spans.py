"""Durations and times as people write them."""

from __future__ import annotations

import argparse
import time
from datetime import datetime, timedelta

import pytest

from balancer.commands.spans import moment, shown, span

SPANS = {"30s": 30.0, "2m": 120.0, "1h": 3600.0, "500ms": 0.5, "45": 45.0, "1.5s": 1.5}


@pytest.mark.parametrize(("text", "seconds"), SPANS.items())
def test_durations(text: str, seconds: float) -> None:
    assert span(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-1s", "s", "1d", "30 s", "9" * 400, "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        span(text)


AGO = {"30s": 30, "10m": 600, "2h": 7200, "1d": 86_400, "1.5h": 5400}


@pytest.mark.parametrize(("text", "seconds"), AGO.items())
def test_a_duration_is_so_long_ago(text: str, seconds: float) -> None:
    assert moment(text) == pytest.approx(time.time() - seconds, abs=5)


def test_a_date_is_in_local_time() -> None:
    assert moment("2026-11-28T14:30") == datetime(2026, 11, 28, 14, 30).astimezone().timestamp()
    assert moment("2026-11-28 14:30:05") == datetime(2026, 11, 28, 14, 30, 5).astimezone().timestamp()
    assert moment("2026-11-28T14:30Z") == 1_795_876_200


def test_a_time_of_day_that_is_still_to_come_was_yesterdays() -> None:
    soon = datetime.now().astimezone() + timedelta(minutes=10)
    before = datetime.now().astimezone() - timedelta(minutes=10)

    assert time.time() - moment(soon.strftime("%H:%M")) == pytest.approx(86_400 - 600, abs=90)
    assert (time.time() - moment(before.strftime("%H:%M"))) % 86_400 == pytest.approx(600, abs=90)


@pytest.mark.parametrize("text", ["", "soon", "25:00", "2026-13-01", "9" * 400 + "s", "10 m"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="write 10m"):
        moment(text)


SHOWN = {0.2: "0 s", 8: "8 s", 59.6: "1 min 0 s", 592: "9 min 52 s", 7500: "2 h 5 min", -3: "0 s"}


@pytest.mark.parametrize(("seconds", "words"), SHOWN.items())
def test_durations_for_people(seconds: float, words: str) -> None:
    assert shown(seconds) == words
