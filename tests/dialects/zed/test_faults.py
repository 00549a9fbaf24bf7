"""Zed's errors in the Messages API's words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from balancer.dialects.zed import faults
from balancer.model import Reply
from balancer.wire.errors import SAME_AS, STATUS_OF, kind_of


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (500, {"code": "upstream_http_error", "upstream_status": 503, "message": "x"}, (529, "overloaded_error")),
        (500, {"code": "upstream_http_429", "message": "x"}, (429, "rate_limit_error")),
        (500, {"code": "internal_server_error", "message": "x"}, (500, "api_error")),
        (413, {"code": "context_length_exceeded", "message": "x"}, (400, "invalid_request_error")),
        (402, {"message": "Maximum spending limit reached"}, (402, "billing_error")),
        (451, {"message": "x"}, (403, "permission_error")),
    ],
)
def test_statuses(status: int, body: dict[str, Any], expected: tuple[int, str]) -> None:
    fault = faults.of_reply(Reply(status, (), json.dumps(body).encode()), 0.0)

    assert (fault.status, fault.kind) == expected


def test_headers_say_more_than_a_status() -> None:
    quota = faults.of_reply(Reply(403, ((b"x-zed-subscription-limit-resource", b"model_requests"),), b"no"), 0.0)
    old = faults.of_reply(Reply(400, ((b"x-zed-minimum-required-version", b"9.0.0"),), b"no"), 0.0)

    assert (quota.status, old.status) == (402, 502)
    assert old.retry_after_s == faults.PERMANENT_S
    assert "client_version" in old.message


@pytest.mark.parametrize(
    ("failed", "expected"),
    [
        ({"code": "upstream_http_error", "message": '{"upstream_status":529,"message":"m"}'}, (529, None)),
        ({"code": "http_429", "message": "x", "retry_after": 12.5}, (429, 12.5)),
        ({"code": "overloaded_error", "message": "x", "retry_after": None}, (529, None)),
        ({"code": "request_timed_out", "message": "x"}, (504, None)),
        ({"code": "new", "message": "prompt is too long: 9 tokens > 8 maximum"}, (400, None)),
        ({"code": "http_200", "message": "x"}, (500, None)),
        ("garbage", (500, None)),
    ],
)
def test_failed_lines(failed: Any, expected: tuple[int, float | None]) -> None:
    fault = faults.of_failed(failed)

    assert (fault.status, fault.retry_after_s) == expected


@pytest.mark.parametrize(
    ("status", "body", "elsewhere"),
    [
        (400, b'{"code":"invalid_request_error","message":"failed to parse Anthropic request: missing field"}', True),
        (400, b'{"code":"invalid_request_error","message":"temperature: must be at most 1"}', False),
        (400, b"prompt is too long: 9 tokens > 8 maximum", True),
        (413, b"", True),
        (500, b'{"code":"upstream_http_413","message":"context_length_exceeded"}', True),
    ],
)
def test_what_is_wrong_here_only_may_be_taken_elsewhere(status: int, body: bytes, elsewhere: bool) -> None:
    fault = faults.of_reply(Reply(status, (), body), 0.0)

    assert (fault.status, fault.elsewhere) == (400, elsewhere)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"Rate limit exceeded.", "Rate limit exceeded."),
        (b"<!DOCTYPE html><html>bad</html>", "an HTML page"),
        (b'{"type":"error","error":{"type":"x","message":"in the provider\'s shape"}}', "in the provider's shape"),
    ],
)
def test_words_are_found_in_whatever_shape(body: bytes, words: str) -> None:
    assert faults.of_reply(Reply(429, (), body), 0.0).message == words


def test_an_unknown_code_is_passed_on() -> None:
    assert faults.of_failed({"code": "cyber_policy", "message": "no"}).message == "cyber_policy: no"


@pytest.mark.parametrize(("code", "status"), faults.CODES.items())
def test_every_word_of_the_service_has_its_status(code: str, status: int) -> None:
    fault = faults.of_failed({"code": code, "message": "m"})

    if status == 413:
        assert (fault.status, fault.message, fault.elsewhere) == (400, "prompt is too long: m", True)
    else:
        assert (fault.status, fault.kind, fault.message) == (status, kind_of(status), "m")


@pytest.mark.parametrize(("kind", "status"), STATUS_OF.items())
def test_every_type_of_the_messages_api_has_its_status(kind: str, status: int) -> None:
    fault = faults.of_failed({"code": kind, "message": "m"})

    if status == 413:
        assert (fault.status, fault.elsewhere) == (400, True)
    else:
        assert (fault.status, fault.kind) == (status, kind)


@pytest.mark.parametrize(("status", "same"), SAME_AS.items())
def test_a_status_of_other_apis_is_told_as_the_messages_api_does(status: int, same: int) -> None:
    told = [
        faults.of_reply(Reply(status, (), b"m"), 0.0),
        faults.of_failed({"code": f"http_{status}", "message": "m"}),
        faults.of_reply(Reply(500, (), json.dumps({"code": f"upstream_http_{status}", "message": "m"}).encode()), 0.0),
    ]

    assert {(fault.status, fault.kind) for fault in told} == {(same, kind_of(same))}


UPSTREAMS: dict[str, tuple[Any, str, int]] = {
    "told": (503, "upstream_http_error", 529),
    "in the code": (None, "upstream_http_429", 429),
    "told and in the code": (529, "upstream_http_429", 529),
    "the least": (400, "upstream_http_error", 400),
    "less": (399, "upstream_http_error", 500),
    "the most": (599, "upstream_http_error", 599),
    "more": (600, "upstream_http_error", 500),
    "in words": ("503", "upstream_http_error", 500),
}


@pytest.mark.parametrize(("upstream", "code", "status"), UPSTREAMS.values(), ids=UPSTREAMS)
def test_the_status_behind_the_service(upstream: Any, code: str, status: int) -> None:
    body = {"code": code, "upstream_status": upstream, "message": "m"}

    assert faults.of_reply(Reply(500, (), json.dumps(body).encode()), 0.0).status == status


@pytest.mark.parametrize("length", [499, 500, 501, 9000])
def test_so_much_is_kept_of_a_message(length: int) -> None:
    assert len(faults.of_failed({"code": "http_500", "message": "m" * length}).message) == min(length, 500)


SECONDS: list[tuple[Any, float | None]] = [
    (0, 0.0), (12.5, 12.5), (-1, None), (True, None), ("5", None), (None, None), ([5], None),
]  # fmt: skip


@pytest.mark.parametrize(("value", "seconds"), SECONDS)
def test_how_long_to_wait_is_a_number(value: Any, seconds: float | None) -> None:
    assert faults.of_failed({"code": "http_429", "message": "m", "retry_after": value}).retry_after_s == seconds
    body = json.dumps({"message": "m", "retry_after": value}).encode()
    assert faults.of_reply(Reply(429, ((b"retry-after", b"7"),), body), 0.0).retry_after_s == (
        7.0 if seconds is None else seconds
    )
