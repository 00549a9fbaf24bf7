"""Which of a client's headers go along, the same for every way to a provider."""

from __future__ import annotations

import pytest
from stand_ins import provider

from balancer.dialects import anthropic
from balancer.dialects.openai import passthrough
from balancer.wire.client_headers import DROPPED, goes_along

NONE: frozenset[bytes] = frozenset()


@pytest.mark.parametrize("name", [*sorted(DROPPED), b"x-forwarded-for", b"x-balancer-key", b"sec-fetch-site"])
def test_what_belongs_to_the_connection_or_to_the_balancer_goes_nowhere(name: bytes) -> None:
    assert not goes_along(name, NONE, None)
    assert not goes_along(name, NONE, frozenset({name}))


@pytest.mark.parametrize("name", [b"x-auth-token", b"x-goog-api-key", b"cf-access-client-secret", b"x-org-route"])
def test_every_way_to_a_provider_keeps_back_the_same(name: bytes) -> None:
    """Messages as well as the paths that are passed on byte for byte."""
    lines = ((name, b"secret"), (b"x-app", b"cli"))
    names = tuple(name for name, _ in lines)
    own = provider(dropped=frozenset({b"x-org-route"}))
    listed = provider(forwarded=frozenset({name}))

    for at, forwarded in ((own, False), (listed, True), (provider(passthrough=True), True)):
        assert ((name, b"secret") in anthropic.forwarded(lines, names, at)) is forwarded
        assert ((name, b"secret") in passthrough.forwarded(lines, at)) is forwarded
