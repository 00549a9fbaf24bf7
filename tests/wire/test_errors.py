"""Errors in the Messages API's words: statuses and types, how long to wait, what a client may see."""

from __future__ import annotations

import json

import msgspec
import pytest

from balancer.headers import Headers
from balancer.model import Fault, Reply
from balancer.wire import errors, sse
from balancer.wire.complaints import inner_fault
from balancer.wire.errors import (
    REDIRECTED_TO_TLS,
    SAME_AS,
    STATUS_OF,
    fault_of,
    kind_of,
    messages_status,
    redirected,
    retry_after,
)

WALL = 1_800_000_000.0


@pytest.mark.parametrize(("kind", "status"), STATUS_OF.items())
def test_every_type_has_a_status_of_its_own(kind: str, status: int) -> None:
    assert kind_of(status) == kind
    assert messages_status(status) == status


OTHERS = {
    400: "invalid_request_error",
    405: "invalid_request_error",
    422: "invalid_request_error",
    408: "invalid_request_error",
    499: "invalid_request_error",
    300: "api_error",
    399: "api_error",
    502: "api_error",
    503: "api_error",
    599: "api_error",
}


@pytest.mark.parametrize(("status", "kind"), OTHERS.items())
def test_a_status_without_a_type_of_its_own_has_that_of_its_class(status: int, kind: str) -> None:
    assert kind_of(status) == kind


def test_the_statuses_of_other_apis() -> None:
    assert SAME_AS == {408: 504, 451: 403, 503: 529}
    assert set(SAME_AS.values()) <= set(STATUS_OF.values())
    assert not set(SAME_AS) & set(STATUS_OF.values())
    assert {messages_status(status) for status in SAME_AS} == set(SAME_AS.values())


def body(kind: str, message: str = "no") -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


@pytest.mark.parametrize("kind", STATUS_OF)
def test_a_known_type_counts_more_than_the_status(kind: str) -> None:
    fault = fault_of(Reply(418, (), body(kind)), WALL)

    assert (fault.status, fault.kind, fault.message) == (418, kind, "no")


REFUSALS = {
    "an unknown type": (Reply(429, (), body("odd")), "rate_limit_error", "no"),
    "only words": (Reply(429, (), b'{"error":"slow down"}'), "rate_limit_error", "slow down"),
    "no error": (Reply(404, (), b"{}"), "not_found_error", ""),
    "a page": (Reply(502, (), b"<html>bad gateway</html>"), "api_error", "an HTML page"),
    "text": (Reply(502, (), b" bad gateway\n"), "api_error", "bad gateway"),
    "a list": (Reply(500, (), b"[]"), "api_error", "JSON"),
    "too deep": (Reply(500, (), b'{"error":' + b"[" * 100_000), "api_error", "JSON"),
    "white space": (Reply(500, (), b" \n"), "api_error", "nothing"),
    "a type that is a number": (
        Reply(429, (), b'{"error":{"type":5,"message":"slow down"}}'),
        "rate_limit_error",
        "slow down",
    ),
    "words that are a list": (Reply(429, (), b'{"error":{"message":[1]}}'), "rate_limit_error", ""),
    "an error that is a number": (Reply(500, (), b'{"error":7}'), "api_error", ""),
    "bytes that are not UTF-8": (Reply(500, (), b'{"error":{"message":"\xff oh"}}'), "api_error", "\ufffd oh"),
    "half a pair of surrogates": (Reply(500, (), b'{"error":{"message":"\\ud800 oh"}}'), "api_error", "\ufffd oh"),
    "nothing": (Reply(529, (), b""), "overloaded_error", ""),
}


