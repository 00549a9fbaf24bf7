"""How much Python a warm request runs through: calls of the balancer's functions, and bytecodes in them.

python -m bench.work

Both are the same in every run of the same code, on any machine and under any load, so a test holds them to
`budget.toml`: a change that makes a request dearer has to say so there. They are no measure of time: what C code does
(parsing, copying, system calls) does not count. Time is what `python -m bench` is for.

The balancer runs in this process, with real sockets to a client and a provider. An event goes out when the one before
it has reached the client, so every event is a read of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from balancer.app import create_app
from balancer.server import run as server
from balancer.server.listening import listening

SOURCE = str(Path(server.__file__).parents[1]) + os.sep
BUDGET = Path(__file__).with_name("budget.toml")

ASIDE = ("config/watch.py", "config/envfile.py", "server/run.py", "app.py", "clock.py")
"""What runs by a timer, now and then, whether there are requests or not."""

CONFIG = """
providers:
  - {{name: a, type: anthropic, base_url: "http://127.0.0.1:{port}", auth_value: sk-ant-of-the-bench-0123456789}}
  - {{name: o, type: openai, base_url: "http://127.0.0.1:{port}/v1", auth_value: sk-of-the-bench-0123456789abc}}
model_routes:
  "claude-x": [{{provider: a}}]
  "gpt-x": [{{provider: o}}]
settings: {{log_file: null, log_level: ERROR}}
"""

EVENTS = 5
"""How many events of content a stream has."""
WARM = 4
"""How many requests go before the one that counts: what is learnt or remembered is there by then."""
AFTER_S = 0.03
"""So long after an answer its request may still be counted, logged and let go of."""


@dataclass
class Work:
    """What a request runs through. `calls` and `bytecodes` are by function."""

    calls: dict[str, int] = field(default_factory=dict)
    bytecodes: dict[str, int] = field(default_factory=dict)

    @property
    def totals(self) -> tuple[int, int]:
        """Calls and bytecodes."""
        return sum(self.calls.values()), sum(self.bytecodes.values())

    def trace(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        """Count: what `sys.settrace` wants."""
        name = frame.f_code.co_filename.removeprefix(SOURCE)
        if event == "call":
            if name == frame.f_code.co_filename or name in ASIDE:
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            where = f"{name} {frame.f_code.co_qualname}"
            self.calls[where] = self.calls.get(where, 0) + 1
        elif event == "opcode":
            where = f"{name} {frame.f_code.co_qualname}"
            self.bytecodes[where] = self.bytecodes.get(where, 0) + 1
        return self.trace


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode()


_USAGE = {"input_tokens": 3, "output_tokens": 1}
_MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "x", "content": [], "usage": _USAGE}
WHOLE = json.dumps({**_MESSAGE, "content": [{"type": "text", "text": "hello"}], "stop_reason": "end_turn"}).encode()
STREAM = [
    _event("message_start", message=_MESSAGE)
    + _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    *[_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "hello "})] * EVENTS,
    _event("content_block_stop", index=0)
    + _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9})
    + _event("message_stop"),
]
CHUNKS = [
    _chunk({"role": "assistant", "content": ""}),
    *[_chunk({"content": "hello "})] * EVENTS,
    _chunk({}, "stop") + b"data: [DONE]\n\n",
]


class Upstream:
    """A provider of both types. It sends each event when it is told that the one before has arrived."""

    def __init__(self) -> None:
        self.arrived = asyncio.Semaphore(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection until it is closed."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower()[:15] == b"content-length:")
                await self._answer(head, await reader.readexactly(size), writer)
        writer.close()

    async def _answer(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        if not json.loads(body).get("stream"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_1\r\n")
            writer.write(b"content-length: %d\r\n\r\n" % len(WHOLE) + WHOLE)
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        events = CHUNKS if head.startswith(b"POST /v1/chat/completions") else STREAM
        for number, event in enumerate(events):
            if number >= 2:  # nothing of the first event reaches the client before content does
                await self.arrived.acquire()
            end = b"0\r\n\r\n" if number == len(events) - 1 else b""
            writer.write(b"%x\r\n%b\r\n%b" % (len(event), event, end))
            if not number:
                await asyncio.sleep(AFTER_S)


class Client:
    """Asks on one connection. `told` is called after each event that arrives."""

    def __init__(self, port: int, told: Callable[[], object]) -> None:
        self._port, self._told = port, told

    async def ask(self, model: str, text: str, *, stream: bool) -> bytes:
        """Send a request and return the whole answer. Each has a connection of its own."""
        sock = socket.create_connection(("127.0.0.1", self._port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader, writer = await asyncio.open_connection(sock=sock)
        messages = [{"role": "user", "content": text}]
        body = json.dumps({"model": model, "max_tokens": 50, "stream": stream, "messages": messages}).encode()
        lines = (
            b"POST /v1/messages?beta=true HTTP/1.1",
            b"host: 127.0.0.1:%d" % self._port,
            b"content-type: application/json",
            b"x-api-key: k",
            b"anthropic-version: 2023-06-01",
            b"user-agent: claude-cli/2.1.332 (external, cli)",
            b"content-length: %d" % len(body),
        )
        writer.write(b"\r\n".join((*lines, b"", body)))
        got = b""
        while not got.endswith(b"0\r\n\r\n") if stream else b'"end_turn"' not in got:
            data = await reader.read(65536)
            if not data:
                raise SystemExit(f"an answer ended early: {got[-300:]!r}")
            got += data
            self._told()
        writer.close()
        return got


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Client, Client]]:
    """Run a balancer. Gives a client whose arrivals let the provider go on, and one whose arrivals don't."""
    upstream = Upstream()
    listener = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "providers.yaml")
        path.write_text(CONFIG.format(port=listener.sockets[0].getsockname()[1]))  # noqa: ASYNC240
        app = create_app(str(path), {"host": "127.0.0.1"})
        with listening("127.0.0.1", 0) as sock:
            started = asyncio.Event()
            running = server.Server(server.configured(app, drain_s=1), started.set)
            serving = asyncio.create_task(running.serve([sock]))
            await started.wait()
            port = sock.getsockname()[1]
            yield Client(port, upstream.arrived.release), Client(port, bool)
            running.should_exit = True
            await serving
    listener.close()


