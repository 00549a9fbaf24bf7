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

from balancer.model import Candidate, Fault, Mark, Outcome, Refused, Reply, Unfit, Verdict

RETRY_AFTER_MIN_S = 1
RETRY_AFTER_MAX_S = 60

_CLIENTS = frozenset({400, 413, 422})

Attempts = Sequence[tuple[Candidate, Outcome, Verdict]]


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error for the client."""

    status: int
    kind: str
    message: str
    retry_after_s: int | None = None
    reply: Reply | None = None
    """Set: this goes to the client as it is, instead of the words above."""

    @property
    def outcome(self) -> str:
        """The word of `RequestEnded.outcome`: only what the client can mend itself is its own error."""
        return "client_error" if self.status < 500 and self.status != 429 else "failed"

    @property
    def kind_in_stream(self) -> str:
        """The error type for a client that has a 200 already.

        What passes is `overloaded_error`, which alone makes Claude Code stream again. On any other
        type it asks at once without streaming: so it gets to see the status and words that it mends
        its request by.
        """
        return self.kind if self.outcome == "client_error" else "overloaded_error"


def no_place(model: str) -> ErrorReply:
    """Return what to tell a client for whom there was no place."""
    message = f"every place for '{model}' is taken by other requests; try again soon"
    return ErrorReply(503, "api_error", message, RETRY_AFTER_MIN_S)


def no_route(model: str, patterns: Sequence[str]) -> ErrorReply:
    """Return what to tell a client whose model no route matches."""
    there_are = ", ".join(f"'{pattern}'" for pattern in patterns)
    message = f"no route matches the model '{model}'; there are routes for {there_are}"
    return ErrorReply(404, "not_found_error", message)


def not_countable(reason: str) -> ErrorReply:
    """Return what to tell a client whose request is no message, so that its tokens can't be counted."""
    return ErrorReply(400, "invalid_request_error", reason)


STOPPED = ErrorReply(503, "api_error", "this balancer was stopped before the answer was whole; ask again", 1)
"""What to tell a client whose answer was under way when the balancer was stopped."""


def cuts_connection(on_broken_stream: str, *, claude_code: bool) -> bool:
    """Say whether the client of a broken stream gets a cut connection. Else it gets an error event.

    `on_broken_stream` is the setting. With `auto` only Claude Code is cut off: it then asks again by itself.
    """
    return on_broken_stream == "abort" or (on_broken_stream == "auto" and claude_code)


def broken_off(provider: str, outcome: Outcome, verdict: Verdict) -> tuple[str, str]:
    """Return type and message of the error for a client whose answer broke off after content."""
    fault = outcome.fault if isinstance(outcome, Refused) else Fault(502, "api_error")
    return shown_kind(fault), f"{provider} broke off its answer: {fault.message or verdict.reason}"


def shown_kind(fault: Fault) -> str:
    """Return the type of an error for a client that has part of the answer: the balancer's key is not the client's."""
    return "api_error" if fault.kind in ("authentication_error", "permission_error") else fault.kind


def answer(
    model: str, attempts: Attempts, resting: Sequence[tuple[str, str]], recovery_s: float | None, *, overloaded: bool
) -> ErrorReply:
    """Return what to tell the client.

    `resting` names the candidates that were not asked, each with the reason of its rest;
    `recovery_s` is the time until the earliest of all may be asked again.
    """
    outcomes = [outcome for _, outcome, _ in attempts]
    if own := _clients_own(attempts):
        return own
    if outcomes and not resting and all(isinstance(outcome, Unfit) for outcome in outcomes):
        words = " ".join(outcome.message for outcome in outcomes if isinstance(outcome, Unfit))
        return ErrorReply(400, "invalid_request_error", words)
    if _all(404, attempts, resting):
        return ErrorReply(404, "not_found_error", f"no provider knows the model '{model}': {_who(attempts, resting)}")
    retry_after_s = max(RETRY_AFTER_MIN_S, min(RETRY_AFTER_MAX_S, math.ceil(recovery_s or 0.0)))
    if overloaded:
        return no_place(model)
    message = f"no provider could answer for '{model}': {_who(attempts, resting)}"
    if _all(429, attempts, resting):
        return ErrorReply(429, "rate_limit_error", message, retry_after_s)
    return ErrorReply(503, "api_error", message, retry_after_s)


def _clients_own(attempts: Attempts) -> ErrorReply | None:
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
    return ErrorReply(fault.status, fault.kind, fault.message, reply=fault.reply)


def _status(outcome: Outcome) -> int | None:
    return outcome.fault.status if isinstance(outcome, Refused) else None


def _all(status: int, attempts: Attempts, resting: Sequence[tuple[str, str]]) -> bool:
    """Say whether all who could take the request said this, now or before their rest."""
    asked = [_status(outcome) == status for _, outcome, _ in attempts if not isinstance(outcome, Unfit)]
    rested = [reason.startswith(str(status)) for _, reason in resting]
    return bool(asked or rested) and all(asked) and all(rested)


def _who(attempts: Attempts, resting: Sequence[tuple[str, str]]) -> str:
    said = [f"{candidate.provider.name}: {verdict.reason}" for candidate, _, verdict in attempts]
    said += [f"{name}: resting after {reason or 'a failure'}" for name, reason in resting]
    return "; ".join(said) or "none is enabled"
