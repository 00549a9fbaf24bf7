"""What every outcome means, row by row: architecture, section 6."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stand_ins import candidate

from balancer.model import (
    Abandoned,
    Broken,
    Completed,
    Fault,
    Mark,
    Operation,
    Outcome,
    Refused,
    Scope,
    Stage,
    Unfit,
    Verdict,
)
from balancer.policy.classify import NAMED_COOLDOWN_MAX_S, callers_own, judge, judge_of
from balancer.script import Cause


def refused(
    status: int, kind: str = "api_error", message: str = "", stage: Stage = Stage.WAIT, **more: object
) -> Refused:
    return Refused(Fault(status, kind, message, **more), stage)  # type: ignore[arg-type]


def gist(verdict: Verdict) -> tuple[Mark, bool, bool, Scope]:
    return verdict.mark, verdict.retry_elsewhere, verdict.needs_operator, verdict.scope


BAD_NEXT = (Mark.BAD, True, False, Scope.PROVIDER)
BAD_LONG = (Mark.BAD, True, True, Scope.PROVIDER)
BAD_MODEL = (Mark.BAD, True, False, Scope.MODEL)
CALLER = (Mark.NONE, False, False, Scope.PROVIDER)
NEXT = (Mark.NONE, True, False, Scope.PROVIDER)
TOO_LATE = (Mark.BAD, False, False, Scope.PROVIDER)

CASES: dict[str, tuple[Outcome, tuple[Mark, bool, bool, Scope]]] = {
    "a whole answer is good": (Completed(), (Mark.GOOD, False, False, Scope.PROVIDER)),
    "a client that left says nothing": (Abandoned(Stage.STREAM), CALLER),
    "a request that this provider can't take may go to another": (Unfit("no PDFs here"), NEXT),
    "a generic 400 is the caller's": (refused(400, "invalid_request_error", "max_tokens: too big"), CALLER),
    "a 413 is the caller's": (refused(413, "request_too_large"), CALLER),
    "a 422 is the caller's": (refused(422, "invalid_request_error"), CALLER),
    "a prompt that is too long is the caller's": (
        refused(400, message="prompt is too long: 2 tokens > 1 maximum"),
        CALLER,
    ),
    "a prompt that is too long here may fit elsewhere": (
        refused(400, message="prompt is too long: 2 tokens > 1 maximum", elsewhere=True),
        NEXT,
    ),
    "a budget of the request's own is nobody's fault, whatever its status": (
        refused(402, "billing_error", "daily_usd", callers_own=True),
        CALLER,
    ),
    "no credit is the provider's": (refused(400, message="Your credit balance is too low to access the API"), BAD_LONG),
    "an unknown model is about provider and model": (
        refused(400, message="model: claude-x is not supported"),
        BAD_MODEL,
    ),
    "an unknown beta may be known elsewhere": (
        refused(400, message="Unexpected value(s) `x` for the `anthropic-beta` header"),
        NEXT,
    ),
    "a foreign signature is native elsewhere": (
        refused(400, message="messages.1.content.0: Invalid `signature` in `thinking` block"),
        NEXT,
    ),
    "401 needs a human": (refused(401, "authentication_error"), BAD_LONG),
    "402 needs a human": (refused(402, "billing_error"), BAD_LONG),
    "403 needs a human": (refused(403, "permission_error"), BAD_LONG),
    "429 rests the model": (refused(429, "rate_limit_error"), BAD_MODEL),
    "a spend cap needs a human": (refused(429, "rate_limit_error", should_retry=False), BAD_LONG),
    "a billing error needs a human, whatever its status": (refused(429, "billing_error"), BAD_LONG),
    "404 rests the model": (refused(404, "not_found_error"), BAD_MODEL),
    "500": (refused(500), BAD_NEXT),
    "502": (refused(502), BAD_NEXT),
    "503": (refused(503), BAD_NEXT),
    "504": (refused(504, "timeout_error"), BAD_NEXT),
    "529": (refused(529, "overloaded_error"), BAD_NEXT),
    "408": (refused(408), BAD_NEXT),
    "409": (refused(409, "conflict_error"), BAD_NEXT),
    "a redirect is never followed": (refused(307), BAD_NEXT),
    "an error event after content is too late": (refused(529, "overloaded_error", stage=Stage.STREAM), TOO_LATE),
    "a refused connection": (Broken(Stage.CONNECT, Cause.REFUSED), BAD_NEXT),
    "a reset before anything came": (Broken(Stage.WAIT, Cause.RESET), BAD_NEXT),
    "silence": (Broken(Stage.WAIT, Cause.SILENT), BAD_NEXT),
    "a cut after content is too late": (Broken(Stage.STREAM, Cause.CLOSED), TOO_LATE),
    "our own failure does not blame the provider": (Broken(Stage.WAIT, Cause.CRASHED), NEXT),
}


@pytest.mark.parametrize(("outcome", "expected"), CASES.values(), ids=CASES)
def test_judge(outcome: Outcome, expected: tuple[Mark, bool, bool, Scope]) -> None:
    assert gist(judge(outcome)) == expected


def test_a_rest_that_the_provider_names_is_believed_up_to_a_bound() -> None:
    assert judge(refused(429, retry_after_s=30.0)).cooldown_s == 30.0
    assert judge(refused(529, retry_after_s=1e7)).cooldown_s == NAMED_COOLDOWN_MAX_S


@pytest.mark.parametrize("outcome", [outcome for outcome, _ in CASES.values()], ids=list(CASES))
def test_every_bad_verdict_says_why(outcome: Outcome) -> None:
    verdict = judge(outcome)

    assert verdict.mark is Mark.GOOD or verdict.reason


def test_the_callers_own_faults_are_known() -> None:
    assert callers_own(Fault(400, "invalid_request_error", "tools: too many"))
    assert not callers_own(Fault(400, "invalid_request_error", "credit balance is too low"))
    assert not callers_own(Fault(529, "overloaded_error"))


@pytest.mark.parametrize(
    "message",
    [
        "model: claude-x",
        "The model `gpt-x` does not exist or you do not have access to it.",
        "Model is unavailable",
        "model 'llama3' not found, try pulling it first",
        "The requested model is not available in your region",
        "The provided model identifier is invalid.",
        "Model Not Exist",
        "The model 'mixtral' has been deprecated",
        "x/y:free is not a valid model ID",
        "The model: claude-9 could not be found",
    ],
)
def test_a_model_that_is_missing_is_the_providers(message: str) -> None:
    assert gist(judge(refused(400, message=message))) == BAD_MODEL


@pytest.mark.parametrize(
    "message",
    [
        "For model claude-opus-4, thinking type 'adaptive' is not supported",
        "model claude-x: adaptive thinking is not supported",
        "the model's tool_choice 'any' is not supported when thinking is enabled",
        "This model does not support assistant message prefill",
        "This model is not able to use tools: tool_choice is not supported",
        "context_management is not available for this model",
    ],
)
def test_what_a_model_lacks_is_the_callers_who_repairs_it_by_the_wording(message: str) -> None:
    assert gist(judge(refused(400, message=message))) == CALLER


def test_the_clients_own_key_says_nothing_about_the_provider() -> None:
    theirs = candidate(passthrough=True)

    assert gist(judge_of(theirs, refused(401, "authentication_error"))) == NEXT
    assert gist(judge_of(theirs, refused(529, "overloaded_error"))) == BAD_NEXT
    assert gist(judge_of(candidate(), refused(401, "authentication_error"))) == BAD_LONG


def test_a_count_that_fails_says_nothing_about_answers() -> None:
    counting = replace(candidate(), operation=Operation.COUNT_TOKENS)

    assert judge_of(counting, refused(404, "not_found_error")).scope is Scope.COUNTING
    assert judge_of(counting, refused(500)).scope is Scope.COUNTING
    assert judge_of(counting, Broken(Stage.WAIT, Cause.SILENT)).scope is Scope.COUNTING
    assert judge_of(counting, Broken(Stage.CONNECT, Cause.REFUSED)).scope is Scope.PROVIDER
    assert gist(judge_of(counting, refused(401, "authentication_error"))) == BAD_LONG
    assert judge_of(counting, Completed()).mark is Mark.GOOD
