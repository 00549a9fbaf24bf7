"""What a client is told when its failover is over without an answer.

The first of these that applies:

1. The request's own fault goes back as the provider told it, because Claude Code acts on the wording.
2. A failure of somebody else passes while the client waits (`RETRY_AFTER_MAX_S`): 503, or 429 where everybody is
   limited, with a `retry-after`. What a provider can't do must not hide that another one could do it in a moment.
3. What nobody could take goes back as the provider told it: the client may ask for less.
4. What a provider said of the client's own credential goes back as it came: only that client can act on it.
5. What only a person can mend, at every provider that could answer, is told at once, with the remedy: 503 with
   `x-should-retry: false`. Without that header Claude Code tries again for ten minutes, and shows no reason.
6. What passes later becomes 503 or 429 with a `retry-after` that keeps Claude Code waiting: above 60 s it gives up,
   and on 529 it does so after three tries.

The messages have the providers' own words, cut and redacted, and when a limit resets. A refusal of a key of the
balancer's own never goes to a client, who would take it for its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import msgspec

from balancer import claude_code
from balancer.headers import Headers
from balancer.model import Candidate, Fault, Operation, Outcome, RefusalClass, Refused, Reply, Unfit
from balancer.policy.classify import is_model_unknown
from balancer.policy.remedies import sentence
from balancer.policy.statements import quoted, statement
from balancer.policy.verdicts import Mark, Proof, Statement, Trouble, Verdict

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
    said: Statement | None = None
    """What it said."""
    left_s: float = 0.0
    """How long it is not asked yet, in seconds."""
    unable: bool = False
    """It said no to this request, or to this client's credential: waiting does not help."""
    unfit: bool = False
    """It could not even be asked this."""

    def passes_in_s(self, now: float) -> float | None:
        """Return in how many seconds it may answer, as far as is known; None: not by waiting."""
        if self.needs_operator or self.model_unknown or self.unable:
            return None
        return max(self.left_s, self.said.resets_at - now if self.said else 0.0)

    def passes_soon(self, now: float) -> bool:
        """Say whether it may answer while the client waits. A cooldown that nobody named is a guess: it may."""
        if self.passes_in_s(now) is None:
            return False
        return self.said is None or self.said.resets_at - now <= RETRY_AFTER_MAX_S


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
    limits: Headers = ()
    """The `anthropic-ratelimit-*` headers of the provider that recovers first."""
    quotes: tuple[str, ...] = ()
    """What of the message providers have said. They may quote the request: that is for the client, and for no log."""

    @property
    def logged(self) -> str:
        """The message without what providers have said."""
        message = self.message
        for words in self.quotes:
            message = message.replace(f': "{words}"', "").replace(f": {words}", "")
        return message

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
    model: str,
    attempts: Attempts,
    unasked: Sequence[Failure],
    recovery_s: float | None,
    *,
    overloaded: bool,
    now: float = 0.0,
    wall: float = 0.0,
    secrets: Collection[str] = (),
) -> ErrorReply:
    """Return what to tell the client.

    `unasked` are the candidates without an attempt, also those that are paused or disabled; `recovery_s` is the time
    until the earliest candidate may be asked that waiting helps; `overloaded`: there was no slot at a provider that
    works. `now` and `wall` are the time on the driver's clock and since the epoch; `secrets` are blotted out.
    """
    asked = _latest(attempts, now, secrets)
    reply = _answer(model, attempts, asked, unasked, recovery_s, overloaded, now, wall)
    quotes = {one.said.words for one in (*asked, *unasked) if one.said is not None and one.said.words}
    return replace(reply, quotes=tuple(quotes)) if quotes and reply.reply is None else reply


def _answer(
    model: str,
    attempts: Attempts,
    asked: Sequence[Failure],
    unasked: Sequence[Failure],
    recovery_s: float | None,
    overloaded: bool,
    now: float,
    wall: float,
) -> ErrorReply:
    told = [one for one in asked if not one.unfit] + list(unasked)
    soon = any(one.passes_soon(now) for one in told)
    if own := _as_it_came(attempts, soon=soon):
        return own
    failed = [one for one in unasked if one.reason or one.needs_operator]
    unfit = [outcome.message for _, outcome, _ in attempts if isinstance(outcome, Unfit)]
    if unfit and len(unfit) == len(attempts) and not failed:
        return ErrorReply(400, "invalid_request_error", " ".join(unfit))
    if overloaded:
        return no_place(model)
    lines = [f"{one.provider}: {quoted(one.reason, one.said, now, wall)}" for one in asked]
    who = "; ".join(lines + [_why_unasked(one, now, wall) for one in failed]) or "none is enabled"
    if (status := _status_of_its_form(attempts)) and not soon:
        return ErrorReply(status, "invalid_request_error", f"no provider takes this request: {who}")
    if told and all(one.status == 404 for one in told):
        return ErrorReply(404, "not_found_error", f"no provider knows the model '{model}': {who}")
    if _is_permanent(told):
        sentences = "; ".join(_sentence(one, now, wall) for one in told)
        return ErrorReply(503, "api_error", f"no provider can answer for '{model}': {sentences}", retrying_helps=False)
    waits = [(wait_s, one) for one in told if (wait_s := one.passes_in_s(now)) is not None]
    wait_s, first = min(waits, key=lambda pair: pair[0], default=(0.0, None))
    retry_after_s = math.ceil(max(wait_s, recovery_s or 0.0))
    retry_after_s = max(RETRY_AFTER_MIN_S, min(RETRY_AFTER_MAX_S, retry_after_s))
    limits = first.said.limits if first and first.said else ()
    limited = bool(told) and all(one.status == 429 for one in told)
    status, kind = (429, "rate_limit_error") if limited else (503, "api_error")
    message = f"no provider could answer for '{model}': {who}"
    return ErrorReply(status, kind, message, retry_after_s, limits=limits)


