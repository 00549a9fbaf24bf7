"""Requests of OpenAI's own API: they go to the server as they came.

The body goes out byte for byte, with only the model's name spliced in where it differs. Headers are an open list, as
in the type `anthropic`: all go along, but for what belongs to one connection, for what names the client's own account,
and for credentials, which are the provider's.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec.structs import replace

from balancer.dialect import Ask, Flow, Incapable
from balancer.headers import Headers
from balancer.model import Fault, Operation, Provider, Reply, ResourceRequest, WireRequest
from balancer.wire.client_headers import goes_along
from balancer.wire.complaints import body_complaint, fault_of
from balancer.wire.messages import spliced

PATHS = {Operation.CHAT_COMPLETIONS: "/chat/completions", Operation.RESPONSES: "/responses"}

_NEVER = frozenset({b"api-key"})
"""Azure's header for the key: where a client sends one, it is the balancer's own."""

_ACCOUNT = frozenset({b"openai-organization", b"openai-project", b"chatgpt-account-id"})
"""They name an account, so they go only where the credential of that account goes: the client's own."""

_CLIENTS = (b"accept", b"content-type")
"""The client's own value counts, if it sends one."""

MISSING_FOR_S = 600.0
"""How long a server is not asked again for a path that it does not have."""

_MISSING = frozenset({404, 405, 501})
"""How servers say that they do not have a path."""


class MissingPaths:
    """The paths that a server does not have, and when it said so. Kept by provider."""

    def __init__(self) -> None:
        self.since: dict[str, float] = {}

    def has(self, path: str, wall: float) -> bool:
        """Say whether the server said a short while ago that it does not have `path`."""
        since = self.since.get(path)
        return since is not None and 0 <= wall - since < MISSING_FOR_S


def flow(ask: Ask, wire: WireRequest) -> Flow:
    """Pass the request on. `wire` is how this provider is asked: its address and credential, without a body.

    Raises `Incapable` where the server does not have the path: it is no fault of the model's or of the provider's.
    """
    path, missing = PATHS[ask.operation], ask.provider_state.of(MissingPaths)
    if missing.has(path, ask.wall):
        raise Incapable(_has_not(ask, path))
    reply = yield passed_on(ask, wire)
    if reply.status in _MISSING and "model" not in body_complaint(reply.body).words:
        missing.since[path] = ask.wall
        raise Incapable(f"{_has_not(ask, path)} (it answered {reply.status})")
    missing.since.pop(path, None)


def _has_not(ask: Ask, path: str) -> str:
    other = next(other for other in PATHS.values() if other != path)
    return (
        f"{ask.provider.name}: this server does not have {path}; add a target to the route that has it, "
        f"ask for {other}, or mend the provider's base_url"
    )


def passed_on(ask: Ask, wire: WireRequest) -> WireRequest:
    """Return the client's request, to be sent to the address and with the credential of `wire`."""
    request, ours = ask.request, wire.headers
    lines = forwarded(request.headers, ask.provider)
    configured = {name for name, _ in ask.provider.headers}
    kept = {name for name, _ in lines if name in _CLIENTS} - configured
    over = {name for name, _ in ours} - kept
    headers = tuple(line for line in lines if line[0] not in over)
    headers += tuple(line for line in ours if line[0] not in kept)
    target, query = wire.target, request.query
    if isinstance(request, ResourceRequest):
        query = request.path.partition(b"?")[2]
    if query:
        target += (b"&" if b"?" in target else b"?") + query
    body = (request.body,) if ask.model == request.model else spliced(request.body, ask.model)
    return replace(wire, target=target, headers=headers, body=body)


def forwarded(headers: Headers, provider: Provider) -> list[tuple[bytes, bytes]]:
    """Return the client's headers that may go along to this provider, by the rules for all types."""
    kept = None if provider.passthrough else provider.forwarded
    gone: set[bytes] = set()
    for name, value in headers:
        if name == b"connection":
            gone |= {word.strip() for word in value.lower().split(b",")}
    return [line for line in headers if _goes_along(line[0], provider.dropped, kept) and line[0] not in gone]


@lru_cache(maxsize=256)
def _goes_along(name: bytes, dropped: frozenset[bytes], kept: frozenset[bytes] | None) -> bool:
    if name in _NEVER or name.startswith(b"anthropic-"):
        return False
    if name in _ACCOUNT and kept is not None:
        return False
    return goes_along(name, dropped, kept)


# What comes back

_KEPT = frozenset({b"x-request-id", b"openai-processing-ms", b"openai-version", b"openai-model"})
_KEPT_FOR_ERRORS = frozenset({b"content-type", b"retry-after", b"retry-after-ms", b"x-should-retry"})


def kept_headers(headers: Headers) -> Headers:
    """Return the headers of an answer that clients of OpenAI's API read, without those that name an account."""
    return tuple(line for line in headers if line[0] in _KEPT or line[0].startswith(b"x-ratelimit-"))


def fault(ask: Ask, reply: Reply) -> Fault:
    """Return the fault of an answer that is not 2xx. Where it is the client's own, the answer goes to it as it came."""
    found = fault_of(reply, ask.wall, ask.request.id)
    headers = tuple(line for line in reply.headers if line[0] in _KEPT_FOR_ERRORS) + kept_headers(reply.headers)
    status = reply.status if 400 <= reply.status < 500 else found.status
    return replace(found, status=status, reply=Reply(status, headers, reply.body))
