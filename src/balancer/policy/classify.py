"""What an outcome means: the provider's mark, whether another may be tried, how long it cools down.

A status alone is not enough for a 400. Most are about the request, and go back as they came, because Claude Code
repairs its request by their wording. Some are about the provider (no credit, an unknown model or beta, another
provider's thinking signature), and the next provider may answer.
"""

from __future__ import annotations

import re
from typing import assert_never

from msgspec.structs import replace

from balancer.model import (
    Abandoned,
    Broken,
    Candidate,
    Completed,
    Fault,
    Mark,
    Outcome,
    Refused,
    Scope,
    Stage,
    Trouble,
    Unfit,
    Verdict,
)
from balancer.script import Cause
from balancer.wire.overflow import is_overflow

NAMED_COOLDOWN_MAX_S = 900.0
"""The longest cooldown that a provider may name itself; more counts as this much."""

LOOKED_AT_CHARS = 2048
"""How much of a refusal's words decides what it means. The pattern for models takes time by the square of a length."""

_NO_CREDIT = re.compile(
    r"credit balance|insufficient (?:credit|quota|balance|funds)|insufficient_quota|spend(?:ing)? limit"
    r"|payment required|out of credits?",
    re.IGNORECASE,
)
_UNKNOWN_MODEL = re.compile(
    r"^model: |(?:unknown|invalid|unsupported|unrecognized|no such|not a valid) model|model_not_found|no model named"
    r"|\bmodel(?: id| name| identifier)?[\s:=]*"
    r"(?:(?:[`'\"][\w.:/@\[\]-]+[`'\"]|(?=[a-z]*[-.:/\d])[\w.:/@\[\]-]+)[\s,:]+)??"
    r"(?:(?:is|was|does|has been|could) )?(?:currently )?"
    r"(?:(?:not (?:be )?|(?:cannot|can't) be )(?:found|exist|supported|available|valid)"
    r"|unavailable|invalid|no longer (?:supported|available)|deprecated|decommissioned|retired)",
    re.IGNORECASE,
)
"""The model itself is missing; not something that a model lacks ("thinking is not supported by this model")."""
_UNKNOWN_BETA = re.compile(r"anthropic-beta", re.IGNORECASE)
_SIGNATURE = re.compile(
    r"(?:invalid|unexpected|missing).{0,40}signature|signature.{0,80}(?:thinking|invalid)", re.IGNORECASE | re.DOTALL
)

_CALLERS_OWN = frozenset({400, 413, 422})
_TROUBLES = {401: Trouble.KEY, 402: Trouble.CREDIT, 403: Trouble.ACCESS, 451: Trouble.ACCESS}
_MODEL_GONE = frozenset({404, 410})


_GOOD = Verdict(Mark.GOOD)


def judge(outcome: Outcome) -> Verdict:
    """Say what follows from `outcome`. Total: a new kind of outcome fails type checking here."""
    match outcome:
        case Completed():
            return _GOOD
        case Abandoned():
            return Verdict(Mark.NONE, reason="the client left")
        case Unfit(message=message):
            return Verdict(Mark.NONE, retry_elsewhere=True, reason=message)
        case Broken(stage=stage, cause=Cause.CRASHED):  # our own fault: the provider is not to blame
            return Verdict(Mark.NONE, retry_elsewhere=stage is not Stage.STREAM, reason=in_words(Cause.CRASHED))
        case Broken(stage=stage, cause=cause, detail=detail):
            return Verdict(Mark.BAD, retry_elsewhere=stage is not Stage.STREAM, reason=in_words(cause, detail))
        case Refused(fault=fault, stage=stage):
            verdict = _refusal(fault)
            if stage is not Stage.STREAM:
                return verdict
            return replace(verdict, retry_elsewhere=False)
        case _:
            assert_never(outcome)


def judge_of(candidate: Candidate, outcome: Outcome) -> Verdict:
    """Say what follows from `outcome` for `candidate`: no more than was put to the test.

    Where the client's own credential was sent, it is the credential that was refused. A provider
    that can't count tokens, or not in the little time that counting is given, may still answer.
    """
    verdict = judge(outcome)
    if verdict.mark.good or verdict.mark is Mark.NONE:
        return verdict
    if verdict.needs_operator and candidate.provider.passthrough:
        return Verdict(
            Mark.NONE,
            verdict.retry_elsewhere,
            needs_operator=Trouble.CLIENT_KEY,
            reason=f"{verdict.reason} (the client's own key)",
            status=verdict.status,
        )
    counted = candidate.operation.counts and not verdict.needs_operator
    if counted and getattr(outcome, "stage", None) is not Stage.CONNECT:
        return replace(verdict, scope=Scope.COUNTING)
    return verdict


