"""A client behind any ASGI server: its request's body, its answer, and its leaving."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Self, TypeAlias

from balancer.headers import Headers, header
from balancer.server.access import Admitted
from balancer.server.rejected import Rejected

Scope: TypeAlias = MutableMapping[str, Any]


Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]


Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


WATCH_AFTER_S = 0.03
"""Watching for a client that leaves takes a task of its own: answers that come sooner do without."""


BODY_IDLE_S = 30.0
"""A client that stops in the middle of its body for this long is sent away."""


BODY_MIN_BYTES_PER_S = 256
"""So is one that keeps a connection busy with a drip, after the same time."""


class ClientLeft(Exception):
    """The client left before its request was whole."""


class AsgiClient:
    """A client behind an ASGI server."""

    dedup = ""

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

    def mark_unshareable(self) -> None:
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
