"""What a named key may ask, before any provider is asked."""

from __future__ import annotations

import pytest

from balancer.model import Operation, Route, Target
from balancer.policy.grants import KeyGrant, KeyUse
from balancer.server.keys import check
from balancer.server.rejected import Rejected, error_reply

ROUTE = Route("*", (Target("a", "m"), Target("b", "m")))


def refused(grant: KeyGrant, operation: Operation, model: str | None) -> Rejected:
    with pytest.raises(Rejected) as caught:
        check(grant, operation, 1.0, model, lambda name: ROUTE)
    return caught.value


def test_a_model_that_the_key_may_not_ask_for_is_named_with_the_key() -> None:
    grant = KeyGrant("team", KeyUse(), may_ask=lambda model: model == "good")
    error = refused(grant, Operation.MESSAGES, "bad")

    assert (error.status, error.kind) == (403, "permission_error")
    assert error.message == "the key 'team' may not ask for the model 'bad'"
    assert refused(grant, Operation.BATCHES, None).status == 403
    check(grant, Operation.MESSAGES, 1.0, "good", lambda name: ROUTE)
    check(grant, Operation.FILES, 1.0, None)


def test_a_model_that_none_of_its_providers_has_is_refused() -> None:
    error = refused(KeyGrant("team", KeyUse(), providers=frozenset({"c"})), Operation.MESSAGES, "m")

    assert (error.status, "'team'" in error.message, "'m'" in error.message) == (403, True, True)
    check(KeyGrant("team", KeyUse(), providers=frozenset({"b"})), Operation.MESSAGES, 1.0, "m", lambda name: ROUTE)
    check(KeyGrant("team", KeyUse(), providers=frozenset({"c"})), Operation.MESSAGES, 1.0, "m", lambda name: None)


def test_requests_beyond_the_limit_are_told_when_to_come_back_and_counting_is_free() -> None:
    grant = KeyGrant("team", KeyUse(), rpm=1)
    for _ in range(3):
        check(grant, Operation.COUNT_TOKENS, 1.0, "m")
    check(grant, Operation.MESSAGES, 1.0, "m")
    error = refused(grant, Operation.MESSAGES, "m")
    headers, _ = error_reply(error, "req_1")

    assert (error.status, error.kind) == (429, "rate_limit_error")
    assert dict(headers)[b"retry-after"] == b"60"
    check(grant, Operation.COUNT_TOKENS, 1.0, "m")
