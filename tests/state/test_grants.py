"""Named keys over reloads: what a name has used stays with it."""

from __future__ import annotations

from balancer.config.keys import NamedKey
from balancer.state.grants import Grants

RIGHTS = frozenset({"messages"})


def test_what_was_used_stays_with_the_name_though_key_and_limits_are_new() -> None:
    grants = Grants()
    (before,) = grants.apply([NamedKey("team", b"1", RIGHTS, rpm=1)]).values()
    before.use.requests.add(1, 5.0)
    before.began()

    after = grants.apply([NamedKey("team", b"2", RIGHTS, rpm=2), NamedKey("other", b"3", RIGHTS, rpm=1)])

    assert set(after) == {b"2", b"3"}
    assert after[b"2"].use is before.use
    assert after[b"3"].use is not before.use
    assert after[b"2"].exceeded(5.0) is None
    after[b"2"].use.requests.add(1, 5.0)
    assert after[b"2"].exceeded(5.0) is not None


def test_models_are_matched_as_routes_match_them() -> None:
    (grant,) = Grants().apply([NamedKey("team", b"1", RIGHTS, models=("*sonnet*", "claude-opus-4-1"))]).values()

    assert grant.may_ask is not None
    asked = ("claude-sonnet-4-5", "claude-sonnet-4-5[1m]", "claude-opus-4-1[1m]", "claude-opus-4-1", "claude-haiku-4-5")
    assert [grant.may_ask(model) for model in asked] == [True, True, True, True, False]
    assert Grants().apply([NamedKey("team", b"1", RIGHTS)])[b"1"].may_ask is None
