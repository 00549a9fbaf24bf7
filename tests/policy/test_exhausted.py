"""What a client is told when nobody could answer."""

from __future__ import annotations

from typing import Any

import pytest
from stand_ins import candidate

from balancer.model import Broken, Candidate, Fault, Outcome, RefusalClass, Refused, Reply, Stage, Unfit
from balancer.policy.classify import judge_of
from balancer.policy.exhausted import (
    STOPPED,
    ErrorReply,
    Failure,
    answer,
    broken_off,
    cuts_connection,
    no_place,
    no_route,
    not_countable,
    shown_kind,
)
from balancer.policy.verdicts import Mark, Statement, Trouble, Verdict
from balancer.script import Cause

A, B = candidate("a"), candidate("b")
TOO_LONG = Fault(400, "invalid_request_error", "prompt is too long", reply=Reply(400, (), b"as it came"))
SIGNATURE = Fault(400, "invalid_request_error", "Invalid `signature` in `thinking` block", reply=Reply(400, (), b"sig"))
NO_CREDIT = Fault(400, "invalid_request_error", "credit balance is too low", reply=Reply(400, (), b"credit"))
NO_MODEL = Fault(400, "invalid_request_error", "model: claude-x", reply=Reply(400, (), b"no model"))


def refused(fault: Fault) -> Refused:
    return Refused(fault, Stage.WAIT)


OVERLOADED = refused(Fault(529, "overloaded_error"))
LIMITED = refused(Fault(429, "rate_limit_error"))
LIMITED_LONG = refused(Fault(429, "rate_limit_error", retry_after_s=61.0))
KEY = refused(Fault(401, "authentication_error"))
ACCESS = refused(Fault(403, "permission_error"))
CREDIT = refused(Fault(402, "billing_error"))
SPENT = refused(Fault(429, "rate_limit_error", should_retry=False))
GONE = refused(Fault(404, "not_found_error"))
UNREACHABLE = Broken(Stage.CONNECT, Cause.REFUSED)
CRASHED = Broken(Stage.WAIT, Cause.CRASHED)


def attempts(*outcomes: Outcome, asked: tuple[Candidate, ...] = (A, B)) -> list[tuple[Candidate, Outcome, Verdict]]:
    return [(who, outcome, judge_of(who, outcome)) for who, outcome in zip(asked, outcomes, strict=False)]


def told(
    *outcomes: Outcome, unasked: tuple[Failure, ...] = (), recovery_s: float | None = 3.2, overloaded: bool = False
) -> ErrorReply:
    return answer("m", attempts(*outcomes), unasked, recovery_s, overloaded=overloaded)


CASES: dict[str, tuple[tuple[Outcome, ...], int, str]] = {
    "overloaded": ((OVERLOADED, OVERLOADED), 503, "api_error"),
    "refused connections": ((UNREACHABLE,), 503, "api_error"),
    "everybody limited": ((LIMITED, LIMITED), 429, "rate_limit_error"),
    "one limited, one overloaded": ((LIMITED, OVERLOADED), 503, "api_error"),
    "a refused key is never shown as the client's": ((KEY, KEY), 503, "api_error"),
    "no provider knows the model": ((GONE, GONE), 404, "not_found_error"),
    "one does not know the model, one is overloaded": ((GONE, OVERLOADED), 503, "api_error"),
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
    "one can't take it, one is overloaded": ((Unfit("no PDF"), OVERLOADED), 503, "api_error"),
    "one can't take it, one is limited": ((Unfit("no PDF"), LIMITED), 429, "rate_limit_error"),
    "one can't take it, one does not know the model": ((Unfit("no PDF"), GONE), 404, "not_found_error"),
    "nobody was there": ((), 503, "api_error"),
}


@pytest.mark.parametrize(("outcomes", "status", "kind"), CASES.values(), ids=CASES)
def test_answer(outcomes: tuple[Outcome, ...], status: int, kind: str) -> None:
    said = told(*outcomes)

    assert (said.status, said.kind) == (status, kind)
    assert said.reply is None