@pytest.mark.parametrize(("reply", "kind", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_in_whatever_shape(reply: Reply, kind: str, message: str) -> None:
    fault = fault_of(reply, WALL)

    assert (fault.status, fault.kind, fault.message) == (reply.status, kind, message)


@pytest.mark.parametrize(("value", "expected"), [(b"true", True), (b" TRUE ", True), (b"false", False), (b"x", False)])
def test_whether_to_retry_is_the_providers_word(value: bytes, expected: bool) -> None:
    assert fault_of(Reply(529, ((b"x-should-retry", value),)), WALL).should_retry is expected


def test_where_the_provider_does_not_say_whether_to_retry_nothing_is_known() -> None:
    assert fault_of(Reply(529, ()), WALL).should_retry is None


@pytest.mark.parametrize("shape", [body("api_error", "x" * 9000), json.dumps({"error": "x" * 9000}).encode()])
def test_no_more_of_a_message_is_read_than_its_limit(shape: bytes) -> None:
    assert fault_of(Reply(500, (), shape), WALL).message == "x" * errors.MESSAGE_MAX_CHARS


def test_a_message_up_to_the_limit_is_whole() -> None:
    message = "x" * errors.MESSAGE_MAX_CHARS

    assert fault_of(Reply(500, (), body("api_error", message)), WALL).message == message


# What goes to the client

SEEN = {
    b"request-id": True,
    b"retry-after": True,
    b"retry-after-ms": True,
    b"x-should-retry": True,
    b"anthropic-organization-id": True,
    b"anthropic-ratelimit-tokens-reset": True,
    b"anthropic": False,
    b"set-cookie": False,
    b"server": False,
    b"via": False,
    b"x-request-id": False,
    b"content-length": False,
    b"transfer-encoding": False,
    b"content-encoding": False,
}


@pytest.mark.parametrize(("name", "seen"), SEEN.items())
def test_which_headers_a_client_may_see(name: bytes, seen: bool) -> None:
    headers = ((b"content-type", b"application/json"), (name, b"1"), (name, b"2"))
    twice = [(name, b"1"), (name, b"2")] if seen else []

    assert errors.reply_headers(headers) == (headers[0], *twice)
    assert errors.kept_headers(Reply(200, headers)) == twice
    assert errors.kept_headers(Reply(200, headers, names=(b"content-type", name, name))) == twice, "by their names"


def test_a_refusal_keeps_its_own_words_for_the_client() -> None:
    headers = ((b"request-id", b"r1"), (b"set-cookie", b"x"))
    refusal = body("invalid_request_error", "prompt is too long")

    fault = fault_of(Reply(400, headers, refusal), WALL)

    assert fault.message == "prompt is too long"
    assert fault.reply == Reply(400, headers[:1], refusal)


def test_an_error_of_ours_is_one_of_the_apis() -> None:
    written = errors.error_body("overloaded_error", 'say "no"', "req_1")

    assert json.loads(written) == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": 'say "no"'},
        "request_id": "req_1",
    }
    assert sse.fields(errors.error_frame("overloaded_error", 'say "no"', "req_1")) == (b"error", written)


# How long to wait

LATER = b"2027-01-15T08:01:00Z"
"""60 s after `WALL`."""

RETRY_AFTERS = {
    "seconds": ([(b"retry-after", b"17")], 17.0),
    "a part of a second": ([(b"retry-after", b"0.5")], 0.5),
    "less than nothing": ([(b"retry-after", b"-5")], 0.0),
    "milliseconds": ([(b"retry-after-ms", b"1500")], 1.5),
    "milliseconds win": ([(b"retry-after", b"17"), (b"retry-after-ms", b"1500")], 1.5),
    "milliseconds that are none": ([(b"retry-after", b"17"), (b"retry-after-ms", b"soon")], 17.0),
    "a date": ([(b"retry-after", b"Fri, 15 Jan 2027 08:00:30 GMT")], 30.0),
    "a date that has passed": ([(b"retry-after", b"Fri, 15 Jan 2021 08:00:30 GMT")], 0.0),
    "a limit that is used up": (
        [(b"anthropic-ratelimit-tokens-remaining", b"0"), (b"anthropic-ratelimit-tokens-reset", LATER)], 60.0,
    ),
    "a limit that is not used up": (
        [(b"anthropic-ratelimit-tokens-remaining", b"9"), (b"anthropic-ratelimit-tokens-reset", LATER)], None,
    ),
    "a limit that was met": (
        [(b"anthropic-ratelimit-unified-status", b"rejected"), (b"anthropic-ratelimit-unified-reset", LATER)], 60.0,
    ),
    "a limit that was not met": (
        [(b"anthropic-ratelimit-unified-status", b"allowed"), (b"anthropic-ratelimit-unified-reset", LATER)], None,
    ),
    "a limit that says nothing": ([(b"anthropic-ratelimit-tokens-reset", LATER)], None),
    "the later of two": (
        [(b"anthropic-ratelimit-a-remaining", b"0"), (b"anthropic-ratelimit-a-reset", b"1800000090"),
         (b"anthropic-ratelimit-b-remaining", b"0"), (b"anthropic-ratelimit-b-reset", LATER)], 90.0,
    ),
    "a reset that has passed": (
        [(b"anthropic-ratelimit-a-remaining", b"0"), (b"anthropic-ratelimit-a-reset", b"1700000000")], 0.0,
    ),
    "a reset that is no date": (
        [(b"anthropic-ratelimit-a-remaining", b"0"), (b"anthropic-ratelimit-a-reset", b"soon")], None,
    ),
    "garbage": ([(b"retry-after", b"soon")], None),
    "not a number": ([(b"retry-after", b"nan")], None),
    "for ever": ([(b"retry-after", b"inf")], None),
    "the largest number": ([(b"retry-after", b"999999999999")], 999999999999.0),
    "a number too large": ([(b"retry-after", b"1000000000000")], None),
    "a number of thousands of digits": ([(b"retry-after", b"9" * 5000)], None),
    "no ASCII": ([(b"retry-after", "\u0663".encode())], None),
    "nothing": ([], None),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "seconds"), RETRY_AFTERS.values(), ids=RETRY_AFTERS)
