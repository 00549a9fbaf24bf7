"""What every outcome means, row by row: architecture, section 6."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from stand_ins import candidate

from balancer.model import Abandoned, Broken, Completed, Fault, Operation, Outcome, Refused, Reply, Stage, Unfit
from balancer.policy.classify import (
    NAMED_COOLDOWN_MAX_S,
    callers_own,
    in_words,
    is_model_unknown,
    judge,
    judge_of,
    lasting,
    too_long,
)
from balancer.policy.refusals import LOOKED_AT_CHARS
from balancer.policy.verdicts import Mark, Proof, Scope, Trouble, Verdict
from balancer.script import Cause
from balancer.wire.errors import kind_of


def refused(
    status: int, kind: str = "api_error", message: str = "", stage: Stage = Stage.WAIT, **more: object
) -> Refused:
    return Refused(Fault(status, kind, message, **more), stage)  # type: ignore[arg-type]


def gist(verdict: Verdict) -> tuple[Mark, bool, Trouble | None, Scope]:
    return verdict.mark, verdict.retry_elsewhere, verdict.needs_operator, verdict.scope


BAD_NEXT = (Mark.BAD, True, None, Scope.PROVIDER)
KEY = (Mark.BAD, True, Trouble.KEY, Scope.PROVIDER)
ACCESS = (Mark.BAD, True, Trouble.ACCESS, Scope.PROVIDER)
CREDIT = (Mark.BAD, True, Trouble.CREDIT, Scope.PROVIDER)
SPEND_CAP = (Mark.BAD, True, Trouble.SPEND_CAP, Scope.PROVIDER)
BAD_MODEL = (Mark.BAD, True, None, Scope.MODEL)
CALLER = (Mark.NONE, False, None, Scope.PROVIDER)
NEXT = (Mark.NONE, True, None, Scope.PROVIDER)
TOO_LATE = (Mark.BAD, False, None, Scope.PROVIDER)

CASES: dict[str, tuple[Outcome, tuple[Mark, bool, Trouble | None, Scope]]] = {
    "a whole answer is good": (Completed(), (Mark.GOOD, False, None, Scope.PROVIDER)),
    "a client that left says nothing": (Abandoned(Stage.STREAM), CALLER),
    "a request that this provider can't take may go to another": (Unfit("no PDFs here"), NEXT),
    "a generic 400 is the caller's": (refused(400, "invalid_request_error", "max_tokens: too big"), CALLER),
    "a 413 of the API is the caller's": (refused(413, "request_too_large", type="request_too_large"), CALLER),
    "a 413 of whoever may not be the next one's": (refused(413, "request_too_large"), NEXT),
    "a 422 that names a field is the caller's": (refused(422, "invalid_request_error", "tools: no"), CALLER),
    "a 422 is the caller's also where it names none": (refused(422, "invalid_request_error"), CALLER),
    "a 422 about a capability is not": (refused(422, message="images are not supported"), NEXT),
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
    "no credit is the provider's": (refused(400, message="Your credit balance is too low to access the API"), CREDIT),
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
    "401 needs a human": (refused(401, "authentication_error"), KEY),
    "402 needs a human": (refused(402, "billing_error"), CREDIT),
    "403 needs a human": (refused(403, "permission_error"), ACCESS),
    "429 rests the model": (refused(429, "rate_limit_error"), BAD_MODEL),
    "a spend cap needs a human": (refused(429, "rate_limit_error", should_retry=False), SPEND_CAP),
    "a billing error needs a human, whatever its status": (refused(429, "billing_error"), CREDIT),
    "404 rests the model": (refused(404, "not_found_error"), BAD_MODEL),
    "500": (refused(500), BAD_NEXT),
    "502": (refused(502), BAD_NEXT),
    "503": (refused(503), BAD_NEXT),
    "504": (refused(504, "timeout_error"), BAD_NEXT),
    "an overload is the model's": (refused(529, "overloaded_error"), BAD_MODEL),
    "an overload with another status": (refused(500, "overloaded_error"), BAD_MODEL),
    "408": (refused(408), BAD_NEXT),
    "409": (refused(409, "conflict_error"), BAD_NEXT),
    "a redirect is never followed": (refused(307), BAD_NEXT),
    "an error event after content is too late": (refused(500, stage=Stage.STREAM), TOO_LATE),
    "a refused connection": (Broken(Stage.CONNECT, Cause.REFUSED), BAD_NEXT),
    "a reset before anything came": (Broken(Stage.WAIT, Cause.RESET), BAD_NEXT),
    "silence": (Broken(Stage.WAIT, Cause.SILENT), BAD_NEXT),
    "a cut after content is too late": (Broken(Stage.STREAM, Cause.CLOSED), TOO_LATE),
    "our own failure does not blame the provider": (Broken(Stage.WAIT, Cause.CRASHED), NEXT),
}


@pytest.mark.parametrize(("outcome", "expected"), CASES.values(), ids=CASES)
def test_judge(outcome: Outcome, expected: tuple[Mark, bool, Trouble | None, Scope]) -> None:
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
def test_what_a_model_lacks_may_be_had_elsewhere_and_is_nobodys_fault(message: str) -> None:
    assert gist(judge(refused(400, message=message))) == NEXT


def test_the_clients_own_key_says_nothing_about_the_provider() -> None:
    theirs = candidate(passthrough=True)

    assert gist(judge_of(theirs, refused(401, "authentication_error"))) == (
        Mark.NONE,
        True,
        Trouble.CLIENT_KEY,
        Scope.PROVIDER,
    )
    assert gist(judge_of(theirs, refused(529, "overloaded_error"))) == BAD_MODEL
    assert gist(judge_of(candidate(), refused(401, "authentication_error"))) == KEY


def test_a_count_that_fails_says_nothing_about_answers() -> None:
    counting = replace(candidate(), operation=Operation.COUNT_TOKENS)

    assert judge_of(counting, refused(404, "not_found_error")).scope is Scope.COUNTING
    assert judge_of(counting, refused(500)).scope is Scope.COUNTING
    assert judge_of(counting, Broken(Stage.WAIT, Cause.SILENT)).scope is Scope.COUNTING
    assert judge_of(counting, Broken(Stage.CONNECT, Cause.REFUSED)).scope is Scope.PROVIDER
    assert gist(judge_of(counting, refused(401, "authentication_error"))) == KEY
    assert judge_of(counting, Completed()).mark is Mark.GOOD


# Every member of every table


KNOWN = {
    **dict.fromkeys((400, 413), NEXT),
    422: CALLER,
    **dict.fromkeys((405, 406, 411, 412, 414, 415, 416, 417, 428, 431), NEXT),
    401: KEY,
    402: CREDIT,
    403: ACCESS,
    451: ACCESS,
    **dict.fromkeys((404, 410), BAD_MODEL),
    **dict.fromkeys((429, 529), BAD_MODEL),
    **dict.fromkeys((408, 409, 425, 499), BAD_NEXT),
}
"""What docs/resilience.md says of each status. Any other of 4xx needs a second request that meets it; the rest is the
provider's."""


