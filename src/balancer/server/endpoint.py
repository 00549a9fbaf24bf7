"""The hot ASGI paths: `/v1/messages` and `/v1/messages/count_tokens`.

Between ASGI and the relay: collects the body, decodes the head, hands the answer on, and notices
that the client left. That has to be watched for: the server's `send` does not raise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from balancer.coalescing import key as dedup
from balancer.coalescing.shared import InFlight, SharedResponse
from balancer.coalescing.writers import TeeWriter, follow, recorded
from balancer.model import Operation, Request
from balancer.policy import affinity
from balancer.relay.relay import Relay
from balancer.relay.writer import ClientWriter
from balancer.server.access import Admitted
from balancer.server.asgi import (
    AsgiClient,
    ClientLeft,
    Receive,
    Scope,
    Send,
    _body,
)
from balancer.server.rejected import Rejected, new_id, reject
from balancer.wire import messages as wire

OPERATIONS = {"/v1/messages": Operation.MESSAGES, "/v1/messages/count_tokens": Operation.COUNT_TOKENS}

COUNT_REPLAY_S = 5.0
"""Claude Code asks to count about 25 bodies in a burst, some of them the same: each is counted once."""


class Messages:
    """Serves the hot paths, on the loop on which it was made."""

    def __init__(self, relay: Relay, registry: InFlight, seed: int) -> None:
        self._relay = relay
        self._registry = registry
        self._seed = seed
        self._loop = asyncio.get_running_loop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, admitted: Admitted) -> None:
        """Answer through ASGI."""
        client = AsgiClient(receive, send, scope["http_version"])
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a request is answered in a task of its own")
        try:
            self._check(scope["method"], admitted)
            body = await _body(receive, admitted, self._relay.fleet.rules.max_body_bytes)
        except ClientLeft:
            return
        except Rejected as error:
            await reject(client, error, new_id())
            return
        answering = self.answer(admitted, scope["path"], scope["query_string"], body, client, task)
        del body  # an open stream must not hold what nobody needs any more
        await answering

    def answer(
        self, admitted: Admitted, path: str, query: bytes, body: bytes, client: ClientWriter, task: asyncio.Task[Any]
    ) -> Coroutine[Any, Any, None]:
        """Return what answers a request that is whole, to be awaited in `task`."""
        request_id = new_id()
        try:
            self._check("POST", admitted)
            request = self._request(admitted, OPERATIONS[path], query, body, request_id)
        except Rejected as error:
            return reject(client, error, request_id)
        fleet, registry = self._relay.fleet, self._registry
        rules = fleet.rules
        if not rules.deduplicates:
            return self._watched(self._relay.answer(request, client, task), client, task)
        key = dedup.key(request, self._seed, fleet.generation)
        registry.max_bytes = rules.shared_max_bytes
        if (shared := registry.find(key)) is not None:
            return self._follow(request, client, shared, task)
        replay_s = rules.replay_s
        if request.operation.counts:
            replay_s = max(replay_s, COUNT_REPLAY_S)
        return self._lead(request, client, TeeWriter(client, registry, registry.lead(key), replay_s), task)

    def _check(self, method: str, admitted: Admitted) -> None:
        """Refuse what needs no look into the body. Raises `Rejected`."""
        if self._relay.fleet.draining:
            raise Rejected(503, "api_error", "this balancer is shutting down; try again")
        _check_kind(method, admitted.first)

    def _request(self, admitted: Admitted, operation: Operation, query: bytes, body: bytes, request_id: str) -> Request:
        try:
            head = wire.head(body)
        except wire.BadRequest as error:
            raise Rejected(400, "invalid_request_error", str(error)) from None
        first = admitted.first
        by = self._relay.fleet.rules.sticky_by
        return Request(
            request_id,
            operation,
            query,
            admitted.headers,
            body,
            head.model,
            bool(head.stream) and operation.answers,
            head.token_limit,
            affinity.of_request(first, head, admitted.client, by),
            _seconds(first.get(b"x-stainless-timeout")),
            admitted.client,
            first.get(b"user-agent", b"").startswith(b"claude-cli/"),
            tuple(first) if len(first) == len(admitted.headers) else (),
        )

    async def _lead(self, request: Request, client: ClientWriter, leading: TeeWriter, task: asyncio.Task[Any]) -> None:
        """Answer a request whose answer others may join: it goes on while anybody takes it."""
        shared = leading.shared
        shared.cancel = task.cancel
        client.on_left(leading.leave)
        try:
            try:
                await self._relay.answer(request, leading, task)
            finally:
                if leading.pumped:
                    await leading.drained()
                leading.close()
        except asyncio.CancelledError:
            if not shared.leader_left:
                raise
            task.uncancel()
        finally:
            client.on_left(None)

    async def _follow(
        self, request: Request, client: ClientWriter, shared: SharedResponse, task: asyncio.Task[Any]
    ) -> None:
        """Take the answer that a twin is getting."""
        reader = shared.join()
        own = ((b"x-balancer-request-id", request.id.encode()),)
        with recorded(request, shared, reader, self._relay.fleet.bus, self._relay.clock):
            request.drop_body()
            await self._watched(follow(shared, reader, self._registry, client, own), client, task)

    async def _watched(self, work: Coroutine[Any, Any, None], client: ClientWriter, task: asyncio.Task[Any]) -> None:
        """Run `work`; when the client leaves before its answer is whole, cancel it."""
        cancelled = False

        def leave() -> None:
            nonlocal cancelled
            cancelled = True
            task.cancel()

        client.on_left(leave)
        try:
            await work
        except asyncio.CancelledError:
            if not cancelled:
                raise
            task.uncancel()
        finally:
            client.on_left(None)


def _check_kind(method: str, first: Mapping[bytes, bytes]) -> None:
    if method != "POST":
        raise Rejected(405, "invalid_request_error", f"{method} is not allowed here; use POST")
    encoding = first.get(b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
        raise Rejected(
            415,
            "invalid_request_error",
            f"content-encoding '{_plain(encoding)}' is not supported; send the body as it is",
        )
    kind = first.get(b"content-type")
    if kind is not None and not is_json(kind):
        raise Rejected(
            415, "invalid_request_error", f"content-type '{_plain(kind)}' is not JSON; send application/json"
        )


def is_json(kind: bytes) -> bool:
    """Say whether a content-type is JSON's."""
    if kind == b"application/json":
        return True
    media = kind.partition(b";")[0].strip().lower()
    return media == b"application/json" or media.endswith(b"+json")


def _plain(value: bytes) -> str:
    return value[:80].decode("ascii", "replace")


def _seconds(value: bytes | None) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None
