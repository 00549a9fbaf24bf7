"""What a client is told when nobody could answer."""

from __future__ import annotations

import pytest
from stand_ins import candidate

from balancer.model import Broken, Candidate, Fault, Outcome, Refused, Reply, Stage, Unfit, Verdict
from balancer.policy.classify import judge
from balancer.policy.exhausted import (
    STOPPED,
    ErrorReply,
    answer,
    broken_off,
    cuts_connection,
    no_place,
    no_route,
    not_countable,
    shown_kind,
)
from balancer.script import Cause

A, B = candidate("a"), candidate("b")
TOO_LONG = Fault(400, "invalid_request_error", "prompt is too long", reply=Reply(400, (), b"as it came"))
SIGNATURE = Fault(400, "invalid_request_error", "Invalid `signature` in `thinking` block", reply=Reply(400, (), b"sig"))
NO_CREDIT = Fault(400, "invalid_request_error", "credit balance is too low", reply=Reply(400, (), b"credit"))


def refused(fault: Fault) -> Refused:
    return Refused(fault, Stage.WAIT)


OVERLOADED = refused(Fault(529, "overloaded_error"))
LIMITED = refused(Fault(429, "rate_limit_error"))
KEY = refused(Fault(401, "authentication_error"))
GONE = refused(Fault(404, "not_found_error"))


def attempts(*outcomes: Outcome) -> list[tuple[Candidate, Outcome, Verdict]]:
    return [(who, outcome, judge(outcome)) for who, outcome in zip((A, B), outcomes, strict=False)]


def told(*outcomes: Outcome, resting: tuple[tuple[str, str], ...] = (), recovery_s: float | None = 3.2) -> ErrorReply:
    return answer("m", attempts(*outcomes), resting, recovery_s, overloaded=False)


CASES = {
    "overloaded": ((OVERLOADED, OVERLOADED), 503, "api_error"),
    "refused connections": ((Broken(Stage.CONNECT, Cause.REFUSED),), 503, "api_error"),
    "everybody limited": ((LIMITED, LIMITED), 429, "rate_limit_error"),
    "one limited, one ill": ((LIMITED, OVERLOADED), 503, "api_error"),
    "a refused key is never shown as the client's": ((KEY, KEY), 503, "api_error"),
    "nobody knows the model": ((GONE, GONE), 404, "not_found_error"),
    "nobody can take it": ((Unfit("no PDF"), Unfit("no PDF")), 400, "invalid_request_error"),
    "too long for the one, too large for the other": (
        (refused(Fault(400, "invalid_request_error", "prompt is too long", elsewhere=True)), Unfit("no PDF")),
        400,
        "invalid_request_error",
    ),
    "a budget of the request's own": (
        (refused(Fault(402, "billing_error", "daily_usd", callers_own=True)),),
        402,
        "billing_error",
    ),
    "one can't take it, one is ill": ((Unfit("no PDF"), OVERLOADED), 503, "api_error"),
}


@pytest.mark.parametrize(("outcomes", "status", "kind"), CASES.values(), ids=CASES)
def test_answer(outcomes: tuple[Outcome, ...], status: int, kind: str) -> None:
    said = told(*outcomes)

    assert (said.status, said.kind) == (status, kind)
    assert said.reply is None


CLIENTS_OWN = {
    "the caller's fault as it came": ((refused(TOO_LONG),), b"as it came"),
    "a signature that nobody took": ((OVERLOADED, refused(SIGNATURE)), b"sig"),
    "no credit anywhere": ((refused(NO_CREDIT),), b"credit"),
}


@pytest.mark.parametrize(("outcomes", "body"), CLIENTS_OWN.values(), ids=CLIENTS_OWN)
def test_what_the_client_can_mend_goes_back_untouched(outcomes: tuple[Outcome, ...], body: bytes) -> None:
    reply = told(*outcomes).reply

    assert reply is not None
    assert reply.body == body


def test_no_credit_here_and_overload_there_is_an_outage() -> None:
    assert told(refused(NO_CREDIT), OVERLOADED).status == 503


