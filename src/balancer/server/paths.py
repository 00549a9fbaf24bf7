"""The paths of the Messages API and of OpenAI's that are served here, and addresses that can mean only one of them."""

from __future__ import annotations

from balancer.model import Operation

OPERATIONS = {
    "/v1/messages": Operation.MESSAGES,
    "/v1/messages/count_tokens": Operation.COUNT_TOKENS,
    "/v1/chat/completions": Operation.CHAT_COMPLETIONS,
    "/v1/responses": Operation.RESPONSES,
}
"""The hot paths, and what is asked there."""

PROBES = frozenset({"/", "/health", "/ready", "/metrics"})
"""What is asked by those who watch the balancer."""

PATH_MAX = 2048
"""A longer path is no slip of the pen."""

_SERVED = (*OPERATIONS, "/v1/models")

_BELOW = ("/v1/models/", "/v1/responses/", "/v1/messages/batches", "/v1/files", "/v1/skills")
"""How the paths begin of which there are many."""


def canonical(path: str) -> str:
    """Return the path of either API that `path` means; `path` itself where it means none.

    What people write into a base URL ends up here: a slash at its end, a `/v1` that the client adds again, or
    none at all (`//v1/messages`, `/v1/v1/messages`, `/messages`).
    """
    if path in _SERVED or len(path) > PATH_MAX:
        return path
    parts = [part for part in path.split("/") if part]
    while parts and parts[0] == "v1":
        parts.pop(0)
    plain = "/v1/" + "/".join(parts)
    return plain if plain in _SERVED or plain.startswith(_BELOW) else path
