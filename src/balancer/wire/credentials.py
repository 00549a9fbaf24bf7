"""Which credential goes to a provider: its own, or with `passthrough` the client's, never both."""

from __future__ import annotations

from balancer.headers import Headers
from balancer.model import Provider, Request

_CLIENTS = (b"authorization", b"x-api-key")


def headers_for(provider: Provider, request: Request) -> Headers:
    """Return the header lines that say who asks."""
    if provider.passthrough:
        return tuple(pair for pair in request.headers if pair[0] in _CLIENTS)
    if not provider.secret:
        return ()
    if provider.auth_type == "auth_token":
        return ((b"authorization", b"Bearer " + provider.secret.encode()),)
    return ((b"x-api-key", provider.secret.encode()),)


def bare_key(provider: Provider, request: Request) -> bytes:
    """Return the credential alone, for services that want it in a header of their own; empty: there is none."""
    if not provider.passthrough:
        return provider.secret.encode()
    given = dict(request.headers)
    return given.get(b"x-api-key") or given.get(b"authorization", b"").removeprefix(b"Bearer ")


def bearer_for(provider: Provider, request: Request) -> Headers:
    """Return the credential as `Authorization: Bearer`, for services that know nothing else."""
    if not provider.passthrough:
        return ((b"authorization", b"Bearer " + provider.secret.encode()),) if provider.secret else ()
    for name, value in request.headers:
        if name == b"authorization":
            return ((name, value),)
    return tuple((b"authorization", b"Bearer " + value) for name, value in request.headers if name == b"x-api-key")