CLIENTS_OWN: dict[str, tuple[tuple[Outcome, ...], bytes]] = {
    "the caller's fault as it came": ((refused(TOO_LONG),), b"as it came"),
    "a signature that nobody took": ((refused(SIGNATURE), refused(SIGNATURE)), b"sig"),
    "a signature, and a limit that outlasts the client": ((LIMITED_LONG, refused(SIGNATURE)), b"sig"),
    "a signature, and a key that was refused": ((refused(SIGNATURE), KEY), b"sig"),
    "the latest of two": ((refused(SIGNATURE), refused(TOO_LONG)), b"as it came"),
    "a model that is known nowhere": ((refused(NO_MODEL),), b"no model"),
}


@pytest.mark.parametrize(("outcomes", "body"), CLIENTS_OWN.values(), ids=CLIENTS_OWN)
def test_what_the_client_can_mend_goes_back_untouched(outcomes: tuple[Outcome, ...], body: bytes) -> None:
    reply = told(*outcomes).reply

    assert reply is not None
    assert reply.body == body


@pytest.mark.parametrize("status", range(400, 500))
def test_which_refusals_go_back_as_they_came(status: int) -> None:
    reply = Reply(status, (), b"theirs")
    said = told(refused(Fault(status, "x", "words", reply=reply)))

    assert (said.reply is reply) is (status in {400, 404, 410, 413, 422})


def test_a_model_unknown_here_and_overload_there_is_an_outage() -> None:
    assert told(refused(NO_MODEL), OVERLOADED).status == 503


# What only a person can mend

PAUSED = Failure("b", needs_operator=Trouble.PAUSED)

PERMANENT: dict[str, tuple[tuple[Outcome, ...], tuple[Failure, ...]]] = {
    "the only key is refused": ((KEY,), ()),
    "every key is refused": ((KEY, KEY), ()),
    "a key, and no credit": ((KEY, CREDIT), ()),
    "no credit, told as a 400": ((refused(NO_CREDIT),), ()),
    "an account that is disabled": ((ACCESS,), ()),
    "a spending limit": ((SPENT,), ()),
    "the others can't take the request": ((Unfit("no PDF"), KEY), ()),
    "the others don't know the model": ((GONE, KEY), ()),
    "the others don't know the model, told as a 400": ((refused(NO_MODEL), KEY), ()),
    "the others cool down for such a reason": ((KEY,), (Failure("b", "402 x", 402, Trouble.CREDIT),)),
    "the others cool down because they don't know the model": ((KEY,), (Failure("b", "404 x", 404, None, True),)),
    "the others are paused": ((KEY,), (PAUSED,)),
    "the others that can take the request are paused": ((Unfit("no PDF"),), (PAUSED,)),
    "the others that know the model are paused": ((GONE,), (PAUSED,)),
    "all are paused": ((), (PAUSED, Failure("a", needs_operator=Trouble.PAUSED))),
    "all are disabled": ((), (Failure("a", needs_operator=Trouble.DISABLED),)),
}


@pytest.mark.parametrize(("outcomes", "unasked"), PERMANENT.values(), ids=PERMANENT)
def test_what_only_a_person_can_mend_is_told_at_once(
    outcomes: tuple[Outcome, ...], unasked: tuple[Failure, ...]
) -> None:
    said = told(*outcomes, unasked=unasked)

    assert (said.status, said.kind, said.retry_after_s, said.retrying_helps) == (503, "api_error", None, False)
    assert said.kind_in_stream == "api_error", "on an overload Claude Code would stream again and again"
    assert said.message.startswith("no provider can answer for 'm': ")


PASSING: dict[str, tuple[tuple[Outcome, ...], tuple[Failure, ...]]] = {
    "another one is overloaded": ((KEY, OVERLOADED), ()),
    "another one can't be reached": ((KEY, UNREACHABLE), ()),
    "another one is limited": ((KEY, LIMITED), ()),
    "another one cools down": ((KEY,), (Failure("b", "529 x", 529),)),
    "another one's model is limited": ((KEY,), (Failure("b", "429 x", 429),)),
    "another one was never asked": ((KEY,), (Failure("b"),)),
    "a fault of the balancer's own": ((KEY, CRASHED), ()),
    "all who were asked may pass": ((OVERLOADED,), (PAUSED,)),
}


@pytest.mark.parametrize(("outcomes", "unasked"), PASSING.values(), ids=PASSING)
def test_as_soon_as_one_failure_may_pass_the_client_is_kept_waiting(
    outcomes: tuple[Outcome, ...], unasked: tuple[Failure, ...]
) -> None:
    said = told(*outcomes, unasked=unasked)

    assert (said.status, said.retry_after_s, said.retrying_helps) == (503, 4, True)
    assert said.kind_in_stream == "overloaded_error"


