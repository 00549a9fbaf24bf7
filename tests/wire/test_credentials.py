"""Which credential goes to a provider."""

from __future__ import annotations

import pytest
from stand_ins import provider, request

from balancer.headers import Headers
from balancer.wire.credentials import bearer_for, headers_for

CLIENT: Headers = ((b"x-api-key", b"client"), (b"authorization", b"Bearer client"), (b"x-app", b"cli"))


@pytest.mark.parametrize(
    ("auth_type", "expected"),
    [("api_key", ((b"x-api-key", b"sk-a"),)), ("auth_token", ((b"authorization", b"Bearer sk-a"),))],
)
def test_its_own(auth_type: str, expected: Headers) -> None:
    assert headers_for(provider(auth_type=auth_type), request(headers=CLIENT)) == expected


def test_with_passthrough_the_clients_and_nothing_else() -> None:
    assert headers_for(provider(passthrough=True, secret=""), request(headers=CLIENT)) == CLIENT[:2]
    assert headers_for(provider(passthrough=True, secret=""), request()) == ()


def test_as_a_bearer() -> None:
    assert bearer_for(provider(), request(headers=CLIENT)) == ((b"authorization", b"Bearer sk-a"),)
    assert bearer_for(provider(passthrough=True), request(headers=CLIENT)) == ((b"authorization", b"Bearer client"),)
    assert bearer_for(provider(passthrough=True), request(headers=CLIENT[:1])) == (
        (b"authorization", b"Bearer client"),
    )
    assert bearer_for(provider(secret=""), request()) == ()
