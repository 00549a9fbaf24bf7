"""What a client is told when its failover is over without an answer.

The most informative failure wins:

* What the client can mend itself goes back as it came, because Claude Code acts on the wording.
* What only a person can mend, at every provider that could answer, is told at once, with the remedy: 503 with
  `x-should-retry: false`. Without that header Claude Code tries again for ten minutes, and shows no reason.
* What passes with time becomes 503 or 429 with a `retry-after` that keeps Claude Code waiting: above 60 s it gives up,
  and on 529 it does so after three tries.

A provider's own 401 or 403 never goes to the client, who would take it for its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from balancer import claude_code
from balancer.model import Candidate, Fault, Mark, Operation, Outcome, Refused, Reply, Trouble, Unfit, Verdict
from balancer.policy.classify import is_model_unknown
from balancer.policy.remedies import sentence

RETRY_AFTER_MIN_S = 1
RETRY_AFTER_MAX_S = claude_code.RETRY_AFTER_MAX_S

_CLIENTS = frozenset({400, 413, 422})

Attempts = Sequence[tuple[Candidate, Outcome, Verdict]]


class Failure(msgspec.Struct, frozen=True):
    """Why one candidate gives no answer: what came of asking it, now or before its cooldown."""

    provider: str
    reason: str = ""
    """In plain words; empty: nothing is known against it."""
    status: int | None = None
    """The status behind `reason`; None: there was no answer."""
    needs_operator: Trouble | None = None
    model_unknown: bool = False
    """It does not know the model: waiting does not help, but the provider is well."""


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error for the client."""

    status: int
    kind: str
    message: str
    retry_after_s: int | None = None
    reply: Reply | None = None
    """Set: this goes to the client as it is, instead of the words above."""
    retrying_helps: bool = True
    """False: the client is told not to try again (`x-should-retry: false`)."""

    @property
    def outcome(self) -> str:
        """The word of `RequestEnded.outcome`: only what the client can mend itself is its own error."""
        return "client_error" if self.status < 500 and self.status != 429 else "failed"

    @property
    def kind_in_stream(self) -> str:
        """The error type for a client that has a 200 already.

        What passes is `overloaded_error`, which alone makes Claude Code stream again. On any other type it asks at
        once without streaming: so it gets to see the status and the words by which its request, or the provider,
        is mended.
        """
        mended = self.outcome == "client_error" or not self.retrying_helps
        return self.kind if mended else claude_code.RETRIED_IN_STREAM


def no_place(model: str) -> ErrorReply:
    """Return what to tell a client for whom there was no place."""
    message = f"every place for '{model}' is taken by other requests; try again soon"
    return ErrorReply(503, "api_error", message, RETRY_AFTER_MIN_S)


def no_route(model: str, patterns: Sequence[str]) -> ErrorReply:
    """Return what to tell a client whose model no route matches."""
    there_are = ", ".join(f"'{pattern}'" for pattern in patterns)
    message = f"no route matches the model '{model}'; there are routes for {there_are}"
    return ErrorReply(404, "not_found_error", message)


def not_spoken(pattern: str, operation: Operation, skipped: Sequence[str], out: Sequence[str]) -> ErrorReply:
    """Return what to tell a client of OpenAI's API whose route has nobody to ask.

    `skipped` are the targets that don't speak that API, in words; `out` are those that do, and are paused or disabled.
    """
    what = f"/v1/{operation.word.replace('_', '/')}"
    if out:
        message = with_skipped(f"no provider can answer {what}: {', '.join(out)}: paused, or disabled", skipped)
        return ErrorReply(503, "api_error", message, retrying_helps=False)
    message = (
        f"the route '{pattern}' has no provider of type openai, and {what} is passed to those alone: "
        f"{', '.join(skipped) or 'none is enabled'}; add a target of type openai to this route, "
        "ask for a model of another route, or ask with POST /v1/messages"
    )
    return ErrorReply(404, "not_found_error", message)


def no_response(name: str) -> ErrorReply:
    """Return what to tell a client that goes on from a stored response of another client."""
    return ErrorReply(400, "invalid_request_error", f"previous_response_id: there is no response '{name}'")


