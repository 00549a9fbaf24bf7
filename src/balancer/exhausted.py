"""What a client is told when its journey is over without an answer.

The most informative failure wins: what the client can mend itself goes back as it came, because
Claude Code acts on the wording; what only time can mend becomes 503 or 429 with a `retry-after`
that keeps Claude Code waiting (above 60 s it gives up, and on 529 it does so after three tries).
A provider's own 401 or 403 never gets here: the client would take it for its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from balancer.model import Candidate, Mark, Outcome, Refused, Reply, Unfit, Verdict

RETRY_AFTER_MIN_S = 1
RETRY_AFTER_MAX_S = 60

_CLIENTS = frozenset({400, 413, 422})

Attempts = Sequence[tuple[Candidate, Outcome, Verdict]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An error for the client."""

    status: int
    kind: str
    message: str
    retry_after_s: int | None = None
    reply: Reply | None = None
    """Set: this goes to the client as it is, instead of the words above."""


def no_place(model: str) -> Answer:
    """Return what to tell a client for whom there was no place."""
    message = f"every place for '{model}' is taken by other requests; try again soon"
    return Answer(503, "api_error", message, RETRY_AFTER_MIN_S)


def answer(
    model: str, attempts: Attempts, resting: Sequence[tuple[str, str]], recovery_s: float | None, *, crowded: bool
) -> Answer:
    """Return what to tell the client.

    `resting` names the candidates that were not asked, each with the reason of its rest;
    `recovery_s` is the time until the earliest of all may be asked again.
    """
    outcomes = [outcome for _, outcome, _ in attempts]
    if own := _clients_own(attempts):
        return own
    if outcomes and not resting and all(isinstance(outcome, Unfit) for outcome in outcomes):
        words = " ".join(outcome.message for outcome in outcomes if isinstance(outcome, Unfit))
        return Answer(400, "invalid_request_error", words)
    if outcomes and not resting and all(_status(outcome) == 404 for outcome in outcomes):
        return Answer(404, "not_found_error", f"no provider knows the model '{model}': {_who(attempts, resting)}")
    retry_after_s = max(RETRY_AFTER_MIN_S, min(RETRY_AFTER_MAX_S, math.ceil(recovery_s or 0.0)))
    if crowded:
        return no_place(model)
    message = f"no provider could answer for '{model}': {_who(attempts, resting)}"
    if _all_limited(attempts, resting):
        return Answer(429, "rate_limit_error", message, retry_after_s)
    return Answer(503, "api_error", message, retry_after_s)


def _clients_own(attempts: Attempts) -> Answer | None:
    """Return the latest refusal that the client can act on, as the provider said it."""
    refusals = [
        (o.fault, v)
        for _, o, v in attempts
        if isinstance(o, Refused) and (o.fault.callers_own or o.fault.status in _CLIENTS)
    ]
    theirs = [fault for fault, verdict in refusals if verdict.mark is Mark.NONE]
    if not theirs and refusals and len(refusals) == len(attempts):
        theirs = [fault for fault, _ in refusals]
    if not theirs:
        return None
    fault = theirs[-1]
    return Answer(fault.status, fault.kind, fault.message, reply=fault.reply)


def _status(outcome: Outcome) -> int | None:
    return outcome.fault.status if isinstance(outcome, Refused) else None


def _all_limited(attempts: Attempts, resting: Sequence[tuple[str, str]]) -> bool:
    asked = [_status(outcome) == 429 for _, outcome, _ in attempts if not isinstance(outcome, Unfit)]
    rested = [reason.startswith("429") for _, reason in resting]
    return bool(asked or rested) and all(asked) and all(rested)


def _who(attempts: Attempts, resting: Sequence[tuple[str, str]]) -> str:
    said = [f"{candidate.provider.name}: {verdict.reason}" for candidate, _, verdict in attempts]
    said += [f"{name}: resting after {reason or 'a failure'}" for name, reason in resting]
    return "; ".join(said) or "none is enabled"