def test_without_a_slot_the_client_is_kept_waiting_whatever_else_failed() -> None:
    assert told(KEY, unasked=(Failure("b"),), overloaded=True) == no_place("m")
    assert told(KEY, overloaded=True) == no_place("m")


def test_of_a_candidate_that_was_asked_twice_the_latest_counts() -> None:
    def said(*outcomes: Outcome) -> bool:
        return answer("m", attempts(*outcomes, asked=(A, A)), (), 3.2, overloaded=False).retrying_helps

    assert not said(OVERLOADED, KEY)
    assert said(KEY, OVERLOADED)


def test_the_message_has_a_sentence_for_each_provider_and_its_remedy() -> None:
    unasked = (
        Failure("b", "402 billing_error", 402, Trouble.CREDIT),
        Failure("c", "404 not_found_error", 404, None, True),
    )

    assert told(KEY, unasked=unasked).message == (
        "no provider can answer for 'm': a: its key was refused (401 authentication_error): check its auth_value in "
        "providers.yaml; b: its account has no credit (402 billing_error): top up the account, then run balancer wake "
        "b; c: 404 not_found_error"
    )


def test_the_clients_own_credential_that_was_refused_is_told_as_that() -> None:
    theirs = candidate("a", passthrough=True)
    said = answer("m", attempts(KEY, asked=(theirs,)), (), None, overloaded=False)

    assert (said.status, said.kind, said.reply) == (401, "authentication_error", None)


# The greater error is not hidden by the lesser, and what a client can mend reaches it


def hand_made(mark: Mark, whose: RefusalClass, **more: Any) -> Verdict:
    return Verdict(mark, retry_elsewhere=True, refusal=whose, **more)


def refusal(status: int, kind: str, words: str = "In its own words.", retry_after_s: float | None = None) -> Refused:
    limits = ((b"anthropic-ratelimit-unified-reset", b"%d" % (retry_after_s or 0)),)
    return refused(Fault(status, kind, words, retry_after_s, reply=Reply(status, limits, words.encode())))


UNABLE = (refusal(400, "invalid_request_error"), hand_made(Mark.NONE, RefusalClass.CAPABILITY, status=400))
NO_FILE = (refusal(404, "not_found_error"), hand_made(Mark.NONE, RefusalClass.CAPABILITY, status=404))
OWN_FAULT = (refusal(400, "invalid_request_error"), hand_made(Mark.NONE, RefusalClass.REQUEST, status=400))
BUSY = (refusal(529, "overloaded_error"), hand_made(Mark.BAD, RefusalClass.PROVIDER, reason="529 x", status=529))
NEAR = (refusal(429, "x", retry_after_s=60.0), hand_made(Mark.BAD, RefusalClass.LIMIT, reason="429 x", status=429))
FAR = (refusal(429, "x", retry_after_s=61.0), hand_made(Mark.BAD, RefusalClass.LIMIT, reason="429 x", status=429))
BAD_KEY = (refusal(401, "x"), hand_made(Mark.BAD, RefusalClass.ACCOUNT, needs_operator=Trouble.KEY, status=401))
CLIENTS_LIMIT = (
    refusal(429, "x", retry_after_s=7200.0),
    hand_made(Mark.NONE, RefusalClass.LIMIT, status=429, client_only=True),
)
CLIENTS_KEY = (refusal(402, "x"), hand_made(Mark.NONE, RefusalClass.ACCOUNT, status=402, client_only=True))

KEEPS = Failure("b", "429 x", 429, said=Statement("", 3600.0))