async def _counted(ask: Callable[[str], Awaitable[object]]) -> Work:
    for number in range(WARM):
        await ask(f"warm {number}")
        await asyncio.sleep(AFTER_S)
    found = []
    for number in range(3):  # a timer may fall into one of them
        work = Work()
        sys.settrace(work.trace)
        try:
            await ask(f"counted {number}")
            await asyncio.sleep(AFTER_S)
        finally:
            sys.settrace(None)
        found.append(work)
    return min(found, key=lambda work: work.totals)


async def measured() -> dict[str, Work]:
    """Return what a request of each kind runs through."""
    async with running() as (client, other):

        async def twins(text: str) -> None:
            leading = asyncio.create_task(client.ask("claude-x", text, stream=True))
            await asyncio.sleep(AFTER_S / 2)
            await asyncio.gather(leading, other.ask("claude-x", text, stream=True))

        return {
            "small": await _counted(lambda text: client.ask("claude-x", text, stream=False)),
            "stream": await _counted(lambda text: client.ask("claude-x", text, stream=True)),
            "converted": await _counted(lambda text: client.ask("gpt-x", text, stream=True)),
            "twins": await _counted(twins),
        }


def budget() -> dict[str, dict[str, int]]:
    """Return what each kind of request may run through."""
    return tomllib.loads(BUDGET.read_text())


def main() -> None:
    """Print the counts beside the budget, and with an argument the functions of that kind of request."""
    found, allowed = asyncio.run(measured()), budget()
    print(f"{'':10} {'calls':>7} {'allowed':>8} {'bytecodes':>10} {'allowed':>8}")
    for kind, work in found.items():
        calls, bytecodes = work.totals
        limits = allowed.get(kind, {"calls": 0, "bytecodes": 0})
        print(f"{kind:10} {calls:7} {limits['calls']:8} {bytecodes:10} {limits['bytecodes']:8}")
    for kind in sys.argv[1:]:
        work = found[kind]
        for where in sorted(work.bytecodes, key=lambda where: -work.bytecodes[where]):
            print(f"{work.calls[where]:5} {work.bytecodes[where]:6} {where}")


if __name__ == "__main__":
    main()
