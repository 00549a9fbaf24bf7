"""What the live page remembers: requests in flight, the last ones, an hour by minutes; and that all of it is bounded."""

from __future__ import annotations

import time

import pytest

from balancer.events import Attempt, RequestBegan, RequestEnded
from balancer.telemetry.recent import IN_FLIGHT_SHOWN, KEPT, SAMPLES_MAX, Recent

NOW = 1.8e9

OK = Attempt("a", "m", "completed", "stream", 0.5)
FAILED = Attempt("a", "m", "refused", "wait", 0.1, 529, "529 overloaded_error")


def began(number: int, wall: float = NOW) -> RequestBegan:
    return RequestBegan(f"req_{number}", wall, "messages", "m", True, 100, "c")


def ended(number: int, wall: float = NOW, outcome: str = "ok", *attempts: Attempt, first: float = 0.2) -> RequestEnded:
    tried = attempts or (OK,)
    return RequestEnded(
        f"req_{number}", wall, "messages", "m", True, 200, outcome, 0.5, "a", "m", tried, first_content_s=first
    )


def test_a_request_is_in_flight_until_it_ends() -> None:
    recent = Recent()
    recent.take(began(1))
    recent.take(began(2))
    assert [r["id"] for r in recent.in_flight(NOW + 3)] == ["req_1", "req_2"]
    assert recent.in_flight(NOW + 3)[0]["age_s"] == 3.0
    recent.take(ended(1))
    assert [r["id"] for r in recent.in_flight(NOW)] == ["req_2"]
    assert [r["id"] for r in recent.ended()] == ["req_1"]


def test_only_what_is_new_is_told() -> None:
    recent = Recent()
    for number in range(1, 6):
        recent.take(ended(number))
    assert [r["number"] for r in recent.ended(3)] == [4, 5]
    assert recent.latest == 5
    assert recent.ended(5) == []


def test_an_hour_shows_the_worst_of_each_minute() -> None:
    recent = Recent()
    for minute, event in enumerate(
        (
            ended(1, NOW, "ok"),
            ended(2, NOW + 60, "ok", FAILED, Attempt("b", "m", "completed", "stream", 0.5)),
            ended(3, NOW + 120, "failed", FAILED),
            ended(4, NOW + 121, "ok"),
        )
    ):
        assert minute < 4
        recent.take(event)
    assert recent.minutes("a", NOW + 180).endswith("ohx.")
    assert recent.minutes("b", NOW + 180).endswith(".o..")
    assert recent.minutes("none", NOW) == "." * 60
    assert recent.summary(NOW + 180)["hidden_today"] == 1
    assert recent.summary(NOW + 2 * 86400)["hidden_today"] == 0


def test_first_tokens_are_those_of_the_last_minutes() -> None:
    recent = Recent()
    recent.take(ended(1, NOW - 1000, first=60.0))
    for number in range(100):
        recent.take(ended(number + 2, NOW, first=number / 100))
    told = recent.summary(NOW + 10)
    assert told["first_token_p50_s"] == pytest.approx(0.5)
    assert told["first_token_p95_s"] == pytest.approx(0.95)
    assert Recent().summary(NOW)["first_token_p50_s"] is None


def test_requests_a_minute_are_those_of_the_last_whole_minute() -> None:
    recent = Recent()
    minute = NOW - NOW % 60
    for number in range(7):
        recent.take(ended(number, minute + number))
    recent.take(ended(9, minute + 60))
    assert recent.summary(minute + 61)["per_minute"] == 7


def test_a_night_of_requests_takes_no_more_than_its_bounds() -> None:
    recent = Recent()
    began_s = time.process_time()
    for number in range(30_000):
        recent.take(began(number, NOW + number))
        recent.take(ended(number, NOW + number))
    assert len(recent.ended()) == KEPT
    assert recent.in_flight(NOW) == []
    assert len(recent._first) <= SAMPLES_MAX
    assert len(recent._per_minute) <= 61
    assert all(len(minutes) <= 61 for minutes in recent._minutes.values())
    assert time.process_time() - began_s < 10
    for number in range(IN_FLIGHT_SHOWN + 50):
        recent.take(began(number))
    assert len(recent.in_flight(NOW)) == IN_FLIGHT_SHOWN