MADE: dict[str, tuple[list[tuple[Refused, Verdict]], tuple[Failure, ...], int, int | None]] = {
    # what was said, what is known of those that were not asked, the status, whose reply goes back
    "what nobody can do": ([UNABLE, UNABLE], (), 400, 1),
    "a file that nobody has": ([NO_FILE, NO_FILE], (), 404, 1),
    "an overload, then what the next can't do": ([BUSY, UNABLE], (), 503, None),
    "the same in the other order": ([UNABLE, BUSY], (), 503, None),
    "a limit that passes in time": ([NEAR, UNABLE], (), 503, None),
    "a limit that outlasts the client": ([FAR, UNABLE], (), 400, 1),
    "somebody cools down": ([UNABLE], (Failure("b", "529 x", 529, left_s=5.0),), 503, None),
    "somebody keeps a long time that it named": ([UNABLE], (KEEPS,), 400, 0),
    "somebody needs a person": ([UNABLE, BAD_KEY], (), 400, 0),
    "somebody is paused": ([UNABLE], (PAUSED,), 400, 0),
    "the request's own fault hides nothing": ([BUSY, OWN_FAULT], (), 400, 1),
    "the client's own limit": ([CLIENTS_LIMIT], (), 429, 0),
    "the client's own account": ([CLIENTS_KEY], (), 402, 0),
    "the client's own account, and a key of ours": ([CLIENTS_KEY, BAD_KEY], (), 402, 0),
    "the client's own account, and an overload": ([CLIENTS_KEY, BUSY], (), 503, None),
    "the client's own account, and what the next can't do": ([CLIENTS_KEY, UNABLE], (), 400, 1),
}


@pytest.mark.parametrize(("made", "unasked", "status", "whose"), MADE.values(), ids=MADE)
def test_which_error_reaches_the_client(
    made: list[tuple[Refused, Verdict]], unasked: tuple[Failure, ...], status: int, whose: int | None
) -> None:
    tried = [(who, outcome, verdict) for who, (outcome, verdict) in zip((A, B), made, strict=False)]
    said = answer("m", tried, unasked, 0.0, overloaded=False)

    assert said.status == status
    assert said.reply is (None if whose is None else made[whose][0].fault.reply)


@pytest.mark.parametrize("status", [405, 414, 415, 416, 431])
def test_a_request_whose_form_nobody_takes_is_the_clients_error(status: int) -> None:
    form = refused(Fault(status, "invalid_request_error", "an HTML page"))
    said = told(form, form)

    assert (said.status, said.kind, said.outcome) == (status, "invalid_request_error", "client_error")
    assert said.message == (
        f'no provider takes this request: a: {status} invalid_request_error: "an HTML page"; '
        f'b: {status} invalid_request_error: "an HTML page"'
    )
    assert told(form, OVERLOADED).status == 503


def test_the_limits_are_those_of_the_provider_that_recovers_first() -> None:
    later = (refusal(429, "x", "Come back in two hours.", 7200.0), FAR[1])
    sooner = (refusal(429, "x", "Come back in one hour.", 3600.0), FAR[1])
    tried = [(who, outcome, verdict) for who, (outcome, verdict) in zip((A, B), (later, sooner), strict=True)]
    said = answer("m", tried, (), 900.0, overloaded=False)

    assert (said.status, said.retry_after_s) == (429, 60)
    assert said.limits == ((b"anthropic-ratelimit-unified-reset", b"3600"),)
    assert said.message == (
        "no provider could answer for 'm': "
        'a: 429 x: "Come back in two hours." (asks to wait 2 h 0 min, until 1970-01-01 02:00 UTC); '
        'b: 429 x: "Come back in one hour." (asks to wait 1 h 0 min, until 1970-01-01 01:00 UTC)'
    )
    busy = answer("m", [*tried[:1], (B, *BUSY)], (), 900.0, overloaded=False)
    assert busy.limits == BUSY[0].fault.reply.headers, "b is back sooner, whatever its limits say"  # type: ignore[union-attr]


def test_the_providers_retry_after_is_told_without_a_cooldown() -> None:
    made = (refusal(429, "x", retry_after_s=20.0), hand_made(Mark.NONE, RefusalClass.LIMIT, status=429))

    assert answer("m", [(A, *made)], (), 0.0, overloaded=False).retry_after_s == 20
    assert answer("m", [(A, *made), (B, *BUSY)], (), 0.0, overloaded=False).retry_after_s == 1


def test_after_a_cooldown_began_its_reason_is_told_with_the_words_of_then() -> None:
    said = Statement("Come back later.", 7200.0, ((b"anthropic-ratelimit-unified-reset", b"1"),))
    told_now = answer(
        "m", [], (Failure("a", "429 x", 429, said=said, left_s=800.0),), 800.0, overloaded=False, now=10.0
    )

    assert (told_now.status, told_now.retry_after_s, told_now.limits) == (429, 60, said.limits)
    assert 'a: cooling down after 429 x: "Come back later." (asks to wait 2 h 0 min' in told_now.message