def test_retry_after(headers: list[tuple[bytes, bytes]], seconds: float | None) -> None:
    assert retry_after(tuple(headers), WALL) == seconds
    assert fault_of(Reply(529, tuple(headers)), WALL).retry_after_s == seconds


RESETS = {
    "a date": ([(b"anthropic-ratelimit-requests-reset", LATER)], 60.0),
    "seconds since the epoch": ([(b"anthropic-ratelimit-unified-reset", b"1800000090")], 90.0),
    "a limit that was not met": (
        [
            (b"anthropic-ratelimit-unified-status", b"rejected"),
            (b"anthropic-ratelimit-unified-reset", b"1800000090"),
            (b"anthropic-ratelimit-unified-7d-status", b"allowed"),
            (b"anthropic-ratelimit-unified-7d-reset", b"1800400000"),
        ],
        90.0,
    ),
}


@pytest.mark.parametrize(("headers", "seconds"), RESETS.values(), ids=RESETS)
def test_a_429_rests_until_the_limit_is_reset_even_where_it_does_not_say_what_remains(
    headers: list[tuple[bytes, bytes]], seconds: float
) -> None:
    assert fault_of(Reply(429, tuple(headers)), WALL).retry_after_s == seconds


STATED_IN_THE_BODY = {
    "in words": ({"message": "Your tokens are used up. Please try again in 2 minutes."}, 120.0),
    "in a field": ({"message": "No.", "details": [{"retryDelay": "20s"}]}, 20.0),
    "nowhere": ({"message": "No."}, None),
}


@pytest.mark.parametrize(("error", "seconds"), STATED_IN_THE_BODY.values(), ids=STATED_IN_THE_BODY)
def test_a_time_in_the_body_counts_where_no_header_names_one(error: dict[str, object], seconds: float | None) -> None:
    said = json.dumps({"type": "error", "error": {"type": "rate_limit_error", **error}}).encode()

    assert fault_of(Reply(429, (), said), WALL).retry_after_s == seconds
    assert fault_of(Reply(429, ((b"retry-after", b"7"),), said), WALL).retry_after_s == 7.0
    assert inner_fault(json.loads(said)).retry_after_s == seconds


SORTS = {b"": "nothing", b" \n": "nothing", b"<p>": "an HTML page", b"{": "JSON", b" [": "JSON", b"no": "text"}


@pytest.mark.parametrize(("data", "words"), SORTS.items())
def test_what_something_is_that_should_be_something_else(data: bytes, words: str) -> None:
    assert errors.sort_of(data) == words


