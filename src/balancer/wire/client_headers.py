"""Which of a client's headers may go along to a provider: an open list, but for connections and credentials."""

from __future__ import annotations

import re

from balancer.headers import NO_CREDENTIALS

DROPPED = frozenset(
    {
        # hop by hop (RFC 9110, section 7.6.1)
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        # the transport's own
        b"host",
        b"content-length",
        b"accept-encoding",
        b"expect",
        # the client's own business
        b"authorization",
        b"x-api-key",
        b"cookie",
        b"origin",
        b"referer",
        b"forwarded",
        b"via",
        b"x-real-ip",
    }
)
DROPPED_PREFIXES = (b"x-forwarded-", b"x-balancer-", b"sec-")

CREDENTIAL_NAME = re.compile(
    rb"(?:\A|-)(?:auth|authentication|authorization|(?:api|access|subscription)?key|token|jwt|secret|password|credentials?"
    rb"|signature|cookie)(?:\Z|-)"
)
"""A header with such a name carries a credential of another product."""


def goes_along(name: bytes, dropped: frozenset[bytes], kept: frozenset[bytes] | None) -> bool:
    """Say whether a header goes along to a provider.

    `dropped` are those that the configuration keeps back. `kept` are those that go although their names tell of a
    credential; None: all do, as the provider gets the client's own credential anyway.
    """
    return (
        name not in DROPPED
        and not name.startswith(DROPPED_PREFIXES)
        and name not in dropped
        and (kept is None or name in kept or name.startswith(NO_CREDENTIALS) or not CREDENTIAL_NAME.search(name))
    )
