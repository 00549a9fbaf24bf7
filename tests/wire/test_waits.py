"""How long to wait, in the bodies of refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from balancer.model import Reply
from balancer.wire import complaints
from balancer.wire.waits import stated_wait_s

RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}
BODIES: dict[str, tuple[Any, float | None]] = {
    "Gemini": ([{"error": {"code": 429, "message": "quota", "details": [{"@type": "x"}, RETRY_INFO]}}], 35),
    "OpenRouter": (
        {"error": {"metadata": {"headers": {"X-RateLimit-Limit": "20", "X-RateLimit-Reset": "1060000"}}}},
        1060000,
    ),
    "OpenRouter, as a date": ({"error": {"metadata": {"headers": {"X-RateLimit-Reset": "1800000060000"}}}}, 60),
    "Codex": ({"error": {"type": "usage_limit_reached", "resets_in_seconds": 90, "plan_type": "plus"}}, 90),
    "Codex, as a date": ({"error": {"type": "usage_limit_reached", "resets_at": 1800000030}}, 30),
    "a number": ({"error": {"retry_after": 12.2}}, 13),
    "milliseconds": ({"error": {"retry_after_ms": 1500}}, 2),
    "a date that is over": ({"error": {"resets_at": 1700000000}}, 0),
    "no number": ({"error": {"retry_after": "soon", "retryDelay": None, "reset_in": True}}, None),
    "too long for a wait": ({"error": {"retry_after": 90 * 86400}}, None),
    "something else": ({"error": {"timeout": 5}}, None),
    "nothing": (None, None),
}


@pytest.mark.parametrize(("body", "wait_s"), BODIES.values(), ids=BODIES)
def test_fields(body: Any, wait_s: float | None) -> None:
    assert stated_wait_s(body, "", 1800000000.0) == wait_s


WORDS: dict[str, float | None] = {
    "Requests have exceeded token rate limit. Please retry after 26 seconds.": 26,
    "Please retry in 34.07s.": 35,
    "Please try again in 7m12s. Visit": 432,
    "Please try again in 1h2m3.5s": 3724,
    "try again in 250ms": 1,
    "Try again after 3 minutes": 180,
    "retry after 1 minute and 5 seconds": 65,
    "You can try again in about 2 hours, 1 minute": 7260,
    "Please wait for 30 seconds before the next request": 30,
    "Limit resets in: 2 days": 172800,
    "Retry after: 5s": 5,
    "try again later": None,
    "in 5 minutes": None,
    "please try again, model 5 s was not found": None,
    "retry after 5 potatoes": None,
    "try again in 999999999999d": None,
}


@pytest.mark.parametrize(("words", "wait_s"), WORDS.items())
def test_words(words: str, wait_s: float | None) -> None:
    assert stated_wait_s({}, words, 0.0) == wait_s


def test_a_field_is_surer_than_words() -> None:
    assert stated_wait_s({"retry_after": 4}, "retry after 9 seconds", 0.0) == 4


def reply(body: Any, **headers: str) -> Reply:
    lines = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return Reply(429, lines, json.dumps(body).encode())


def test_a_header_comes_before_the_body() -> None:
    body = {"error": {"message": "retry after 26 seconds"}}

    assert complaints.fault_of(reply(body), 0.0, "r").retry_after_s == 26
    assert complaints.fault_of(reply(body, retry_after="3"), 0.0, "r").retry_after_s == 3
    assert complaints.stream_fault(body).retry_after_s == 26


@pytest.mark.timeout(5)
@pytest.mark.parametrize("part", ["retry ", "try again in ", "1s ", "1 ", "wait for 1m ", "retry after 1"])
def test_words_cost_in_proportion_to_their_length(part: str) -> None:
    for _ in range(20):
        stated_wait_s({}, part * (100_000 // len(part)), 0.0)


def test_no_more_of_a_body_is_looked_at_than_the_limit() -> None:
    deep: Any = {"retry_after": 5}
    for _ in range(100):
        deep = [deep]

    assert stated_wait_s(deep, "", 0.0) is None
    assert stated_wait_s({**{str(n): n for n in range(1000)}, "retry_after": 5}, "", 0.0) is None
