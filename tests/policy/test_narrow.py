"""Which refusals say that this provider takes less than others may."""

from __future__ import annotations

import pytest
from stand_ins import candidate

from balancer.model import Broken, Fault, Refused, Stage
from balancer.policy.classify import judge_of
from balancer.policy.narrow import takes_less
from balancer.script import Cause

A = candidate("a")

LESS = (
    "tools.0.custom.defer_loading: Extra inputs are not permitted",
    "messages.0.content.1: Input tag 'x' found using 'type' does not match any of the expected tags: 'text'",
    "max_tokens: 64000 > 32000, which is the maximum allowed number of output tokens for claude-x",
    "thinking: unknown field",
    "tools.0: unrecognized request argument supplied: strict",
    "system: Additional properties are not allowed ('x' was unexpected)",
)
NOT_LESS = (
    "messages.1.content.1: `tool_use` ids must be unique",
    "messages.0.content: Input should be a valid list",
    "prompt is too long: 2 tokens > 1 maximum",
    "max_tokens: must be at least 1",
)


@pytest.mark.parametrize("words", LESS)
def test_another_provider_may_take_it(words: str) -> None:
    outcome = Refused(Fault(400, "invalid_request_error", words), Stage.WAIT)
    assert judge_of(A, outcome).retry_elsewhere or takes_less(outcome, judge_of(A, outcome))


@pytest.mark.parametrize("words", NOT_LESS)
def test_no_other_provider_would_take_it(words: str) -> None:
    outcome = Refused(Fault(400, "invalid_request_error", words), Stage.WAIT)
    assert not takes_less(outcome, judge_of(A, outcome))


def test_what_is_no_refusal_of_the_request_says_nothing() -> None:
    broken = Broken(Stage.WAIT, Cause.RESET)
    busy = Refused(Fault(529, "overloaded_error", "Extra inputs are not permitted"), Stage.WAIT)
    for outcome in (broken, busy):
        assert not takes_less(outcome, judge_of(A, outcome))
