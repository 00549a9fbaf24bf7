"""The paths of what a provider keeps: stored responses, and with `settings.proxy_endpoints` batches, files and skills.

These requests come through ASGI alone: none of them is hot.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from contextlib import suppress

import msgspec

from balancer.model import Operation, ResourceRequest
from balancer.relay.resources import ResourceRelay
from balancer.server import keys
from balancer.server.access import Admitted
from balancer.server.asgi import AsgiClient, ClientLeft, Receive, Scope, Send, read_body
from balancer.server.endpoint import shown_agent
from balancer.server.limits import ClientLimits
from balancer.server.rejected import Rejected, new_id, reject
from balancer.state.fleet import Fleet

_PREFIXES = {
    "/v1/messages/batches": Operation.BATCHES,
    "/v1/files": Operation.FILES,
    "/v1/skills": Operation.SKILLS,
}
_STORED = "/v1/responses/"
_STORED_PATH = re.compile(r"/v1/responses/([A-Za-z0-9_-]{1,256})(/cancel|/input_items)?\Z")
_STORED_METHODS = {None: ("GET", "DELETE"), "/cancel": ("POST",), "/input_items": ("GET",)}
"""What may be asked of a stored response, by what stands behind its id."""

_PATH = re.compile(
    r"(/v1/messages/batches|/v1/files|/v1/skills)((?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_.~-]{1,256}){0,5})\Z"
)
"""Nothing that a provider could take for another path: these requests carry its key."""

_CONTENT = frozenset({"content", "results"})
"""How paths end whose answer is what was stored."""

DISCARD_S = 10.0
"""How long the rest of a body that is too large is taken, and thrown away. A client that still sends when its
connection is closed sees only that, and not why."""

_METHODS = frozenset({"GET", "POST", "DELETE"})


class Asked(msgspec.Struct, frozen=True):
    """What a path asks for."""

    operation: Operation
    path: str
    resource_id: str | None
    content: bool


def asked(path: str) -> Asked | None:
    """Return what `path` asks for; None: it is none of these paths."""
    if (stored := _STORED_PATH.match(path.rstrip("/"))) is not None:
        return Asked(Operation.STORED_RESPONSES, stored[0], stored[1], content=False)
    found = _PATH.match(path.rstrip("/"))
    if found is None:
        return None
    names = found[2].split("/")[1:]
    return Asked(_PREFIXES[found[1]], found[0], names[0] if names else None, names[-1:] != [] and names[-1] in _CONTENT)


def is_resource(path: str) -> bool:
    """Say whether `path` begins as one of these paths does."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in _PREFIXES)


def is_stored(path: str) -> bool:
    """Say whether `path` is about a stored response of OpenAI's API."""
    return path.startswith(_STORED)


class ResourceEndpoints:
    """Serves batches, files, skills and stored responses, on one event loop."""

    def __init__(
        self, relay: ResourceRelay, fleet: Fleet, limits: ClientLimits, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._relay = relay
        self._fleet = fleet
        self._limits = limits
        self._loop = loop

    async def __call__(self, scope: Scope, receive: Receive, send: Send, admitted: Admitted) -> None:
        """Answer a request that comes through ASGI."""
        client = AsgiClient(receive, send, scope["http_version"], self._limits, self._loop)
        try:
            what = self._check(scope)
            if admitted.grant is not None:
                keys.check(admitted.grant, what.operation, self._relay.now(), None)
            max_bytes = self._fleet.rules.max_body_bytes
            body = await read_body(receive, admitted, max_bytes, self._limits, self._loop)
        except ClientLeft:
            return
        except Rejected as error:
            if error.status == 413:
                await _discard(receive)
            operation = Operation.STORED_RESPONSES if is_stored(scope["path"]) else None
            await reject(client, error, new_id(), operation)
            return
        query = scope["query_string"]
        request = ResourceRequest(
            new_id(),
            what.operation,
            b"",
            admitted.headers,
            body,
            "",
            stream=False,
            client=admitted.client,
            user_agent=shown_agent(admitted.first.get(b"user-agent", b"")),
            method=scope["method"].encode(),
            path=what.path.encode() + (b"?" + query if query else b""),
            resource_id=what.resource_id,
            content=what.content,
            grant=admitted.grant,
        )
        del body
        await self._answer(request, client)

    def _check(self, scope: Scope) -> Asked:
        """Return what is asked for. Raises `Rejected`."""
        if self._fleet.draining:
            raise Rejected(503, "api_error", "this balancer is shutting down; try again")
        what = asked(scope["path"])
        if what is None:
            raise Rejected(404, "not_found_error", f"there is no {scope['path'][:200]} here")
        methods: Collection[str] = _METHODS
        if what.operation is Operation.STORED_RESPONSES:
            methods = _STORED_METHODS[_STORED_PATH.sub(r"\2", what.path) or None]
            if scope["method"] == "POST" and "POST" not in methods:  # `/v1/responses/compact` is no id
                raise Rejected(
                    501, "not_supported", f"POST {what.path[:200]} is not supported; ask the provider itself"
                )
        if scope["method"] not in methods:
            raise Rejected(405, "invalid_request_error", f"{scope['method']} is not allowed here", allow=methods)
        return what

    async def _answer(self, request: ResourceRequest, client: AsgiClient) -> None:
        """Answer, and end the work when the client leaves."""
        answering = self._loop.create_task(self._relay.answer(request, client))

        def cancel() -> None:
            answering.cancel()

        client.on_left(cancel)
        try:
            await answering
        except asyncio.CancelledError:
            if not client.gone:
                raise
        finally:
            client.on_left(None)


async def _discard(receive: Receive) -> None:
    """Take the rest of a body, for a bounded time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_S):
            while (await receive()).get("more_body", False):
                pass