def is_to_be_estimated(attempts: Attempts, reply: ErrorReply) -> bool:
    """Say whether tokens that no provider has counted are estimated, instead of telling the client `reply`.

    Not where the request itself was refused, or the client's own credential: only the client can mend that.
    """
    if reply.reply is None:
        return True
    return not any(verdict.refusal is RefusalClass.REQUEST or verdict.client_only for _, _, verdict in attempts)


def is_lasting(outcome: Outcome, verdict: Verdict) -> bool:
    """Say whether waiting does not help against an outcome."""
    if isinstance(outcome, Unfit) or verdict.needs_operator or verdict.client_only:
        return True
    unable = verdict.refusal in (RefusalClass.REQUEST, RefusalClass.CAPABILITY) or is_of_its_form(verdict)
    return unable or is_model_unknown(verdict.scope, verdict.status)


def is_of_its_form(verdict: Verdict) -> bool:
    """Say whether somebody before the provider has refused the request's form: its headers, query or media type.

    A page in place of a 401, 403 or 404 is no such refusal: it may be about the balancer's key or address.
    """
    status = verdict.status or 0
    certain = verdict.mark is Mark.NONE and verdict.proof is Proof.CERTAIN
    return verdict.refusal is RefusalClass.INTERMEDIARY and certain and 400 <= status < 500


def _status_of_its_form(attempts: Attempts) -> int | None:
    """Return the latest status with which the request's form was refused; None: it was not."""
    return next((verdict.status for _, _, verdict in reversed(attempts) if is_of_its_form(verdict)), None)


def _as_it_came(attempts: Attempts, *, soon: bool) -> ErrorReply | None:
    """Return the latest refusal on which the client can act, as the provider said it.

    `soon`: somebody else may answer while the client waits. Then only the request's own fault goes back.
    """
    refusals = [(outcome.fault, verdict) for _, outcome, verdict in attempts if isinstance(outcome, Refused)]
    theirs = [fault for fault, verdict in refusals if verdict.refusal is RefusalClass.REQUEST]
    if not theirs and not soon:
        theirs = [fault for fault, verdict in refusals if verdict.refusal is RefusalClass.CAPABILITY]
        theirs = theirs or [fault for fault, verdict in refusals if verdict.client_only]
    if not theirs and not soon and len(refusals) == len(attempts):
        mendable = all(
            (fault.callers_own or fault.status in _CLIENTS) and not verdict.needs_operator
            for fault, verdict in refusals
        )
        theirs = [fault for fault, _ in refusals] if mendable else []
    if not theirs:
        return None
    fault = theirs[-1]
    return ErrorReply(fault.status, fault.kind, fault.message, reply=fault.reply)


def _latest(attempts: Attempts, now: float, secrets: Collection[str]) -> list[Failure]:
    """Return what came of asking each candidate last."""
    last = {id(candidate): (candidate, outcome, verdict) for candidate, outcome, verdict in attempts}
    return [
        Failure(
            candidate.provider.name,
            verdict.reason,
            verdict.status,
            verdict.needs_operator,
            is_model_unknown(verdict.scope, verdict.status),
            statement(outcome, now, secrets),
            unable=is_lasting(outcome, verdict),
            unfit=isinstance(outcome, Unfit),
        )
        for candidate, outcome, verdict in last.values()
    ]


def _is_permanent(told: Sequence[Failure]) -> bool:
    """Say whether no candidate will answer until a person does something.

    That a model is unknown is no such trouble by itself, but waiting does not help against it either.
    """
    return any(one.needs_operator for one in told) and all(one.needs_operator or one.model_unknown for one in told)


def _sentence(one: Failure, now: float, wall: float) -> str:
    reason = quoted(one.reason, one.said, now, wall)
    return sentence(one.provider, one.needs_operator, reason) if one.needs_operator else f"{one.provider}: {reason}"


def _why_unasked(one: Failure, now: float, wall: float) -> str:
    """Return why a candidate was not asked."""
    if one.needs_operator in _TAKEN_OUT:
        return _sentence(one, now, wall)
    return f"{one.provider}: cooling down after {quoted(one.reason, one.said, now, wall)}"


_TAKEN_OUT = (Trouble.PAUSED, Trouble.DISABLED)
"""These don't cool down after a failure."""
