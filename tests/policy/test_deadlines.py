"""How long one attempt may take to begin."""

from __future__ import annotations

from typing import Any

import pytest
from stand_ins import candidate, request

from balancer.model import Timeouts
from balancer.policy.deadlines import TOKENS_PER_S, patience_s
from balancer.policy.failover import Try

TIMEOUTS = Timeouts(request_s=60.0, non_streaming_s=600.0)

CASES: dict[str, tuple[dict[str, Any], float, bool, float]] = {
    # name: the request, how much time is left in all, whether nobody else is left, how long this one has
    "a stream has the provider's time": ({}, 300.0, False, 60.0),
    "a stream of the last candidate too": ({}, 300.0, True, 60.0),
    "a stream has no more than is left": ({}, 20.0, False, 20.0),
    "a whole answer of the last candidate has its whole time": ({"stream": False}, 900.0, True, 600.0),
    "and no more than is left": ({"stream": False}, 300.0, True, 300.0),
    "others are left: half of what is left": ({"stream": False, "max_tokens": 10**6}, 300.0, False, 150.0),
    "others are left: as long as its tokens take": ({"stream": False, "max_tokens": 800}, 900.0, False, 100.0),
    "others are left: no tokens are named": ({"stream": False}, 900.0, False, 60.0),
    "others are left: no more than a whole answer's time": ({"stream": False, "max_tokens": 10**6}, 9000.0, False, 600.0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_patience(name: str) -> None:
    more, left_s, last_hope, expected = CASES[name]

    assert patience_s(request(**more), TIMEOUTS, Try(candidate(), left_s, last_hope)) == expected


def test_a_token_takes_as_long_as_documented() -> None:
    assert TOKENS_PER_S == 20.0
