"""What an outcome means: the provider's mark, whether another may be tried, how long it cools down.

Whose matter a refusal is stands in one table, `refusal_rows.ROWS`; what follows from its row is decided here. A status
alone is not enough: most 400s are about the request, and go back as they came, because Claude Code repairs its request
by their wording, but some are about the account, a limit, or what this provider can't do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from msgspec.structs import replace

from balancer.model import (
    Abandoned,
    Broken,
    Candidate,
    Completed,
    ErrorRule,
    Fault,
    Outcome,
    RefusalClass,
    Refused,
    Stage,
    Unfit,
)
from balancer.policy import refusals
from balancer.policy.refusal_rows import Row
from balancer.policy.verdicts import Mark, Proof, Scope, Trouble, Verdict
from balancer.script import Cause
from balancer.wire.overflow import is_overflow

NAMED_COOLDOWN_MAX_S = 900.0
"""The longest cooldown that a provider may name itself; more counts as this much."""

_CALLERS_OWN = frozenset({400, 413, 422})
_LASTING = frozenset({RefusalClass.REQUEST, RefusalClass.CAPABILITY, RefusalClass.MODEL, RefusalClass.INTERMEDIARY})
_OF_A_CREDENTIAL = frozenset({401, 402, 403, 451})

_GOOD = Verdict(Mark.GOOD)


def judge(outcome: Outcome, rules: Sequence[ErrorRule] = ()) -> Verdict:
    """Say what follows from `outcome`. Total: a new kind of outcome fails type checking here.

    `rules` are the user's own, for refusals.
    """
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
            proof = Proof.CERTAIN if stage is Stage.CONNECT else Proof.LIKELY
            return Verdict(Mark.BAD, stage is not Stage.STREAM, reason=in_words(cause, detail), proof=proof)
        case Refused(fault=fault, stage=stage):
            verdict = refused(fault, rules)
            if stage is not Stage.STREAM:
                return verdict
            return replace(verdict, retry_elsewhere=False)
        case _:
            assert_never(outcome)


def judge_of(candidate: Candidate, outcome: Outcome) -> Verdict:
    """Say what follows from `outcome` for `candidate`: no more than was put to the test.

    Where the client's own credential was sent, what is said of an account or a limit is that client's alone. A provider
    that can't count tokens, or not in the little time that counting is given, may still answer.
    """
    if isinstance(outcome, Completed):  # so it is most of the time
        return _GOOD
    verdict = judge(outcome, candidate.provider.error_rules)
    if candidate.provider.passthrough and _is_of_the_credential(verdict):
        return replace(
            verdict,
            mark=Mark.NONE,
            needs_operator=Trouble.CLIENT_KEY if verdict.needs_operator else None,
            reason=f"{verdict.reason} (the client's own key)",
            client_only=True,
            proof=Proof.CERTAIN,
        )
    if verdict.mark is Mark.NONE and verdict.proof is not Proof.UNSURE:
        return verdict
    counted = candidate.operation.counts and not verdict.needs_operator
    if counted and getattr(outcome, "stage", None) is not Stage.CONNECT:
        return replace(verdict, scope=Scope.COUNTING)
    return verdict


def _is_of_the_credential(verdict: Verdict) -> bool:
    if verdict.refusal is RefusalClass.INTERMEDIARY:
        return verdict.status in _OF_A_CREDENTIAL
    return verdict.refusal is RefusalClass.ACCOUNT or verdict.refusal is RefusalClass.LIMIT


def too_long(outcome: Outcome) -> bool:
    """Say whether the prompt is longer than the model's context: a larger one may take it."""
    return isinstance(outcome, Refused) and outcome.fault.status in _CALLERS_OWN and is_overflow(outcome.fault.message)


def lasting(outcome: Outcome) -> bool:
    """Say whether the same provider would say the same again: it was the request, or the model."""
    return isinstance(outcome, Refused) and refused(outcome.fault).refusal in _LASTING


def is_model_unknown(scope: Scope, status: int | None) -> bool:
    """Say whether a failure of this scope and status is that the provider does not know the model.

    Models can also have limits (429) and be overloaded (529).
    """
    return scope is Scope.MODEL and status is not None and 400 <= status < 500 and status != 429


def callers_own(fault: Fault) -> bool:
    """Say whether the fault is the request's: no other provider would answer otherwise."""
    return refused(fault).refusal is RefusalClass.REQUEST


def refused(fault: Fault, rules: Sequence[ErrorRule] = ()) -> Verdict:
    """Return what follows from a refusal that came before any content. `rules` are the user's own."""
    found = refusals.find(fault, rules)
    row = found.row
    status = row.stands_for or fault.status
    marks = row.scope is not None and row.proof is not Proof.UNSURE
    return Verdict(
        Mark.BAD if marks else Mark.NONE,
        retry_elsewhere=row.refusal is not RefusalClass.REQUEST,
        cooldown_s=_named_s(fault, row),
        needs_operator=row.trouble,
        scope=row.scope or Scope.PROVIDER,
        reason=_reason(fault, row),
        status=status,
        refusal=row.refusal,
        proof=row.proof,
        evidence=found.evidence if marks else "",
    )


def _named_s(fault: Fault, row: Row) -> float | None:
    """Return the cooldown that the provider named; None where no time was named, or no time helps."""
    if fault.retry_after_s is None or row.scope is None or row.refusal is RefusalClass.MODEL:
        return None
    return min(fault.retry_after_s, NAMED_COOLDOWN_MAX_S)


def _reason(fault: Fault, row: Row) -> str:
    ours = fault.status == 200 or (fault.status == 502 and fault.reply is None)
    if ours and fault.message:  # our words: they say what was wrong
        return fault.message
    if row.is_said:
        return f"{fault.status} {row.name}"
    said = f"{fault.status} {fault.kind}"
    return f"{said}, {row.name}" if row.given else said


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