@pytest.mark.parametrize(("recovery_s", "retry_after_s"), [(None, 1), (-3.0, 1), (0.2, 1), (3.2, 4), (900.0, 60)])
def test_retry_after_is_whole_seconds_that_claude_code_waits_for(recovery_s: float | None, retry_after_s: int) -> None:
    assert told(OVERLOADED, recovery_s=recovery_s).retry_after_s == retry_after_s


def test_the_message_names_who_was_tried_and_who_rests_and_why() -> None:
    message = told(Broken(Stage.CONNECT, Cause.REFUSED), resting=(("b", "529 overloaded_error"),)).message

    assert message == "no provider could answer for 'm': a: connection refused; b: resting after 529 overloaded_error"


def test_what_all_have_said_counts_for_those_that_rest_after_it_too() -> None:
    assert told(GONE, resting=(("b", "404 not_found_error"),)).status == 404
    assert told(GONE, resting=(("b", "529 overloaded_error"),)).status == 503
    assert told(LIMITED, resting=(("b", "429 rate_limit_error"),)).status == 429


def test_no_place() -> None:
    assert (no_place("m").status, no_place("m").retry_after_s) == (503, 1)


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("authentication_error", "api_error"),
        ("permission_error", "api_error"),
        ("rate_limit_error", "rate_limit_error"),
        ("invalid_request_error", "invalid_request_error"),
    ],
)
def test_a_key_of_ours_is_never_taken_for_the_clients(kind: str, shown: str) -> None:
    assert shown_kind(Fault(500, kind)) == shown


@pytest.mark.parametrize(
    ("status", "outcome", "kind_in_stream"),
    [
        (400, "client_error", "k"),
        (404, "client_error", "k"),
        (428, "client_error", "k"),
        (429, "failed", "overloaded_error"),
        (430, "client_error", "k"),
        (499, "client_error", "k"),
        (500, "failed", "overloaded_error"),
        (503, "failed", "overloaded_error"),
    ],
)
def test_only_what_the_client_can_mend_itself_is_its_own_error(status: int, outcome: str, kind_in_stream: str) -> None:
    reply = ErrorReply(status, "k", "why")

    assert (reply.outcome, reply.kind_in_stream) == (outcome, kind_in_stream)


def test_no_route() -> None:
    reply = no_route("x", ["a-*", "b"])

    assert (reply.status, reply.kind) == (404, "not_found_error")
    assert reply.message == "no route matches the model 'x'; there are routes for 'a-*', 'b'"


def test_what_is_no_message_is_the_clients_error() -> None:
    assert not_countable("no messages") == ErrorReply(400, "invalid_request_error", "no messages")


def test_a_client_of_a_stopped_balancer_asks_again_in_a_second() -> None:
    assert (STOPPED.status, STOPPED.kind, STOPPED.retry_after_s) == (503, "api_error", 1)


@pytest.mark.parametrize(
    ("setting", "claude_code", "cuts"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("abort", True, True),
        ("abort", False, True),
        ("error_event", True, False),
        ("error_event", False, False),
    ],
)
def test_who_is_cut_off_when_a_stream_breaks(setting: str, claude_code: bool, cuts: bool) -> None:
    assert cuts_connection(setting, claude_code=claude_code) is cuts


BROKEN_OFF: dict[str, tuple[Outcome, str, str]] = {
    "it said why": (
        refused(Fault(529, "overloaded_error", "busy")),
        "overloaded_error",
        "a broke off its answer: busy",
    ),
    "it did not say why": (OVERLOADED, "overloaded_error", "a broke off its answer: 529 overloaded_error"),
    "its key was refused": (KEY, "api_error", "a broke off its answer: 401 authentication_error"),
    "it fell silent": (Broken(Stage.STREAM, Cause.RESET), "api_error", "a broke off its answer: connection reset"),
}


@pytest.mark.parametrize("name", BROKEN_OFF)
def test_the_error_of_a_broken_stream_names_the_provider_and_its_reason(name: str) -> None:
    outcome, kind, message = BROKEN_OFF[name]

    assert broken_off("a", outcome, judge(outcome)) == (kind, message)