def too_long(outcome: Outcome) -> bool:
    """Say whether the prompt is longer than the model's context: a larger one may take it."""
    return isinstance(outcome, Refused) and callers_own(outcome.fault) and is_overflow(outcome.fault.message)


def lasting(outcome: Outcome) -> bool:
    """Say whether the same provider would say the same again: it was the request, or the model."""
    return isinstance(outcome, Refused) and outcome.fault.status in _CALLERS_OWN | _MODEL_GONE


def is_model_unknown(scope: Scope, status: int | None) -> bool:
    """Say whether a failure of this scope and status is that the provider does not know the model."""
    return scope is Scope.MODEL and status != 429


def callers_own(fault: Fault) -> bool:
    """Say whether the fault is the request's: no other provider would answer otherwise."""
    return fault.callers_own or (fault.status in _CALLERS_OWN and _about_the_provider(fault) is None)


def _refusal(fault: Fault) -> Verdict:
    reason = f"{fault.status} {fault.kind}"
    if fault.status == 502 and fault.reply is None:  # not the provider's words but ours: they say what was wrong
        reason = fault.message or reason
    if fault.callers_own or fault.elsewhere:
        return Verdict(Mark.NONE, retry_elsewhere=fault.elsewhere, reason=reason, status=fault.status)
    if fault.status in _CALLERS_OWN:
        return _about_the_provider(fault) or Verdict(Mark.NONE, reason=reason, status=fault.status)
    cooldown_s = None if fault.retry_after_s is None else min(fault.retry_after_s, NAMED_COOLDOWN_MAX_S)
    trouble, scope = _TROUBLES.get(fault.status), Scope.PROVIDER
    if fault.kind == "billing_error":
        trouble = Trouble.CREDIT
    elif fault.status == 429 and fault.should_retry is False:  # it will not pass by waiting
        trouble, reason = Trouble.SPEND_CAP, f"{reason}, not to be retried"
    elif fault.status == 429:
        scope = Scope.MODEL
    elif fault.status in _MODEL_GONE:
        scope, cooldown_s = Scope.MODEL, None
    return Verdict(Mark.BAD, True, cooldown_s, trouble, scope, reason, fault.status)


def _about_the_provider(fault: Fault) -> Verdict | None:
    """Return the verdict on a 400, 413 or 422 whose wording is about the provider; None: it is about the request."""
    status, words = fault.status, fault.message[:LOOKED_AT_CHARS]
    if is_overflow(fault.message):
        return None
    if fault.kind == "billing_error" or _NO_CREDIT.search(words):
        return Verdict(Mark.BAD, True, None, Trouble.CREDIT, Scope.PROVIDER, f"{status} no credit", status)
    if _UNKNOWN_MODEL.search(words):
        return Verdict(Mark.BAD, True, None, None, Scope.MODEL, f"{status} unknown model", status)
    if _UNKNOWN_BETA.search(words):
        return Verdict(Mark.NONE, True, reason=f"{status} unknown beta", status=status)
    if _SIGNATURE.search(words):
        return Verdict(Mark.NONE, True, reason=f"{status} foreign thinking signature", status=status)
    return None


CAUSES = {
    Cause.DNS: "its name was not found",
    Cause.REFUSED: "connection refused",
    Cause.UNREACHABLE: "network unreachable",
    Cause.CONNECT_TIMEOUT: "no connection in time",
    Cause.TLS: "TLS failed",
    Cause.PROXY: "no way through the proxy",
    Cause.RESET: "connection reset",
    Cause.CLOSED: "connection closed before the end",
    Cause.HEAD_TIMEOUT: "no answer in time",
    Cause.IDLE_TIMEOUT: "fell silent",
    Cause.SILENT: "no content in time",
    Cause.PROTOCOL: "its answer was not HTTP",
    Cause.TOO_LARGE: "its answer was too large",
    Cause.ENCODING: "its answer could not be decompressed",
    Cause.TRUNCATED: "its answer was cut short",
    Cause.CRASHED: "the balancer failed while asking it; the log says how",
}


def in_words(cause: Cause, detail: str = "") -> str:
    """Return a cause in plain words."""
    words = CAUSES[cause]
    return f"{words} ({detail})" if detail else words
