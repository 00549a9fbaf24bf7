"""The hot ASGI paths: `/v1/messages` and `/v1/messages/count_tokens`.

Between ASGI and the relay: collects the body, decodes the head, hands the answer on, and notices
that the client left. That has to be watched for: the server's `send` does not raise.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import Any, Self, TypeAlias

from balancer.coalescing import key as dedup
from balancer.coalescing.shared import LeaderSink, Registry, Shared, follow
from balancer.edge import Admitted
from balancer.headers import Headers, header
from balancer.model import Operation, Request
from balancer.policy import affinity
from balancer.relay.relay import Relay
from balancer.relay.writer import Client, Sink
from balancer.wire import messages as wire
from balancer.wire.errors import CONTENT_TYPE_JSON, error_body

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPERATIONS = {"/v1/messages": Operation.MESSAGES, "/v1/messages/count_tokens": Operation.COUNT_TOKENS}

COUNT_REPLAY_S = 5.0
"""Claude Code asks to count about 25 bodies in a burst, some of them the same: each is counted once."""

WATCH_AFTER_S = 0.03
"""Watching for a client that leaves takes a task of its own: answers that come sooner do without."""

BODY_IDLE_S = 30.0
"""A client that stops in the middle of its body for this long is sent away."""

BODY_MIN_BYTES_PER_S = 256
"""So is one that keeps a connection busy with a drip, after the same time."""


class Rejected(Exception):
    """A request that no provider is to see."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


class ClientLeft(Exception):
    """The client left before its request was whole."""


class AsgiClient:
    """A client behind an ASGI server."""

    def __init__(self, receive: Receive, send: Send, http_version: str) -> None:
        self._receive = receive
        self._send = send
        self._chunked = http_version != "1.0"
        self._left: int | None = None
        self._head: MutableMapping[str, Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[Any] | None = None
        self.finished = False
        self.gone = False

    @property
    def busy(self) -> bool:
        flow = getattr(getattr(self._send, "__self__", None), "flow", None)
        return flow is not None and flow.write_paused and not self.gone

    def start(self, status: int, headers: Headers) -> None:
        length = header(headers, b"content-length")
        self._left = None if length is None else int(length)
        self._head = {"type": "http.response.start", "status": status, "headers": headers}

    def put(self, data: bytes, *, last: bool = False) -> bool:
        """ASGI knows only the other way."""
        return False

    async def write(self, data: bytes, *, last: bool = False) -> None:
        if self._left is not None:
            self._left -= len(data)
            last = self._left <= 0
        if last:
            self.finished = True
        if self._head is not None:
            head, self._head = self._head, None
            await self._send(head)
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def finish(self) -> None:
        if not self.finished:
            await self.write(b"", last=True)

    def spoil(self) -> None:
        """Nobody but this client gets what is given here."""

    async def abort(self) -> None:
        """Close without the end of the body: a client that counts sees that it is not whole.

        HTTP/1.0 has no chunks, so there a plain close would look like the end: it gets a reset.
        """
        self.finished = True
        if self._head is not None:
            await self._send(self._head)
        transport = getattr(getattr(self._send, "__self__", None), "transport", None)
        if transport is None:
            return  # returning without an end makes the server close the connection
        if self._chunked or self._left is not None:
            transport.close()
        else:
            transport.abort()

    def on_left(self, tell: Callable[[], None] | None) -> None:
        """Watch for the client's leaving, which takes a task of its own: answers that come soon do without."""
        if tell is not None:
            self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._watch, tell)
            return
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _watch(self, tell: Callable[[], None]) -> None:
        async def watch() -> None:
            await self._receive()
            if not self.finished:
                self.gone = True
                tell()

        self._watcher = asyncio.ensure_future(watch())


class Messages:
    """Serves the hot paths, on the loop on which it was made."""

    def __init__(self, relay: Relay, registry: Registry, seed: int) -> None:
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
        self, admitted: Admitted, path: str, query: bytes, body: bytes, client: Client, task: asyncio.Task[Any]
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
        return self._lead(request, client, LeaderSink(client, registry, registry.lead(key), replay_s), task)

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

    async def _lead(self, request: Request, client: Client, leading: LeaderSink, task: asyncio.Task[Any]) -> None:
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

    async def _follow(self, request: Request, client: Client, shared: Shared, task: asyncio.Task[Any]) -> None:
        """Take the answer that a twin is getting."""
        taker = shared.join()
        own = ((b"x-balancer-request-id", request.id.encode()),)
        with self._relay.following(request, shared, taker):
            request.drop_body()
            await self._watched(follow(shared, taker, self._registry, client, own), client, task)

    async def _watched(self, work: Coroutine[Any, Any, None], client: Client, task: asyncio.Task[Any]) -> None:
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


_ids = random.Random()


def new_id() -> str:
    """Return an id for a request."""
    return "req_" + _ids.getrandbits(96).to_bytes(12, "big").hex()


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


def _too_large(limit: int) -> Rejected:
    return Rejected(413, "request_too_large", f"the request body is larger than {limit} bytes")


async def _body(receive: Receive, admitted: Admitted, limit: int) -> bytes:
    """Collect the request's body. Raises `Rejected` when it is too large or stops, `ClientLeft`."""
    length = admitted.first.get(b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    with _Patience(BODY_IDLE_S) as patience:
        while True:
            try:
                message = await receive()
            except asyncio.CancelledError:
                if not patience.over:
                    raise
                if patience.task is not None:
                    patience.task.uncancel()
                raise Rejected(408, "invalid_request_error", "the request body stopped before its end") from None
            if message["type"] != "http.request":
                raise ClientLeft
            part = message.get("body", b"")
            size += len(part)
            patience.renew(size)
            if size > limit:
                raise _too_large(limit)
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)


class _Patience:
    """Cancels the task when nothing, or next to nothing, came for a while.

    One lazy timer, where `asyncio.timeout` costs ten times that.
    """

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self.task = asyncio.current_task()
        self.over = False

    def __enter__(self) -> Self:
        self._began = self._last = self._loop.time()
        self._size = 0
        self._timer = self._loop.call_later(self._idle_s, self._tick)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def renew(self, size: int) -> None:
        """`size` bytes have come so far."""
        self._last = self._loop.time()
        self._size = size

    def _tick(self) -> None:
        now = self._loop.time()
        left_s = self._last + self._idle_s - now
        if left_s > 0.001 and self._size >= (now - self._began) * BODY_MIN_BYTES_PER_S:
            self._timer = self._loop.call_later(left_s, self._tick)
            return
        self.over = True
        if self.task is not None:
            self.task.cancel()


async def reject(sink: Sink, error: Rejected, request_id: str) -> None:
    """Answer with an error in the Messages API's shape."""
    body = error_body(error.kind, error.message, request_id)
    headers: list[tuple[bytes, bytes]] = [
        CONTENT_TYPE_JSON,
        (b"content-length", b"%d" % len(body)),
        (b"x-balancer-request-id", request_id.encode()),
        (b"request-id", request_id.encode()),
    ]
    if error.status == 405:
        headers.append((b"allow", b"POST"))
    if error.status == 503:
        headers.append((b"retry-after", b"1"))
    if error.status in (408, 413, 503):
        headers.append((b"connection", b"close"))
    sink.start(error.status, tuple(headers))
    await sink.write(body, last=True)