@pytest.mark.parametrize("status", [*range(300, 600), 600, 999])
def test_what_a_status_alone_means(status: int) -> None:
    verdict = judge(refused(status, kind_of(status)))
    unusual = 400 <= status < 500 and status not in KNOWN

    assert gist(verdict) == KNOWN.get(status, NEXT if unusual else BAD_NEXT)
    assert (verdict.proof is Proof.UNSURE) is unusual
    assert verdict.status == status
    assert str(status) in verdict.reason or status == 502


@pytest.mark.parametrize("status", sorted(KNOWN))
def test_after_content_no_status_lets_another_provider_be_tried(status: int) -> None:
    early, late = judge(refused(status)), judge(refused(status, stage=Stage.STREAM))

    assert not late.retry_elsewhere
    assert (late.mark, late.needs_operator, late.scope, late.status) == (
        early.mark,
        early.needs_operator,
        early.scope,
        status,
    )


@pytest.mark.parametrize("status", sorted({*(s for s in KNOWN if KNOWN[s][0] is Mark.BAD), 500} - {404, 410}))
def test_a_cooldown_that_a_refusal_names_is_kept_up_to_a_bound(status: int) -> None:
    for named_s, cooldown_s in ((0.5, 0.5), (900.0, 900.0), (900.1, 900.0), (1e9, 900.0)):
        assert judge(refused(status, retry_after_s=named_s)).cooldown_s == cooldown_s
    assert judge(refused(status)).cooldown_s is None


@pytest.mark.parametrize("status", [400, 413, 422, 404, 410])
def test_a_request_or_a_model_that_is_refused_has_no_time_to_wait_for(status: int) -> None:
    assert judge(refused(status, retry_after_s=30.0)).cooldown_s is None


