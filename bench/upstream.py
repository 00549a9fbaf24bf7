"""The provider that is asked: its own process, as fast as Python gets, so that it is not what is measured.

`python -m bench.upstream` prints its port, serves until its standard input ends, and also answers `GET /stats` (what is
open, served, abandoned) and `POST /release` (let the held streams end).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from typing import cast

import uvloop

from bench.ground import raise_file_limit
from bench.traffic import CLOSING, DELTA, OPENING, STREAM_HEAD, burst, manner_of, whole

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model":\s*"([^"]+)"')


class Counts:
    """What happened so far, over all connections."""

    def __init__(self) -> None:
        self.open = 0
        self.served = 0
        self.abandoned = 0
        self.paced_events = 0
        self.held: set[Connection] = set()

    def release(self) -> int:
        """End every held stream, and return how many there were."""
        held, self.held = self.held, set()
        for connection in held:
            connection.close_stream()
        return len(held)

    def as_json(self) -> bytes:
        return json.dumps(vars(self) | {"held": len(self.held)}).encode()


class Connection(asyncio.Protocol):
    """One connection of a proxy, or of the bench when it asks without one."""

    def __init__(self, counts: Counts, loop: asyncio.AbstractEventLoop) -> None:
        self._counts = counts
        self._loop = loop
        self._buffer = bytearray()
        self._answering = False
        self._left = 0
        self._every_s = 0.0
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer and not self._answering and self._take_request():
            pass

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._counts.held.discard(self)
        if self._answering:
            self._answering = False
            self._counts.open -= 1
            self._counts.abandoned += 1

    def _take_request(self) -> bool:
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return False
        found = _LENGTH.search(self._buffer, 0, head_end)
        end = head_end + 4 + (int(found[1]) if found else 0)
        if len(self._buffer) < end:
            return False
        if self._buffer.startswith(b"POST /v1/messages"):
            model = _MODEL.search(self._buffer, head_end, end)
            name = model[1].decode() if model else ""
            del self._buffer[:end]
            self._answer(name)
        else:
            released = self._counts.release() if self._buffer.startswith(b"POST /release") else 0
            del self._buffer[:end]
            body = self._counts.as_json() if not released else b'{"released":%d}' % released
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        return True

    def _answer(self, model: str) -> None:
        try:
            manner = manner_of(model)
        except ValueError:
            self._transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        if manner.events is None:
            self._transport.write(whole())
        elif not manner.held and not manner.every_ms:
            self._transport.write(burst(manner.events))
        else:
            self._answering = True
            self._counts.open += 1
            self._begin(manner.events, manner.every_ms, manner.held)
            return
        self._counts.served += 1

    def _begin(self, events: int, every_ms: int, held: bool) -> None:
        if held:
            self._counts.held.add(self)
            self._transport.write(STREAM_HEAD + OPENING + DELTA * events)
            return
        self._transport.write(STREAM_HEAD + OPENING)
        self._left = events
        self._every_s = every_ms / 1000
        self._due_s = self._loop.time() + self._every_s
        self._timer = self._loop.call_at(self._due_s, self._next_event)

    def _next_event(self) -> None:
        self._left -= 1
        self._counts.paced_events += 1
        if self._left <= 0:
            self._transport.write(DELTA)
            self.close_stream()
            return
        self._transport.write(DELTA)
        self._due_s += self._every_s
        self._timer = self._loop.call_at(self._due_s, self._next_event)

    def close_stream(self) -> None:
        """End the stream under way as it should end."""
        self._timer = None
        self._answering = False
        self._counts.open -= 1
        self._counts.served += 1
        self._transport.write(CLOSING)
        if self._buffer:
            self._take_request()


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    counts = Counts()
    server = await loop.create_server(lambda: Connection(counts, loop), "127.0.0.1", 0, backlog=2048)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    raise_file_limit()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve())
