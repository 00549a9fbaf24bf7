"""Who asks Zed: an account pair that is exchanged for a short-lived token, or a token as it is."""

from __future__ import annotations

import base64
import binascii
import re

from balancer.wire.loose import decoded_object

EARLY_S = 60.0
"""So long before its end a token is exchanged for a new one."""
ASSUMED_S = 50 * 60.0
"""How long a token lives that doesn't say."""

_PAIR = re.compile(r"\S+ \S")
_STALE = frozenset({b"x-zed-expired-token", b"x-zed-outdated-token"})


def is_pair(secret: str) -> bool:
    """Say whether a credential is `<user id> <access token>`."""
    return _PAIR.match(secret) is not None


def expiry(token: str, wall: float) -> float:
    """Return when a token ends: its `exp`, unverified, else in `ASSUMED_S`."""
    parts = token.split(".")
    if len(parts) == 3:
        try:
            payload = decoded_object(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        except (binascii.Error, ValueError):
            payload = {}
        exp = payload.get("exp")
        if isinstance(exp, int | float) and not isinstance(exp, bool):
            return float(exp)
    return wall + ASSUMED_S


def sendable(token: str) -> bool:
    """Say whether a token can stand in a header."""
    return bool(token) and token.isascii() and token.isprintable() and " " not in token


def is_stale(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> bool:
    """Say whether an answer asks for a fresh token."""
    return status == 401 or any(name in _STALE for name, _ in headers)
