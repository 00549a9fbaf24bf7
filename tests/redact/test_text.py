"""What must never be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import provider

from balancer.model import Origin
from balancer.redact import LONGEST, anonymous, scrub, without
from balancer.redact.inventory import secrets_of

SHOWN = {
    "Overloaded": "Overloaded",
    "prompt is too long: 200000 tokens > 199999 maximum": "prompt is too long: 200000 tokens > 199999 maximum",
    "the secret of a good answer": "the secret of a good answer",
    "invalid x-api-key": "invalid x-api-key",
    "bad key sk-ant-api03-abcdef": "bad key [redacted]",
    "Authorization: Bearer abc123def456": "Authorization: Bearer [redacted]",
    "api_key=abcdef123456 is wrong": "api_key=[redacted] is wrong",
    "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc": "token [redacted]",
    "see https://internal.host/path?x=1 for more": "see https://[redacted] for more",
    "proxy http://user:pass@proxy:8080": "proxy http://[redacted]",
    "a\n[ERROR]\x1b[2Jb": "a [ERROR] b",
    "<!DOCTYPE html><html><body>key</body></html>": "an HTML page",
}


@pytest.mark.parametrize(("text", "expected"), SHOWN.items())
def test_scrub(text: str, expected: str) -> None:
    assert scrub(text) == expected
    assert scrub(expected) == expected


@given(st.text(), st.text(min_size=6, alphabet=st.characters(categories=["Lu", "Ll", "Nd"])), st.text())
def test_a_known_secret_never_survives(before: str, secret: str, after: str) -> None:
    assert secret not in scrub(before + secret + after, [secret]) or secret in "redacted an HTML page"


@given(st.text(max_size=10_000))
def test_no_control_characters_and_no_novels(text: str) -> None:
    shown = scrub(text)

    assert len(shown) <= LONGEST + 4
    assert all(c.isprintable() or c.isspace() or not c.isascii() for c in shown)
    assert "\x1b" not in shown
    assert "\n" not in shown


def test_every_credential_of_a_provider_is_a_secret() -> None:
    asked = provider(
        secret="user-17 zed-access-token",
        headers=(
            (b"x-team", b"blue-and-green"),
            (b"authorization", b"Bearer hidden-bearer"),
            (b"x-api-token", b"t0ken!"),
        ),
        origin=Origin(tls=False, host="h", port=1, proxy="http://me:p%40ssword@proxy:8080"),
    )

    found = secrets_of(asked)

    assert {"user-17 zed-access-token", "zed-access-token", "hidden-bearer", "t0ken!", "p%40ssword", "p@ssword"} <= set(
        found
    )
    assert not {"blue-and-green", "Bearer", "me"} & set(found)
    assert not any(secret in repr(asked) for secret in found)
    assert "hidden" not in scrub("said Bearer hidden-bearer", found)


def test_a_provider_without_credentials_has_no_secrets() -> None:
    assert secrets_of(provider(secret="")) == ()


ANONYMOUS = {
    "messages.0.content.1.text: gpt-4.1 v1.2.3 user_message": "messages.0.content.1.text: gpt-4.1 v1.2.3 user_message",
    "Unexpected token at position:12": "Unexpected token at position:12",
    "slow down, org-AbCdEf123456 (proj_abc123DEF)": "slow down, [redacted] ([redacted])",
    "key sk-proj-abcdef123": "key sk-proj-abcdef123",
    "organization org-AbCdEfGhIjKlMnOp": "organization [redacted]",
    "node-7.prod.internal:8000 and 10.0.3.4:99 failed": "[redacted] and [redacted] failed",
    "see platform.openai.com.": "see [redacted].",
    "http://up.internal/x?k=1": "http://[redacted]",
    "quote req_0123456789abcdef": "quote [redacted]",
    'no\nTraceback (most recent call last):\n  File "/app/a.py", line 1': "no",
    "no\n    at Foo.bar (/app/a.js:12:3)\n    at b (/c.js:1:1)": "no",
}


@pytest.mark.parametrize(("text", "expected"), ANONYMOUS.items())
def test_anonymous(text: str, expected: str) -> None:
    assert anonymous(text) == expected
    assert scrub(anonymous(text)) == scrub(expected)


def test_a_short_secret_goes_only_where_it_stands_alone() -> None:
    assert scrub("maximum of x, not x-ray: key x", ["x"]) == "maximum of [redacted], not [redacted]-ray: key [redacted]"
    assert scrub("maximum", ["x"]) == "maximum"


def test_a_body_is_untouched_but_for_secrets() -> None:
    body = b'{"error": "key \xff sk-very-secret \x1b[0m <html>"}'

    assert without(body, ["sk-very-secret", ""]) == body.replace(b"sk-very-secret", b"[redacted]")
    assert without(body, ["another"]) is body
