"""Nouns for tests, made with one line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace

from balancer.headers import Headers
from balancer.model import Candidate, Operation, Origin, Provider, Request, WireRequest
from balancer.script import Step
from balancer.transport import Transport, UpstreamResponse
from balancer.transport.connection import UpstreamConnection


def provider(name: str = "a", **more: object) -> Provider:
    """Return a provider on loopback."""
    fields: dict[str, object] = {
        "type": "anthropic",
        "base_url": "http://127.0.0.1:9",
        "origin": Origin(tls=False, host="127.0.0.1", port=9),
        "base_path": "",
        "secret": f"sk-{name}",
    }
    return Provider(name=name, **{**fields, **more})  # type: ignore[arg-type]


def candidate(name: str = "a", model: str = "m", priority: int = 1, weight: float = 1.0, **more: object) -> Candidate:
    """Return a provider with the model that it is asked for."""
    return Candidate(provider(name, **more), model, priority, weight, "*")


def request(body: bytes = b'{"model":"m","messages":[]}', headers: Headers = (), **more: object) -> Request:
    """Return a client's request."""
    fields: dict[str, object] = {
        "id": "req_test",
        "operation": Operation.MESSAGES,
        "query": b"",
        "headers": headers,
        "body": body,
        "model": "m",
        "stream": True,
    }
    return Request(**{**fields, **more})  # type: ignore[arg-type]


def wire_request() -> WireRequest:
    """Return what goes out to a provider."""
    return WireRequest(Origin(tls=False, host="127.0.0.1", port=9), b"POST", b"/", (), (b"{}",))


class Socket(asyncio.Transport):
    """What asyncio gives a connection, without anything behind it."""

    paused = False
    aborted = False
    unwritten = 0
    """How many bytes the kernel has not taken yet."""
    protocol: asyncio.Protocol
    """What listens."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol  # type: ignore[assignment]

    def write(self, data: Any) -> None:
        return

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return self.unwritten

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def abort(self) -> None:
        self.aborted = True


class HandFed:
    """A transport with one connection, to which the test says itself what comes, and what comes in one turn of the loop."""

    def __init__(self) -> None:
        self.socket = Socket()
        self.asked = asyncio.Event()
        self.kept = False
        """The connection could be used again."""
        self._early: tuple[bytes, ...] = ()
        self._connection = UpstreamConnection(asyncio.get_running_loop())
        self.socket.set_protocol(self._connection)
        self._connection.connection_made(self.socket)

    def says(self, *reads: bytes) -> None:
        """Each is read by itself, in this turn; before anybody has asked: as soon as somebody does."""
        if not self.asked.is_set():
            self._early += reads
            return
        for data in reads:
            self.socket.protocol.data_received(data)

    def breaks(self, error: Exception | None = None) -> None:
        """The connection is gone: closed, or as `error` says."""
        self.socket.protocol.connection_lost(error)

    @asynccontextmanager
    async def exchange(self, wire: WireRequest, *, connect_s: float, head_s: float) -> AsyncIterator[UpstreamResponse]:
        response = self._connection.send([b"".join(wire.body)])
        self.asked.set()
        self.says(*self._early)
        try:
            await response.head(head_s)
            yield response
        finally:
            self.kept = self._connection.release()


class PlayedTransport:
    """A transport whose providers follow scripts instead of living behind sockets.

    Every provider is told by its port; its scripts are used up one an exchange, the last one again
    and again. `asked` is the order of exchanges, `closed` who was left before the end of its body.
    """

    def __init__(self, scripts: dict[int, list[list[Step]]]) -> None:
        self._scripts = scripts
        self.asked: list[int] = []
        self.sent: list[WireRequest] = []
        self.closed: list[int] = []

    @asynccontextmanager
    async def exchange(self, wire: WireRequest, *, connect_s: float, head_s: float) -> AsyncIterator[Any]:
        port = wire.origin.port
        self.asked.append(port)
        self.sent.append(wire)
        if wire.script is None:  # else a fault is injected, which is played instead
            scripts = self._scripts[port]
            steps = scripts.pop(0) if len(scripts) > 1 else scripts[0]
            wire = replace(wire, script=lambda: iter(steps))
        async with Transport().exchange(wire, connect_s=connect_s, head_s=head_s) as answer:
            whole = False
            try:
                yield _Watched(answer, whole_at := [False])
                whole = whole_at[0]
            finally:
                if not whole:
                    self.closed.append(port)


class _Watched(UpstreamResponse):
    def __init__(self, answer: UpstreamResponse, whole: list[bool]) -> None:
        self._answer = answer
        self._whole = whole
        self.status, self.headers = answer.status, answer.headers

    async def read(self, within_s: float) -> bytes:
        data = await self._answer.read(within_s)
        self._whole[0] = self._whole[0] or not data
        return data

    async def read_whole(self, limit_bytes: int, within_s: float) -> bytes:
        data = await self._answer.read_whole(limit_bytes, within_s)
        self._whole[0] = True
        return data


class Taker:
    """A client: keeps what it is given, and how it ended."""

    busy = False
    finished = False
    dedup = ""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.end = ""
        self.begun = asyncio.Event()
        self.gone = True
        """Whoever cancels the relay in these tests is the client that leaves."""

    def start(self, status: int, headers: Headers) -> None:
        assert not self.status
        self.status, self.headers = status, dict(headers)

    async def write(self, data: bytes, *, last: bool = False) -> None:
        assert self.status
        assert not self.end
        self.body += data
        self.begun.set()
        if last:
            self.end = "whole"

    async def finish(self) -> None:
        if not self.end:
            await self.write(b"", last=True)

    def put(self, data: bytes, *, last: bool = False) -> bool:
        return False

    def committed(self, candidate: Candidate) -> None:
        return

    def mark_unshareable(self) -> None:
        return

    async def abort(self) -> None:
        self.end = "aborted"

    def on_left(self, tell: Callable[[], None] | None) -> None:
        return
