"""Who asks Zed: an account pair that is exchanged for a short-lived token, or a token as it is."""

from __future__ import annotations

import base64
import binascii
import re

from balancer.wire.loose import decoded_object

EARLY_S = 60.0
"""So long before its end a token is exchanged for a new one."""
ASSUMED_S = 50 * 60.0
"""How long a token lives that doesn't say, or that says that it ended before it came."""
DATE_MAX_S = 1e12
"""A larger number is no date in seconds."""

_PAIR = re.compile(r"\S+ \S")
_STALE = frozenset({b"x-zed-expired-token", b"x-zed-outdated-token"})


def is_pair(secret: str) -> bool:
    """Say whether a credential is `<user id> <access token>`."""
    return _PAIR.match(secret) is not None


def expiry(token: str, wall: float) -> float:
    """Return when a token that arrives at `wall` ends: after `exp - iat`, both unverified, else in `ASSUMED_S`.

    Only the difference counts: the service's clock and this machine's need not agree.
    """
    parts = token.split(".")
    if len(parts) == 3:
        try:
            payload = decoded_object(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        except (binascii.Error, ValueError):
            payload = {}
        issued, ends = _number(payload.get("iat")), _number(payload.get("exp"))
        if ends is not None:
            lives_s = ends - (wall if issued is None else issued)
            return wall + (lives_s if lives_s > 0 else ASSUMED_S)
    return wall + ASSUMED_S


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < DATE_MAX_S:
        return None
    return float(value)


def sendable(token: str) -> bool:
    """Say whether a token can stand in a header."""
    return bool(token) and token.isascii() and token.isprintable() and " " not in token


def is_stale(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> bool:
    """Say whether an answer asks for a fresh token."""
    return status == 401 or any(name in _STALE for name, _ in headers)
