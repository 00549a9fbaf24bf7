"""One request and its answer on a client's HTTP/1.1 connection, without ASGI between them.

How the answer's states follow each other stands in `progress`. What is particular here: the framing is decided
by the head (`content-length`, or else chunks), and the answer is complete with the last byte that was announced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

import msgspec

from balancer.headers import Headers, written
from balancer.model import Candidate, Operation
from balancer.server.access import Admitted
from balancer.server.progress import ABORTED, COMPLETE, FINISHED, LEFT, OPEN, SENDING, STARTED, WAITING, Progress
from balancer.server.uvicorn_internals import STATUS_LINE, FlowControl

CHUNKED = -1
"""Instead of the number of bytes that are left of a body: it goes out in chunks."""

_LENGTH = b"\ncontent-length: "


class _NoEvent:
    """The event that uvicorn sets for an application that waits for more of a body. Here the body is given whole."""

    def set(self) -> None:
        return


class Exchange(msgspec.Struct, eq=False):
    """One request and its answer: a `ClientWriter` to the relay, and one of its cycles to uvicorn."""

    admitted: Admitted
    operation: Operation
    query: bytes
    keep_alive: bool
    """Whether the connection stays open after the answer. uvicorn sets it to False when it is stopped."""
    _on_complete: Callable[[], None]
    _transport: asyncio.Transport
    _flow: FlowControl
    _server_lines: list[tuple[bytes, bytes]]
    """The server's own headers, `date` among them."""
    parts: list[bytes] = []
    """The request's body, as it came."""
    progress: Progress = WAITING
    _head: bytes = b""
    """In STARTED: the head, ready to be sent."""
    _left: int = CHUNKED
    _on_left: Callable[[], None] | None = None

    message_event: ClassVar[_NoEvent] = _NoEvent()
    dedup: ClassVar[str] = ""

    # What uvicorn asks of a cycle

    @property
    def response_complete(self) -> bool:
        return self.progress is COMPLETE

    @property
    def disconnected(self) -> bool:
        return self.progress is LEFT

    @disconnected.setter
    def disconnected(self, gone: bool) -> None:
        if gone:
            self.left()

    # What the relay calls

    @property
    def finished(self) -> bool:
        return self.progress in FINISHED

    @property
    def gone(self) -> bool:
        return self.progress is LEFT

    @property
    def busy(self) -> bool:
        return self._flow.write_paused

    def start(self, status: int, headers: Headers) -> None:
        if self.progress is not WAITING:  # the client has left, or the connection is being closed
            return
        head = b"".join((STATUS_LINE[status], _joined(self._server_lines), written(headers)))
        at = head.find(_LENGTH)  # a search in C: cheaper than to look through the headers one by one
        if at < 0:
            head += b"transfer-encoding: chunked\r\n"
        else:
            self._left = int(head[at + len(_LENGTH) : head.find(b"\r", at)])
        self._head = head + (b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self.progress = STARTED

    def put(self, data: bytes, *, last: bool = False) -> bool:
        if self._flow.write_paused or self.progress not in OPEN:
            return False
        if self.progress is SENDING and self._left == CHUNKED and data and not last:  # an event of a stream: most puts
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._send(data, last)
        return True

    async def write(self, data: bytes, *, last: bool = False) -> None:
        if self._flow.write_paused:  # until the client has read, or has left
            await self._flow.drain()
        if self.progress in OPEN:
            self._send(data, last)

    def _send(self, data: bytes, last: bool) -> None:
        if self._left == CHUNKED:
            end = b"\r\n0\r\n\r\n" if last else b"\r\n"
            head = self._head
            self._transport.write(b"".join((head, b"%x\r\n" % len(data), data, end)) if data else head + end[2:])
        else:
            self._left -= len(data)
            last = self._left <= 0
            self._transport.write(self._head + data)
        self._head = b""
        self.progress = SENDING
        if last:
            self._complete()

    async def finish(self) -> None:
        if self.progress not in FINISHED:
            await self.write(b"", last=True)

    def committed(self, candidate: Candidate) -> None:
        """Nothing here depends on the provider."""

    def mark_unshareable(self) -> None:
        """Only this client gets what is given here."""

    async def abort(self) -> None:
        """Close without the end of the body: a client that counts sees that it is not whole."""
        if self.progress in FINISHED or self.progress is LEFT:
            return
        if self.progress is STARTED:
            self._transport.write(self._head)
        self.progress = ABORTED
        self._transport.close()

    def on_left(self, call: Callable[[], None] | None) -> None:
        self._on_left = call
        if call is not None and self.progress is LEFT:
            asyncio.get_running_loop().call_soon(self.left)

    def _complete(self) -> None:
        self.progress = COMPLETE
        if not self.keep_alive:
            self._transport.close()
        self._on_complete()

    # What the connection calls

    def body(self) -> bytes:
        """Return the request's body and let go of it."""
        parts, self.parts = self.parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def left(self) -> None:
        """The client has closed its connection."""
        if self.progress in FINISHED:
            return
        self.progress = LEFT
        call, self._on_left = self._on_left, None
        if call is not None:
            call()


_last: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")


def _joined(lines: list[tuple[bytes, bytes]]) -> bytes:
    """Return the server's own headers as they are sent. uvicorn makes a new list of them once a second."""
    global _last
    known, joined = _last
    if known is not lines:
        joined = written(tuple(lines))
        _last = lines, joined
    return joined
