"""One request and its answer on a client's HTTP/1.1 connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

import msgspec
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from balancer.headers import Headers, written
from balancer.server.access import Admitted

_LENGTH = b"\ncontent-length: "


class _Nobody:
    """uvicorn wakes whoever waits for the rest of a body: here nobody does."""

    def set(self) -> None:
        return


class Exchange(msgspec.Struct, eq=False):
    """One request and its answer. To uvicorn it looks like one of its cycles; to the relay it is a client."""

    admitted: Admitted
    path: str
    query: bytes
    keep_alive: bool
    on_response: Callable[[], None]
    _transport: asyncio.Transport
    _flow: FlowControl
    _lines: list[tuple[bytes, bytes]]
    parts: list[bytes] = []
    finished: bool = False
    response_complete: bool = False
    gone: bool = False
    _head: bytes = b""
    _chunked: bool = False
    _left: int = 0
    _tell: Callable[[], None] | None = None

    message_event: ClassVar[_Nobody] = _Nobody()
    dedup: ClassVar[str] = ""

    @property
    def disconnected(self) -> bool:
        """As uvicorn calls it."""
        return self.gone

    @disconnected.setter
    def disconnected(self, gone: bool) -> None:
        self.gone = gone

    @property
    def busy(self) -> bool:
        return self._flow.write_paused and not self.gone

    def body(self) -> bytes:
        """Hand over the request's body."""
        parts, self.parts = self.parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # What the relay calls

    def start(self, status: int, headers: Headers) -> None:
        head = b"".join((STATUS_LINE[status], _of_server(self._lines), written(headers)))
        at = head.find(_LENGTH)
        if at < 0:
            self._chunked = True
            head += b"transfer-encoding: chunked\r\n"
        else:
            self._left = int(head[at + len(_LENGTH) : head.find(b"\r", at)])
        self._head = head + (b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")

    def put(self, data: bytes, *, last: bool = False) -> bool:
        if self._flow.write_paused or self.gone or self.response_complete:
            return False
        self._send(data, last)
        return True

    async def write(self, data: bytes, *, last: bool = False) -> None:
        if self._flow.write_paused and not self.gone:
            await self._flow.drain()
        if not self.gone and not self.response_complete:
            self._send(data, last)

    def _send(self, data: bytes, last: bool) -> None:
        head = self._head
        if head:
            self._head = b""
        if self._chunked:
            if data and not head and not last:  # an event of a stream: what there is most of
                self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            else:
                end = b"\r\n0\r\n\r\n" if last else b"\r\n"
                self._transport.write(b"".join((head, b"%x\r\n" % len(data), data, end)) if data else head + end[2:])
        else:
            self._left -= len(data)
            last = self._left <= 0
            self._transport.write(head + data)
        if last:
            self._complete()

    async def finish(self) -> None:
        if not self.finished:
            await self.write(b"", last=True)

    def mark_unshareable(self) -> None:
        """Nobody but this client gets what is given here."""

    async def abort(self) -> None:
        """Close without the end of the body: a client that counts sees that it is not whole."""
        self.finished = True
        if not self.gone:
            if self._head:
                self._transport.write(self._head)
            self._transport.close()

    def on_left(self, tell: Callable[[], None] | None) -> None:
        self._tell = tell
        if tell is not None and self.gone:
            asyncio.get_running_loop().call_soon(self.left)

    def _complete(self) -> None:
        self.finished = self.response_complete = True
        if not self.keep_alive:
            self._transport.close()
        self.on_response()

    # What the connection calls

    def left(self) -> None:
        """The client has closed its connection."""
        self.gone = True
        tell, self._tell = self._tell, None
        if tell is not None and not self.finished:
            tell()


_last: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")


def _of_server(lines: list[tuple[bytes, bytes]]) -> bytes:
    """Return the server's own lines (`date`, `server`) as they are sent. It makes a new list of them once a second."""
    global _last
    known, joined = _last
    if known is not lines:
        joined = b"".join([b"%b: %b\r\n" % pair for pair in lines])
        _last = lines, joined
    return joined
