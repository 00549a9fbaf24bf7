"""What a named key has used of its limits, and when a further request may come."""

from __future__ import annotations

from collections import deque
from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from balancer.model import Usage
from balancer.policy.grants import KeyGrant, KeyUse, Minute


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 5)), max_size=60), st.integers(1, 20))
def test_never_is_more_counted_within_a_minute_than_allowed_and_the_wait_is_kept(
    steps: list[tuple[float, int]], limit: int
) -> None:
    minute, now = Minute(), 1000.0
    counted: deque[tuple[float, int]] = deque()
    for pause_s, count in steps:
        now += pause_s
        wait_s = minute.wait_s(limit, now)
        inside = sum(number for at, number in counted if at > now - 59)
        assert 0 <= wait_s <= 61
        if wait_s == 0:
            assert inside < limit
            counted.append((now, count))
            minute.add(count, now)
        else:
            assert deepcopy(minute).wait_s(limit, now + wait_s) == 0


def test_memory_is_bounded_however_much_is_counted() -> None:
    minute = Minute()
    for number in range(10_000):
        minute.add(1, number / 10)
        minute.wait_s(10**9, number / 10)

    assert len(minute._counts) <= 61


def test_each_limit_is_named_with_the_time_to_wait() -> None:
    grant = KeyGrant("team", KeyUse(), rpm=2, tokens_per_minute=100, max_in_flight=1)
    assert grant.exceeded(10.0) is None

    grant.began()
    assert grant.exceeded(10.0) == ("1 requests in flight", 1)
    assert grant.exceeded(10.0, counts=True) == ("1 requests in flight", 1)
    grant.ended(Usage(60, 30, 5000, 10), 10.0)
    assert grant.exceeded(20.0) == ("100 tokens a minute", 50)
    assert grant.exceeded(20.0, counts=True) is None
    assert grant.exceeded(70.0) is None
    for _ in range(2):
        grant.use.requests.add(1, 80.0)
    assert grant.exceeded(81.5) == ("2 requests a minute", 59)


def test_what_reports_no_usage_uses_nothing() -> None:
    grant = KeyGrant("team", KeyUse(), tokens_per_minute=1)
    grant.began()
    grant.ended(Usage(), 1.0)

    assert grant.exceeded(1.0) is None
    assert grant.use.in_flight == 0
