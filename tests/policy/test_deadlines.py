"""How long all attempts for a request may take, and how long one of them."""

from __future__ import annotations

from typing import Any

import pytest
from stand_ins import candidate, request

from balancer.model import Operation, Timeouts
from balancer.policy.deadlines import (
    CLIENT_MARGIN_S,
    COUNT_MAX_S,
    STREAM_MAX_S,
    TOKENS_PER_S,
    WHOLE_ANSWER_S,
    overall_s,
    patience_s,
)
from balancer.policy.failover import Try

COUNT = Operation.COUNT_TOKENS

OVERALL: dict[str, tuple[dict[str, Any], float]] = {
    "a stream": ({}, 300.0),
    "a whole answer": ({"stream": False}, 600.0),
    "a count": ({"operation": COUNT, "stream": False}, 3.0),
    "a count of a client that waits less": ({"operation": COUNT, "stream": False, "client_timeout_s": 12.0}, 3.0),
    "a client that waits less": ({"client_timeout_s": 60.0}, 55.0),
    "a client that waits for a whole answer": ({"stream": False, "client_timeout_s": 600.0}, 595.0),
    "a client that waits longer": ({"client_timeout_s": 900.0}, 300.0),
    "a client that waits exactly as long and the margin": ({"client_timeout_s": 305.0}, 300.0),
    "a client that hardly waits": ({"client_timeout_s": 10.0}, 300.0),
    "a client that waits a little longer than hardly": ({"client_timeout_s": 10.5}, 5.5),
    "a client that says nonsense": ({"client_timeout_s": -1.0}, 300.0),
}


@pytest.mark.parametrize(("fields", "seconds"), OVERALL.values(), ids=OVERALL)
def test_all_attempts_together(fields: dict[str, Any], seconds: float) -> None:
    assert overall_s(request(**fields), WHOLE_ANSWER_S) == seconds


def test_a_whole_answer_gets_what_the_configuration_gives_it() -> None:
    assert overall_s(request(stream=False), 900.0) == 900.0
    assert overall_s(request(stream=True), 900.0) == STREAM_MAX_S


@pytest.mark.parametrize(("client_s", "seconds"), [(None, 900.0), (600.0, 595.0), (9.0, 900.0)])
def test_a_stream_gets_what_the_configuration_gives_it_within_the_clients_own_limit(
    client_s: float | None, seconds: float
) -> None:
    assert overall_s(request(client_timeout_s=client_s), WHOLE_ANSWER_S, 900.0) == seconds
    assert overall_s(request(stream=False), WHOLE_ANSWER_S, 900.0) == WHOLE_ANSWER_S


def test_the_constants_fit_what_clients_do() -> None:
    assert STREAM_MAX_S + CLIENT_MARGIN_S < 360.0, "Claude Code gives up after about that"
    assert COUNT_MAX_S <= 3.0, "an estimate is at hand"
    assert (WHOLE_ANSWER_S, TOKENS_PER_S) == (600.0, 20.0)


TIMES = Timeouts(request_s=60.0, non_streaming_s=400.0)

PATIENCE: dict[str, tuple[dict[str, Any], float, bool, float]] = {
    # request, what is left of the deadline, whether it is the last candidate, seconds
    "a stream has the provider's time": ({}, 300.0, False, 60.0),
    "a stream has no more than is left": ({}, 20.0, False, 20.0),
    "the last candidate of a stream may use all": ({}, 300.0, True, 300.0),
    "a whole answer has the time its tokens take": ({"stream": False, "max_tokens": 1000}, 600.0, False, 110.0),
    "without max_tokens the time to begin": ({"stream": False}, 600.0, False, 60.0),
    "at most half of what is left": ({"stream": False, "max_tokens": 32000}, 300.0, False, 150.0),
    "at most the provider's time": ({"stream": False, "max_tokens": 32000}, 1000.0, False, 400.0),
    "the last candidate may use all": ({"stream": False, "max_tokens": 10}, 300.0, True, 300.0),
    "the last candidate has the provider's time": ({"stream": False}, 600.0, True, 400.0),
}


@pytest.mark.parametrize(("fields", "left_s", "last_hope", "seconds"), PATIENCE.values(), ids=PATIENCE)
def test_one_attempt(fields: dict[str, Any], left_s: float, last_hope: bool, seconds: float) -> None:
    assert patience_s(request(**fields), TIMES, Try(candidate(), left_s, last_hope)) == seconds