WORDINGS = {
    CREDIT: [
        "Your credit balance is too low",
        "insufficient credit", "Insufficient quota", "insufficient balance", "insufficient funds", "insufficient_quota",
        "Payment required", "out of credit", "Out of credits",
    ],
    SPEND_CAP: ["You hit your spend limit", "your spending limit was reached"],
    BAD_MODEL: [
        "model: x", "unknown model", "invalid model", "unsupported model", "unrecognized model", "no such model",
        "x is not a valid model", "model_not_found", "no model named x",
        "the model x-1 is not supported", "model 'x' was not found", "model does not exist", "model has been deprecated",
        "model could not be found", "model cannot be found", "model can't be found", "model x-1 is currently unavailable",
        "model is invalid", "model x-1 is no longer supported", "model is no longer available", "model was decommissioned",
        "model has been retired", "model is not valid", "model is not available",
    ],
    NEXT: [
        "Unexpected value(s) `x` for the `anthropic-beta` header",
        "Invalid `signature` in `thinking` block", "unexpected signature", "missing a signature",
        "signature of the thinking block", "the signature is invalid",
    ],
    CALLER: [
        "prompt is too long: 2 tokens > 1 maximum", "input length and max_tokens exceed context limit",
        "maximum context length is 8", "context_length_exceeded",
        "prompt is too long for the model: unknown model", "maximum context length: your credit balance",
        "max_tokens: too big", "messages: at least one message is required",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("message", "expected"), [(words, gist_) for gist_, every in WORDINGS.items() for words in every]
)
@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_the_wording_of_a_refusal_means(
    status: int, message: str, expected: tuple[Mark, bool, Trouble | None, Scope]
) -> None:
    verdict = judge(refused(status, message=message))

    assert gist(verdict) == expected
    assert verdict.status == status
    assert verdict.reason.startswith(f"{status} ")


REASONS = {
    "no credit": "your credit balance is too low",
    "unknown model": "unknown model",
    "unknown beta": "anthropic-beta",
    "thinking of another origin": "invalid signature",
    "not supported here": "images are not supported",
}


@pytest.mark.parametrize(("reason", "message"), REASONS.items())
def test_the_reason_says_how_the_wording_was_taken(reason: str, message: str) -> None:
    assert judge(refused(400, message=message)).reason == f"400 {reason}"


def test_a_billing_error_as_a_400_is_about_credit_whatever_its_words() -> None:
    assert gist(judge(refused(400, "billing_error", "no"))) == CREDIT


@pytest.mark.parametrize("status", [429, 500, 403])
@pytest.mark.parametrize("should_retry", [True, None, False])
def test_only_a_limit_that_is_not_to_be_retried_is_a_spending_limit(status: int, should_retry: bool | None) -> None:
    spent = status == 429 and should_retry is False
    verdict = judge(refused(status, should_retry=should_retry))

    assert (verdict.needs_operator is Trouble.SPEND_CAP) is spent
    assert verdict.reason.endswith(", not to be retried") is spent


def test_what_the_balancer_itself_found_wrong_is_said_in_its_words() -> None:
    ours = Fault(502, "api_error", "an event of the stream is not valid JSON")
    theirs = Fault(502, "api_error", "their words", reply=Reply(502, ()))

    assert judge(Refused(ours, Stage.WAIT)).reason == "an event of the stream is not valid JSON"
    assert judge(Refused(theirs, Stage.WAIT)).reason == "502 api_error"
    assert judge(Refused(Fault(502, "api_error"), Stage.WAIT)).reason == "502 api_error"


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_its_words(cause: Cause) -> None:
    verdict = judge(Broken(Stage.WAIT, cause, "detail"))

    assert verdict.reason == in_words(cause, "" if cause == "crashed" else "detail")
    assert not verdict.reason.startswith(cause), "in plain words"
    assert verdict.status is None


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize(("cause", "mark"), [(Cause.RESET, Mark.BAD), (Cause.CRASHED, Mark.NONE)])
def test_what_broke_may_be_tried_elsewhere_until_content_was_sent(stage: Stage, cause: Cause, mark: Mark) -> None:
    verdict = judge(Broken(stage, cause))

    assert (verdict.mark, verdict.retry_elsewhere) == (mark, stage is not Stage.STREAM)


@pytest.mark.parametrize("trouble", [401, 402, 403, 451])
def test_every_refusal_of_the_clients_own_credential_is_the_clients(trouble: int) -> None:
    verdict = judge_of(candidate(passthrough=True), refused(trouble))

    assert (verdict.mark, verdict.retry_elsewhere, verdict.needs_operator) == (Mark.NONE, True, Trouble.CLIENT_KEY)
    assert verdict.reason == f"{trouble} api_error (the client's own key)"
    assert verdict.status == trouble


LASTING = {**dict.fromkeys((400, 413, 422, 404, 410, 415), True), **dict.fromkeys((401, 408, 429, 500, 529), False)}


@pytest.mark.parametrize(("status", "expected"), LASTING.items())
def test_what_the_same_provider_would_say_again(status: int, expected: bool) -> None:
    assert lasting(refused(status)) is expected
    assert not lasting(Broken(Stage.WAIT, Cause.RESET))


def test_a_prompt_that_is_too_long_is_known_by_its_words_in_a_fault_of_the_callers_own() -> None:
    for status in (400, 413, 422):
        assert too_long(refused(status, message="prompt is too long"))
    assert not too_long(refused(500, message="prompt is too long"))
    assert not too_long(refused(400, message="x"))
    assert not too_long(Unfit("prompt is too long"))


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("status", [None, 404, 410, 429, 529])
def test_a_model_is_unknown_where_it_alone_was_refused_and_not_for_a_limit(scope: Scope, status: int | None) -> None:
    assert is_model_unknown(scope, status) is (scope is Scope.MODEL and status in (404, 410))


@pytest.mark.parametrize("words", ["model.", "model ", "invalid ", "signature ", "model `", "not a valid "])
def test_a_long_refusal_takes_no_long_time(words: str) -> None:
    began = time.thread_time()
    judge(refused(400, message=words * 100_000))

    assert time.thread_time() - began < 1.0


def test_what_a_refusal_means_stands_at_its_beginning() -> None:
    room = "x" * (LOOKED_AT_CHARS - len(" unknown model")) + " "

    assert gist(judge(refused(400, message=f"{room}unknown model"))) == BAD_MODEL
    assert gist(judge(refused(400, message=f"{room}xunknown model"))) == NEXT
