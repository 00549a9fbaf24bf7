"""A client behind any ASGI server: the body of its request, its answer, and its leaving."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, ClassVar, TypeAlias

from balancer.headers import Headers, header
from balancer.model import Candidate
from balancer.redact import Inventory
from balancer.server.access import Admitted
from balancer.server.limits import BodyTimer, ClientLimits
from balancer.server.progress import ABORTED, COMPLETE, FINISHED, LEFT, OPEN, SENDING, STARTED, WAITING, Progress
from balancer.server.rejected import Rejected
from balancer.server.uvicorn_internals import connection_of
from balancer.wire.errors import NOSNIFF

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class ClientLeft(Exception):
    """The client left before its request was whole."""


class AsgiClient:
    """A `ClientWriter` behind an ASGI server. How its states follow each other stands in `progress`."""

    dedup: ClassVar[str] = ""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        http_version: str,
        limits: ClientLimits,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.progress: Progress = WAITING
        self._receive = receive
        self._send = send
        self._http_version = http_version
        self._limits = limits
        self._loop = loop
        self._flow, self._transport = connection_of(send)
        self._left: int | None = None
        """How much of the body is to come; None: the head does not say."""
        self._head: Message = {}
        self._watch: asyncio.TimerHandle | asyncio.Task[None] | None = None
        """What waits for the client's leaving: at first a timer, then a task."""

    @property
    def finished(self) -> bool:
        return self.progress in FINISHED

    @property
    def gone(self) -> bool:
        return self.progress is LEFT

    @property
    def busy(self) -> bool:
        return self._flow is not None and self._flow.write_paused

    def start(self, status: int, headers: Headers) -> None:
        if self.progress is not WAITING:
            return
        length = header(headers, b"content-length")
        self._left = None if length is None else int(length)
        self._head = {"type": "http.response.start", "status": status, "headers": headers}
        self.progress = STARTED

    def put(self, data: bytes, *, last: bool = False) -> bool:
        """Take nothing: in ASGI everything is awaited."""
        return False

    async def write(self, data: bytes, *, last: bool = False) -> None:
        if self.progress not in OPEN:
            return
        if self._left is not None:
            self._left -= len(data)
            last = self._left <= 0
        started = self.progress is STARTED
        self.progress = COMPLETE if last else SENDING
        if started:
            await self._send(self._head)
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def finish(self) -> None:
        await self.write(b"", last=True)

    def committed(self, candidate: Candidate) -> None:
        """Nothing here depends on the provider."""

    def mark_unshareable(self) -> None:
        """Only this client gets what is given here."""

    async def abort(self) -> None:
        """Close without the end of the body: a client that counts sees that it is not whole.

        HTTP/1.0 has no chunks, so there a plain close would look like the end: it gets a reset.
        """
        if self.progress in FINISHED or self.progress is LEFT:
            return
        started, self.progress = self.progress is STARTED, ABORTED
        if started:
            await self._send(self._head)
        if self._transport is None:
            return  # returning without an end makes the server close the connection
        if self._http_version == "1.0" and self._left is None:
            self._transport.abort()
        else:
            self._transport.close()

    def on_left(self, call: Callable[[], None] | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if call is not None:
            self._watch = self._loop.call_later(self._limits.watch_after_s, self._begin_watch, call)

    def _begin_watch(self, call: Callable[[], None]) -> None:
        self._watch = self._loop.create_task(self._wait_for_leaving(call))

    async def _wait_for_leaving(self, call: Callable[[], None]) -> None:
        await self._receive()  # the request is whole: all that can still come is the client's leaving
        if self.progress not in FINISHED:
            self.progress = LEFT
            call()


async def read_body(
    receive: Receive, admitted: Admitted, max_bytes: int, limits: ClientLimits, loop: asyncio.AbstractEventLoop
) -> bytes:
    """Return the request's body. Raises `Rejected` when it is too large, stops or drips, and `ClientLeft`."""
    length = admitted.first.get(b"content-length")
    if length is not None and length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    task = asyncio.current_task(loop)
    if task is None:
        raise RuntimeError("a body is read in a task")
    late = False

    def on_late() -> None:
        nonlocal late
        late = True
        task.cancel()

    timer = BodyTimer(loop, limits, on_late)
    timer.add(0)
    try:
        return await _collected(receive, max_bytes, timer)
    except asyncio.CancelledError:
        if not late:
            raise
        task.uncancel()
        raise Rejected(408, "invalid_request_error", "the request body stopped before its end") from None
    finally:
        timer.close()


async def _collected(receive: Receive, max_bytes: int, timer: BodyTimer) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientLeft
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        timer.add(len(part))
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(max_bytes: int) -> Rejected:
    return Rejected(413, "request_too_large", f"the request body is larger than {max_bytes} bytes")


LARGE_BYTES = 16 * 1024
"""Looking for some 1,000 secrets in a larger answer takes long enough for streams to notice."""


def without_secrets(send: Send, secrets: Inventory) -> Send:
    """Return what sends an answer of the control endpoints without a secret that stands in it.

    A stream of events is looked at event by event, as it is sent: each is whole.
    """
    parts: list[Message] = []
    streams = False

    async def gathered(message: Message) -> None:
        nonlocal streams
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], NOSNIFF]
            streams = any(value.startswith(b"text/event-stream") for _, value in message["headers"])
        if streams:
            if body := message.get("body", b""):
                message["body"] = secrets.without(body, short=False)
            await send(message)
            return
        parts.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            body = b"".join(part.get("body", b"") for part in parts)
            if len(body) < LARGE_BYTES:
                clean = secrets.without(body, short=False)
            else:
                clean = await asyncio.to_thread(secrets.without, body, short=False)
            if clean is not body:
                lines = [line for line in parts[0]["headers"] if line[0] != b"content-length"]
                parts[0]["headers"] = [*lines, (b"content-length", b"%d" % len(clean))]
                parts[1:] = [{"type": "http.response.body", "body": clean}]
            for part in parts:
                await send(part)

    return gathered
