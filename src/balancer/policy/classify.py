"""What an outcome means: the provider's mark, whether another may be tried, how long to rest.

Classify first, then act. A status alone is not enough for 400: most are the caller's, and go back
as they came, because Claude Code repairs its request by their wording; some are about the
provider (no credit, a model or beta that it does not know, a thinking signature of another one),
and the next provider may answer.
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
    Unfit,
    Verdict,
)
from balancer.script import Cause
from balancer.wire.overflow import is_overflow

NAMED_COOLDOWN_MAX_S = 900.0
"""The longest rest that a provider may ask for itself; more is taken for this much."""

_NO_CREDIT = re.compile(
    r"credit balance|insufficient (?:credit|quota|balance|funds)|insufficient_quota|spend(?:ing)? limit"
    r"|payment required|out of credits?",
    re.IGNORECASE,
)
_UNKNOWN_MODEL = re.compile(
    r"^model: |(?:unknown|invalid|unsupported|unrecognized|no such|not a valid) model|model_not_found|no model named"
    r"|\bmodel(?: id| name| identifier)?[\s:=]*"
    r"(?:(?:[`'\"][\w.:/@\[\]-]+[`'\"]|(?=[a-z]*[-.:/\d])[\w.:/@\[\]-]+)[\s,:]+)??"
    r"(?:(?:is|was|does|has been|could|cannot be|can't be) )?(?:currently )?"
    r"(?:not (?:be )?(?:found|exist|supported|available|valid)|unavailable|invalid|no longer (?:supported|available)"
    r"|deprecated|decommissioned|retired)",
    re.IGNORECASE,
)
"""The model itself is missing; not something that a model lacks ("thinking is not supported by this model")."""
_UNKNOWN_BETA = re.compile(r"anthropic-beta", re.IGNORECASE)
_SIGNATURE = re.compile(
    r"(?:invalid|unexpected|missing).{0,40}signature|signature.{0,80}(?:thinking|invalid)", re.IGNORECASE | re.DOTALL
)

_CALLERS_OWN = frozenset({400, 413, 422})
_KEY = frozenset({401, 402, 403, 451})
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
            return Verdict(
                verdict.mark, False, verdict.cooldown_s, verdict.needs_operator, verdict.scope, verdict.reason
            )
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
        return Verdict(Mark.NONE, verdict.retry_elsewhere, reason=f"{verdict.reason} (the client's own key)")
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


def callers_own(fault: Fault) -> bool:
    """Say whether the fault is the request's: no other provider would answer otherwise."""
    return fault.callers_own or (fault.status in _CALLERS_OWN and _about_the_provider(fault) is None)


def _refusal(fault: Fault) -> Verdict:
    reason = f"{fault.status} {fault.kind}"
    if fault.status == 502 and fault.reply is None:  # not the provider's words but ours: they say what was wrong
        reason = fault.message or reason
    if fault.callers_own or fault.elsewhere:
        return Verdict(Mark.NONE, retry_elsewhere=fault.elsewhere, reason=reason)
    if fault.status in _CALLERS_OWN:
        return _about_the_provider(fault) or Verdict(Mark.NONE, reason=reason)
    cooldown_s = None if fault.retry_after_s is None else min(fault.retry_after_s, NAMED_COOLDOWN_MAX_S)
    if fault.status in _KEY or fault.kind == "billing_error":
        return Verdict(Mark.BAD, retry_elsewhere=True, cooldown_s=cooldown_s, needs_operator=True, reason=reason)
    if fault.status == 429 and fault.should_retry is False:  # a spend cap: it will not pass by waiting
        return Verdict(
            Mark.BAD,
            retry_elsewhere=True,
            cooldown_s=cooldown_s,
            needs_operator=True,
            reason=f"{reason}, not to be retried",
        )
    if fault.status == 429:
        return Verdict(Mark.BAD, retry_elsewhere=True, cooldown_s=cooldown_s, scope=Scope.MODEL, reason=reason)
    if fault.status in _MODEL_GONE:
        return Verdict(Mark.BAD, retry_elsewhere=True, scope=Scope.MODEL, reason=reason)
    return Verdict(Mark.BAD, retry_elsewhere=True, cooldown_s=cooldown_s, reason=reason)


def _about_the_provider(fault: Fault) -> Verdict | None:
    """Look at the wording of a 400, 413 or 422: is it about the provider after all?"""
    if is_overflow(fault.message):
        return None
    if fault.kind == "billing_error" or _NO_CREDIT.search(fault.message):
        return Verdict(Mark.BAD, retry_elsewhere=True, needs_operator=True, reason=f"{fault.status} no credit")
    if _UNKNOWN_MODEL.search(fault.message):
        return Verdict(Mark.BAD, retry_elsewhere=True, scope=Scope.MODEL, reason=f"{fault.status} unknown model")
    if _UNKNOWN_BETA.search(fault.message):
        return Verdict(Mark.NONE, retry_elsewhere=True, reason=f"{fault.status} unknown beta")
    if _SIGNATURE.search(fault.message):
        return Verdict(Mark.NONE, retry_elsewhere=True, reason=f"{fault.status} foreign thinking signature")
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
