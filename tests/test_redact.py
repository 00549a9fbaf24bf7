"""What must never be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import provider

from balancer.model import Origin
from balancer.redact import LONGEST, scrub, secrets_of

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