def with_skipped(message: str, skipped: Sequence[str]) -> str:
    """Return `message` with the targets that were not asked because they don't speak the client's API."""
    return f"{message}; skipped, because only type openai is asked here: {', '.join(skipped)}" if skipped else message


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
    model: str, attempts: Attempts, unasked: Sequence[Failure], recovery_s: float | None, *, overloaded: bool
) -> ErrorReply:
    """Return what to tell the client.

    `unasked` are the candidates without an attempt, also those that are paused or disabled; `recovery_s` is the time
    until the earliest candidate of all may be asked; `overloaded`: there was no slot at a provider that works.
    """
    if own := _clients_own(attempts):
        return own
    failed = [one for one in unasked if one.reason or one.needs_operator]
    unfit = [outcome.message for _, outcome, _ in attempts if isinstance(outcome, Unfit)]
    if unfit and len(unfit) == len(attempts) and not failed:
        return ErrorReply(400, "invalid_request_error", " ".join(unfit))
    if overloaded:
        return no_place(model)
    told = [*_latest(attempts), *unasked]
    if told and all(one.status == 404 for one in told):
        return ErrorReply(404, "not_found_error", f"no provider knows the model '{model}': {_who(attempts, failed)}")
    if _is_permanent(told):
        message = f"no provider can answer for '{model}': {'; '.join(map(_sentence, told))}"
        return ErrorReply(503, "api_error", message, retrying_helps=False)
    retry_after_s = max(RETRY_AFTER_MIN_S, min(RETRY_AFTER_MAX_S, math.ceil(recovery_s or 0.0)))
    message = f"no provider could answer for '{model}': {_who(attempts, failed)}"
    if told and all(one.status == 429 for one in told):
        return ErrorReply(429, "rate_limit_error", message, retry_after_s)
    return ErrorReply(503, "api_error", message, retry_after_s)


def _clients_own(attempts: Attempts) -> ErrorReply | None:
    """Return the latest refusal on which the client can act, as the provider said it."""
    refusals = [
        (o.fault, v)
        for _, o, v in attempts
        if isinstance(o, Refused) and (o.fault.callers_own or o.fault.status in _CLIENTS)
    ]
    theirs = [fault for fault, verdict in refusals if verdict.mark is Mark.NONE]
    if not theirs and len(refusals) == len(attempts) and not any(verdict.needs_operator for _, verdict in refusals):
        theirs = [fault for fault, _ in refusals]
    if not theirs:
        return None
    fault = theirs[-1]
    return ErrorReply(fault.status, fault.kind, fault.message, reply=fault.reply)


def _latest(attempts: Attempts) -> list[Failure]:
    """Return what came of asking each candidate last, without those that could not take the request at all."""
    last = {id(candidate): (candidate, outcome, verdict) for candidate, outcome, verdict in attempts}
    return [
        Failure(
            candidate.provider.name,
            verdict.reason,
            verdict.status,
            verdict.needs_operator,
            is_model_unknown(verdict.scope, verdict.status),
        )
        for candidate, outcome, verdict in last.values()
        if not isinstance(outcome, Unfit)
    ]


def _is_permanent(told: Sequence[Failure]) -> bool:
    """Say whether no candidate will answer until a person does something.

    That a model is unknown is no such trouble by itself, but waiting does not help against it either.
    """
    return any(one.needs_operator for one in told) and all(one.needs_operator or one.model_unknown for one in told)


def _sentence(one: Failure) -> str:
    if one.needs_operator is None:
        return f"{one.provider}: {one.reason}"
    return sentence(one.provider, one.needs_operator, one.reason)


def _who(attempts: Attempts, failed: Sequence[Failure]) -> str:
    """Return who was asked, and who was not, each with the reason."""
    said = [f"{candidate.provider.name}: {verdict.reason}" for candidate, _, verdict in attempts]
    said += [
        _sentence(one) if one.needs_operator in _TAKEN_OUT else f"{one.provider}: cooling down after {one.reason}"
        for one in failed
    ]
    return "; ".join(said) or "none is enabled"


_TAKEN_OUT = (Trouble.PAUSED, Trouble.DISABLED)
"""These don't cool down after a failure."""