def test_secrets_are_blotted_out_of_the_providers_words() -> None:
    quoting = refusal(529, "overloaded_error", "wrong key: tiny")
    said = answer("m", [(A, quoting, BUSY[1])], (), 0.0, overloaded=False, secrets=("tiny",))

    assert 'wrong key: [redacted]"' in said.message


# What passes


@pytest.mark.parametrize(("recovery_s", "retry_after_s"), [(None, 1), (-3.0, 1), (0.2, 1), (3.2, 4), (60.0, 60), (60.1, 60), (900.0, 60)])  # fmt: skip
def test_retry_after_is_whole_seconds_that_claude_code_waits_for(recovery_s: float | None, retry_after_s: int) -> None:
    assert told(OVERLOADED, recovery_s=recovery_s).retry_after_s == retry_after_s
    assert told(LIMITED, recovery_s=recovery_s).retry_after_s == retry_after_s


def test_the_message_names_who_was_asked_and_who_was_not_and_why() -> None:
    unasked = (Failure("b", "529 overloaded_error", 529), Failure("c"), PAUSED)

    assert told(UNREACHABLE, unasked=unasked).message == (
        "no provider could answer for 'm': a: connection refused; b: cooling down after 529 overloaded_error; "
        "b: it was paused by hand: run balancer resume b"
    )
    assert told().message == "no provider could answer for 'm': none is enabled"


def test_what_all_have_said_counts_for_those_that_cool_down_after_it_too() -> None:
    assert told(GONE, unasked=(Failure("b", "404 not_found_error", 404),)).status == 404
    assert told(GONE, unasked=(Failure("b", "529 overloaded_error", 529),)).status == 503
    assert told(LIMITED, unasked=(Failure("b", "429 rate_limit_error", 429),)).status == 429
    assert told(unasked=(Failure("b", "429 rate_limit_error", 429),)).status == 429
    assert told(LIMITED, unasked=(Failure("b"),)).status == 503, "nothing is known against it"


@pytest.mark.parametrize("status", [404, 410])
def test_a_page_in_place_of_an_answer_says_nothing_of_the_model(status: int) -> None:
    said = told(refused(Fault(status, "not_found_error", "an HTML page", foreign=True)))

    assert (said.status, said.kind) == (503, "api_error")
    assert "knows the model" not in said.message


def test_a_reason_that_begins_like_a_status_is_none() -> None:
    assert told(GONE, unasked=(Failure("b", "404 things went wrong", None),)).status == 503


def test_no_place() -> None:
    said = no_place("m")

    assert (said.status, said.kind, said.retry_after_s, said.retrying_helps) == (503, "api_error", 1, True)


IN_STREAM = {
    "what the client can mend keeps its type": (ErrorReply(400, "invalid_request_error", ""), "invalid_request_error"),
    "so does the last below 500": (ErrorReply(499, "x", ""), "x"),
    "a limit passes": (ErrorReply(429, "rate_limit_error", ""), "overloaded_error"),
    "an outage passes": (ErrorReply(500, "api_error", ""), "overloaded_error"),
    "what does not pass": (ErrorReply(503, "api_error", "", retrying_helps=False), "api_error"),
}


@pytest.mark.parametrize(("reply", "kind"), IN_STREAM.values(), ids=IN_STREAM)
def test_the_type_for_a_client_that_has_a_200_already(reply: ErrorReply, kind: str) -> None:
    assert reply.kind_in_stream == kind


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

    assert broken_off("a", outcome, judge_of(A, outcome)) == (kind, message)


@pytest.mark.parametrize("status", [405, 414, 415, 416, 431, 400, 413])
def test_what_nobody_takes_in_this_form_is_told_as_the_requests(status: int) -> None:
    refusal = refused(Fault(status, "invalid_request_error", "an HTML page", foreign=True))
    told = answer("m", [(one, refusal, judge_of(one, refusal)) for one in (A, B)], [], None, overloaded=False)

    assert told.status == status


@pytest.mark.parametrize("status", [401, 402, 403, 451])
def test_a_page_in_place_of_a_refused_key_never_goes_to_the_client(status: int) -> None:
    refusal = refused(Fault(status, "permission_error", "an HTML page", foreign=True))
    told = answer("m", [(one, refusal, judge_of(one, refusal)) for one in (A, B)], [], None, overloaded=False)

    assert (told.status, told.reply) == (503, None)
