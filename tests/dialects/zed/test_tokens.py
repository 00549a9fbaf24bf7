"""Tokens: which secret is an account's, when a token ends, what can be sent, which answers ask for a fresh one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from balancer.dialects.zed import tokens

WALL = 1.8e9


@pytest.mark.parametrize("secret", ["1234 access", '1234 {"token": "x y"}', "u t"])
def test_an_account_is_a_user_and_what_it_proves_itself_by(secret: str) -> None:
    assert tokens.is_pair(secret)


@pytest.mark.parametrize("secret", ["", " ", "token", "token ", " token", "a  b"])
def test_anything_else_is_a_token_itself(secret: str) -> None:
    assert not tokens.is_pair(secret)


def jwt(payload: Any) -> str:
    part = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    return f"e30.{part}.signature"


@pytest.mark.parametrize("ahead_s", [0, -7200, 7200, 0.5])
def test_a_token_lives_as_long_as_it_says_whatever_the_services_clock_shows(ahead_s: float) -> None:
    issued = WALL + ahead_s

    assert tokens.expiry(jwt({"iat": issued, "exp": issued + 3600}), WALL) == WALL + 3600


def test_without_the_time_of_its_issue_its_end_counts_if_that_is_to_come() -> None:
    assert tokens.expiry(jwt({"exp": WALL + 900}), WALL) == WALL + 900
    for passed in (123, 123.5, 0, WALL - 1):
        assert tokens.expiry(jwt({"exp": passed}), WALL) == WALL + tokens.ASSUMED_S


UNTOLD = {
    "opaque": "opaque",
    "two parts": "a.b",
    "four parts": "a.e30.c.d",
    "no JSON": f"a.{base64.urlsafe_b64encode(b'nope').decode()}.c",
    "a list": jwt([1]),
    "no end": jwt({}),
    "an end in words": jwt({"exp": "123"}),
    "an end that is no date": jwt({"exp": 10**400}),
    "it ends before it was issued": jwt({"iat": WALL, "exp": WALL - 9}),
    "an end that is true": jwt({"exp": True}),
    "no base64": "a.!.c",
    "no ASCII": "a.\u00fc.c",
    "nothing": "",
}


@pytest.mark.parametrize("token", UNTOLD.values(), ids=UNTOLD)
def test_a_token_that_does_not_say_is_taken_to_live_for_a_while(token: str) -> None:
    assert tokens.expiry(token, WALL) == WALL + tokens.ASSUMED_S


@pytest.mark.parametrize("token", ["a", "a.b-c_d", "~!"])
def test_what_can_stand_in_a_header(token: str) -> None:
    assert tokens.sendable(token)


@pytest.mark.parametrize("token", ["", "a b", "a\n", "a\r\nx: y", "\u00fc", "a\0", "\x7f"])
def test_what_can_not(token: str) -> None:
    assert not tokens.sendable(token)


@pytest.mark.parametrize("name", [b"x-zed-expired-token", b"x-zed-outdated-token"])
@pytest.mark.parametrize("status", [200, 401, 403, 500])
def test_an_answer_asks_for_a_fresh_token_by_a_header_whatever_its_status(name: bytes, status: int) -> None:
    assert tokens.is_stale(status, ((name, b"1"),))


@pytest.mark.parametrize(("status", "stale"), [(401, True), (200, False), (403, False), (429, False), (500, False)])
def test_or_by_its_status(status: int, stale: bool) -> None:
    assert tokens.is_stale(status, ((b"x-zed-plan", b"1"),)) is stale
