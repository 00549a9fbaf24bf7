"""Which of equal candidates is the better one: by the check of actions, and by whose the reasoning is."""

from __future__ import annotations

import pytest
from stand_ins import candidate

from balancer.model import Broken, Candidate, Fault, Outcome, Refused, Stage
from balancer.policy.preference import checking_first, refuses_thinking, same_organization_first
from balancer.script import Cause

ORGANIZATIONS = {"a": "one", "b": "two", "c": "two", "d": ""}
ALL = [candidate("a"), candidate("b"), candidate("c", priority=2), candidate("d", priority=2)]


def names(candidates: list[Candidate]) -> str:
    return "".join(each.provider.name for each in candidates)


def test_among_equals_those_first_that_may_check() -> None:
    assert names(checking_first(ALL, lambda c: 2 if c.provider.name in "ac" else 0)) == "badc"


def test_among_equals_those_first_of_the_organization() -> None:
    def of(each: Candidate) -> str:
        return ORGANIZATIONS[each.provider.name]

    assert names(same_organization_first(ALL, "two", of)) == "bacd"
    assert names(same_organization_first(ALL, "three", of)) == "abcd"


def refused(words: str, status: int = 400, stage: Stage = Stage.WAIT) -> Refused:
    return Refused(Fault(status, "invalid_request_error", words), stage)


WORDS = [
    "messages.7.content.34: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. "
    "These blocks must remain as they were in the original response.",
    "messages.3.content.0.thinking: each thinking block must contain thinking",
    "messages.5.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`.",
    "The block is bound to a different conversation. Send it as it was, or drop_block with the header anthropic-beta: "
    "thinking-binding-controls-2026-08-01.",
    "messages.1.content.0: Invalid `signature` in `thinking` block",
    "messages.1.content.0.thinking.signature: Field required, missing signature",
]


@pytest.mark.parametrize("words", WORDS)
def test_a_refusal_of_thinking_is_known_by_its_words(words: str) -> None:
    assert refuses_thinking(refused(words))
    assert not refuses_thinking(refused(words, 529))
    assert not refuses_thinking(refused(words, stage=Stage.STREAM))


@pytest.mark.parametrize(
    "outcome",
    [
        refused("max_tokens: Field required"),
        refused("thinking is not supported by this model"),
        refused("`max_tokens` must be greater than `thinking.budget_tokens`"),
        refused("tools.0.custom.defer_loading: Extra inputs are not permitted"),
        refused("x" * 4000 + WORDS[0]),
        Broken(Stage.WAIT, Cause.RESET),
    ],
)
def test_nothing_else_is_taken_for_it(outcome: Outcome) -> None:
    assert not refuses_thinking(outcome)
