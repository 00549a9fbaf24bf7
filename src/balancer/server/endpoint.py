"""The hot paths: from the bytes of a request to the relay, alone or joined with identical requests.

Decodes the head of the body, refuses what needs no provider, and ends the work for a client that has left. That has
to be watched for: no ASGI server raises from `send` when the client is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from functools import lru_cache
from typing import Any

from balancer import claude_code
from balancer.coalescing import key as dedup
from balancer.coalescing.shared import InFlight, Leader, SharedResponse
from balancer.coalescing.writers import TeeWriter, follow, recorded
from balancer.headers import REQUEST_ID
from balancer.model import OpenAIRequest, Operation, Request
from balancer.policy import affinity
from balancer.policy.grants import KeyGrant
from balancer.redact import scrub
from balancer.relay.record import RequestRecord
from balancer.relay.relay import Relay
from balancer.relay.writer import ClientWriter
from balancer.server import keys
from balancer.server.access import JSON, Admitted, has_body, is_json
from balancer.server.asgi import AsgiClient, ClientLeft, Receive, Scope, Send, read_body
from balancer.server.connections import LARGE_BYTES, Connections
from balancer.server.limits import ClientLimits
from balancer.server.paths import OPERATIONS
from balancer.server.rejected import Rejected, new_id, reject
from balancer.server.unpacking import as_plain, coding_of, unpacked
from balancer.wire import messages as wire
from balancer.wire import openai_requests, safeguards

USER_AGENT_MAX = 120

PROJECT_HEADER = b"x-project"
"""In which a client may name the project that it works for: usage is counted by it."""

PROJECT_MAX = 80
"""How much of a client's `user-agent` is logged. Claude Code's has 30 to 60 characters."""


class Messages:
    """Serves the hot paths, on one event loop."""

    def __init__(
        self,
        relay: Relay,
        in_flight: InFlight,
        seed: int,
        limits: ClientLimits,
        loop: asyncio.AbstractEventLoop,
        connections: Connections,
    ) -> None:
        self._relay = relay
        self._in_flight = in_flight
        self._seed = seed
        self._limits = limits
        self._loop = loop
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send, admitted: Admitted) -> None:
        """Answer a request that comes through ASGI."""
        client = AsgiClient(receive, send, scope["http_version"], self._limits, self._loop)
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a request is answered in a task of its own")
        operation = OPERATIONS[scope["path"]]
        try:
            self._check(scope["method"], admitted.first)
            body = await read_body(receive, admitted, self._relay.fleet.rules.max_body_bytes, self._limits, self._loop)
        except ClientLeft:
            return
        except Rejected as error:
            await reject(client, error, new_id(), operation)
            return
        answering = self.answer(admitted, operation, scope["query_string"], body, client, task)
        del body  # an open stream must not hold what nobody needs any more
        await answering

    def answer(
        self,
        admitted: Admitted,
        operation: Operation,
        query: bytes,
        body: bytes,
        client: ClientWriter,
        task: asyncio.Task[Any],
    ) -> Coroutine[Any, Any, None]:
        """Return what answers a POST that is whole, to be awaited in `task`."""
        request_id = new_id()
        try:
            coding = self._check("POST", admitted.first)
            if coding is not None:
                return self._unpacked(coding, admitted, operation, query, body, client, task)
            if operation.openai:
                asked = _openai_request(admitted, operation, query, body, request_id)
                if admitted.grant is not None:
                    self._check_grant(admitted.grant, asked)
                return self._watched(self._relay.answer(asked, client, task), client, task)
            request = self._request(admitted, operation, query, body, request_id)
            if admitted.grant is not None:
                self._check_grant(admitted.grant, request)
        except Rejected as error:
            return reject(client, error, request_id, operation)
        fleet, in_flight = self._relay.fleet, self._in_flight
        rules = fleet.rules
        if not rules.deduplicates:
            return self._watched(self._relay.answer(request, client, task), client, task)
        key = dedup.key(request, self._seed, fleet.generation)
        if key is None:
            return self._watched(self._relay.answer(request, client, task), client, task)
        if (shared := in_flight.find(key)) is not None:
            return self._follow(request, client, shared, task)
        replay_s = rules.replay_s
        if operation.counts:
            replay_s = max(replay_s, in_flight.limits.count_replay_s)
        return self._lead(request, client, TeeWriter(client, in_flight, in_flight.lead(key), replay_s), task)

    async def _unpacked(
        self,
        coding: bytes,
        admitted: Admitted,
        operation: Operation,
        query: bytes,
        body: bytes,
        client: ClientWriter,
        task: asyncio.Task[Any],
    ) -> None:
        """Answer a request whose body is compressed by `coding`."""
        try:
            body = await unpacked(coding, body, self._relay.fleet.rules.max_body_bytes)
        except Rejected as error:
            await reject(client, error, new_id())
            return
        answering = self.answer(as_plain(admitted), operation, query, body, client, task)
        del body  # an open stream must not hold what nobody needs any more
        await answering

    def _check(self, method: str, first: Mapping[bytes, bytes]) -> bytes | None:
        """Refuse what needs no look into the body. `first`: the first value of each header. Raises `Rejected`.

        Returns by what the body is compressed; None: by nothing.
        """
        if self._relay.fleet.draining:
            raise Rejected(503, "api_error", "this balancer is shutting down; try again")
        if method != "POST":
            raise Rejected(405, "invalid_request_error", f"{method} is not allowed here; use POST")
        kind = first.get(b"content-type")
        if kind != JSON and not is_json(kind or b"") and (kind is not None or has_body(first)):
            was = f"content-type '{_quoted(kind)}' is not JSON" if kind else "the header content-type is missing"
            raise _unsupported(f"{was}; send content-type: application/json")
        encoding = first.get(b"content-encoding")
        return coding_of(encoding) if encoding is not None else None

    def _check_grant(self, grant: KeyGrant, request: Request) -> None:
        """Refuse what a named key may not ask, or not now: that is a request with an end. Raises `Rejected`."""
        clock, fleet = self._relay.clock, self._relay.fleet
        try:
            keys.check(grant, request.operation, clock.now(), request.model, fleet.route)
        except Rejected as error:
            record = RequestRecord(request, clock.now(), len(request.body), status=error.status)
            record.close("client_error", error.message)
            fleet.bus.emit(record.began(clock.wall()))
            request.drop_body()
            fleet.bus.emit(record.ended(clock.wall(), clock.now()))
            raise

    def _request(self, admitted: Admitted, operation: Operation, query: bytes, body: bytes, request_id: str) -> Request:
        """Return the request, with the head of its body decoded. Raises `Rejected`."""
        try:
            head = wire.head(body)
        except wire.BadRequest as error:
            raise Rejected(400, "invalid_request_error", str(error)) from None
        if len(body) > LARGE_BYTES:
            self._connections.hold(len(body))
            on_drop = self._connections.let_go
        else:
            on_drop = None
        first = admitted.first
        by = self._relay.fleet.rules.sticky_by
        agent = first.get(b"user-agent", b"")
        betas = first.get(b"anthropic-beta", b"")
        conversation, session = affinity.of_request(first, head, admitted.client, by)
        project = first.get(PROJECT_HEADER)
        return Request(
            request_id,
            operation,
            query,
            admitted.headers,
            body,
            head.model,
            bool(head.stream) and operation.answers,
            head.token_limit,
            conversation,
            _seconds(first.get(claude_code.TIMEOUT_HEADER)),
            admitted.client,
            claude_code.is_client(agent),
            tuple(first) if len(first) == len(admitted.headers) else (),
            _shown(agent[:USER_AGENT_MAX]),
            on_drop,
            betas.find(affinity.LONG_CACHE_MARK) >= 0,
            betas.find(safeguards.BETA_MARK) >= 0,
            admitted.grant,
            session,
            _shown(project[:PROJECT_MAX]) if project is not None else "",
        )

    async def _lead(self, request: Request, client: ClientWriter, leading: TeeWriter, task: asyncio.Task[Any]) -> None:
        """Answer a request whose answer others may join: it goes on as long as somebody reads it."""
        shared = leading.shared
        shared.cancel = task.cancel
        client.on_left(leading.leave)
        try:
            try:
                await self._relay.answer(request, leading, task)
            finally:
                try:
                    if leading.pumped:
                        await leading.drained()
                finally:  # the balancer may be stopped meanwhile
                    leading.close()
        except asyncio.CancelledError:
            if shared.leader is not Leader.LEFT:
                raise
            task.uncancel()
        finally:
            client.on_left(None)

    async def _follow(
        self, request: Request, client: ClientWriter, shared: SharedResponse, task: asyncio.Task[Any]
    ) -> None:
        """Give the client the answer to an identical request."""
        reader = shared.join()
        own = ((REQUEST_ID, request.id.encode()),)
        with recorded(request, shared, reader, self._relay.fleet.bus, self._relay.clock):
            request.drop_body()
            await self._watched(follow(shared, reader, self._in_flight, client, own), client, task)

    async def _watched(self, work: Coroutine[Any, Any, None], client: ClientWriter, task: asyncio.Task[Any]) -> None:
        """Run `work`; when the client leaves before its answer is whole, cancel it."""
        cancelled = False

        def cancel() -> None:
            nonlocal cancelled
            cancelled = True
            task.cancel()

        client.on_left(cancel)
        try:
            await work
        except asyncio.CancelledError:
            if not cancelled:
                raise
            task.uncancel()
        finally:
            client.on_left(None)


def _openai_request(
    admitted: Admitted, operation: Operation, query: bytes, body: bytes, request_id: str
) -> OpenAIRequest:
    """Return the request of a client of OpenAI's API. It is never joined with another. Raises `Rejected`."""
    first = admitted.first
    try:
        head = openai_requests.head(body, operation)
    except wire.BadRequest as error:
        raise Rejected(400, "invalid_request_error", str(error)) from None
    conversation = affinity.of_openai(first, head, admitted.client)
    return OpenAIRequest(
        request_id,
        operation,
        query,
        admitted.headers,
        body,
        head.model,
        stream=bool(head.stream),
        max_tokens=head.token_limit,
        conversation=conversation,
        client_timeout_s=_seconds(first.get(claude_code.TIMEOUT_HEADER)),
        client=admitted.client,
        user_agent=shown_agent(first.get(b"user-agent", b"")),
        previous=head.previous,
        grant=admitted.grant,
        session=(conversation or "")[: affinity.SESSION_CHARS],
        project=_shown(first.get(PROJECT_HEADER, b"")[:PROJECT_MAX]),
    )


def _unsupported(message: str) -> Rejected:
    return Rejected(415, "invalid_request_error", message)


def _quoted(value: bytes) -> str:
    return scrub(value[:80].decode("ascii", "replace"))


@lru_cache(maxsize=256)
def _shown(agent: bytes) -> str:
    """Return a `user-agent` as it may be logged."""
    return scrub(agent.decode("latin-1"))


def shown_agent(agent: bytes) -> str:
    """Return how a client names itself, cut and without secrets."""
    return _shown(agent[:USER_AGENT_MAX])


def _seconds(value: bytes | None) -> float | None:
    """Return the number in a header, or None where there is none."""
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None