# Whose limit it is

U = b"anthropic-ratelimit-unified-"
WINDOWS: dict[str, tuple[Headers, bool]] = {
    "five hours": (((U + b"status", b"rejected"), (U + b"5h-status", b"rejected")), True),
    "seven days": (((U + b"7d-status", b"rejected"), (U + b"5h-status", b"allowed")), True),
    "another span": (((U + b"30d-status", b"rejected"),), True),
    "one model's allowance": (((U + b"7d-status", b"allowed"), (U + b"7d_oi-status", b"rejected")), False),
    "one model's allowance, claimed": (((U + b"representative-claim", b"seven_day_opus"),), False),
    "claimed, without the windows": (
        ((U + b"status", b"rejected"), (U + b"representative-claim", b"five_hour")),
        True,
    ),
    "claimed, but another one is rejected": (
        ((U + b"representative-claim", b"five_hour"), (U + b"7d_oi-status", b"rejected")),
        False,
    ),
    "claimed, but allowed": (((U + b"status", b"allowed"), (U + b"representative-claim", b"five_hour")), False),
    "overage alone": (((U + b"status", b"rejected"), (U + b"overage-status", b"rejected")), False),
    "limits of the API": (((b"anthropic-ratelimit-tokens-remaining", b"0"),), False),
    "nothing": ((), False),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_a_window_of_the_whole_account_is_told_from_an_allowance_of_one_model(case: str) -> None:
    headers, expected = WINDOWS[case]

    assert fault_of(Reply(429, headers), WALL).account_window is expected


FORMS: dict[str, tuple[bytes, bool]] = {
    "an error of the API": (b'{"type":"error","error":{"type":"api_error","message":"x"}}', False),
    "an error in a string": (b'{"error":"no"}', False),
    "nothing": (b"", False),
    "a page": (b"<html>no</html>", True),
    "text": (b"no", True),
    "another server's JSON": (b'{"detail":"Method Not Allowed"}', True),
    "an error that is none": (b'{"error":null}', True),
    "a list": (b"[]", True),
}


@pytest.mark.parametrize("case", FORMS)
def test_an_answer_in_no_form_of_an_apis_error_is_known(case: str) -> None:
    body, foreign = FORMS[case]

    assert fault_of(Reply(403, (), body), WALL).foreign is foreign


def test_words_of_other_servers_are_found() -> None:
    for key in ("message", "detail", "msg"):
        assert fault_of(Reply(400, (), msgspec.json.encode({key: "why", "code": "E1"})), WALL).message == "why"
    assert fault_of(Reply(400, (), b'{"detail":[1]}'), WALL).message == ""
    assert fault_of(Reply(400, (), b'{"error":{"message":3,"code":"E1","param":"top_k"}}'), WALL).code == "E1"


REDIRECTS: dict[str, tuple[int, bytes | None, bool, str]] = {
    "to the same with TLS": (301, b"https://api.example/v1/messages", False, REDIRECTED_TO_TLS),
    "in capitals": (307, b"HTTPS://api.example", False, REDIRECTED_TO_TLS),
    "from TLS": (301, b"https://other.example", True, "it redirects to another address"),
    "to a path": (302, b"/login", False, "it redirects to another address"),
    "without an address": (304, None, False, "as it was"),
    "no redirect": (401, b"https://api.example", False, "as it was"),
}


@pytest.mark.parametrize(("status", "location", "tls", "message"), REDIRECTS.values(), ids=REDIRECTS)
def test_a_redirect_says_what_base_url_should_be(status: int, location: bytes | None, tls: bool, message: str) -> None:
    headers = () if location is None else ((b"location", location),)
    fault = redirected(Fault(status, "api_error", "as it was"), Reply(status, headers), tls=tls)

    assert fault.message == message


def test_bytes_that_are_not_utf_8_are_no_reason_to_lose_the_rest() -> None:
    fault = fault_of(Reply(400, (), b'{"error":{"type":"billing_error","message":"no \xff credit"}}'), WALL)

    assert (fault.kind, fault.message, fault.foreign) == ("billing_error", "no \ufffd credit", False)
