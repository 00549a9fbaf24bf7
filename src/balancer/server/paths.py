"""Addresses of the Messages API that can mean only one thing, in the form that is served."""

from __future__ import annotations

PATH_MAX = 2048
"""A longer path is nobody's slip."""

_SERVED = ("/v1/messages", "/v1/messages/count_tokens", "/v1/models")


def canonical(path: str) -> str:
    """Return the path of the Messages API that `path` means; `path` itself where it means none.

    What people write into a base URL ends up here: a slash at its end, a `/v1` that the client adds again, or
    none at all (`//v1/messages`, `/v1/v1/messages`, `/messages`).
    """
    if path in _SERVED or len(path) > PATH_MAX:
        return path
    parts = [part for part in path.split("/") if part]
    while parts and parts[0] == "v1":
        parts.pop(0)
    plain = "/v1/" + "/".join(parts)
    return plain if plain in _SERVED or plain.startswith("/v1/models/") else path
