"""Which refused credentials are told, and how often."""

from __future__ import annotations

from balancer.state.credentials import REMEMBERED, RefusedCredentials


def test_each_credential_is_new_once_for_each_provider() -> None:
    known = RefusedCredentials()

    assert known.is_new("a", "alice")
    assert not known.is_new("a", "alice")
    assert known.is_new("a", "bob")
    assert known.is_new("b", "alice")


def test_the_latest_are_remembered() -> None:
    known = RefusedCredentials()
    known.is_new("a", "alice")
    for number in range(REMEMBERED - 1):
        known.is_new("a", str(number))
    assert not known.is_new("a", "alice"), "and that makes it the latest"
    assert not known.is_new("a", "1")
    assert known.is_new("a", "0") is False
    known.is_new("a", "one more")

    assert not known.is_new("a", "alice")
    assert known.is_new("a", "2"), "the oldest was forgotten"
