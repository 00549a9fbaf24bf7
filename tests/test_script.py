"""Why exchanges break: the words that logs and events have for it."""

from __future__ import annotations

import pytest

from balancer.script import NOTHING_SENT, Cause

WORDS = {
    Cause.DNS: "dns",
    Cause.REFUSED: "refused",
    Cause.UNREACHABLE: "unreachable",
    Cause.CONNECT_TIMEOUT: "connect_timeout",
    Cause.TLS: "tls",
    Cause.PROXY: "proxy",
    Cause.NOT_ALLOWED: "not_allowed",
    Cause.RESET: "reset",
    Cause.CLOSED: "closed",
    Cause.HEAD_TIMEOUT: "head_timeout",
    Cause.IDLE_TIMEOUT: "idle_timeout",
    Cause.SILENT: "silent",
    Cause.PROTOCOL: "protocol",
    Cause.TOO_LARGE: "too_large",
    Cause.ENCODING: "encoding",
    Cause.TRUNCATED: "truncated",
    Cause.LOCAL: "local",
    Cause.CRASHED: "crashed",
}


@pytest.mark.parametrize("cause", Cause)
def test_the_words_are_public_and_stay(cause: Cause) -> None:
    assert f"{cause}" == cause.value == WORDS[cause]


def test_what_breaks_before_anything_was_sent() -> None:
    """A connection that was never there."""
    connecting = {"dns", "refused", "unreachable", "connect_timeout", "tls", "proxy", "local", "not_allowed"}

    assert {cause.value for cause in NOTHING_SENT} == connecting
