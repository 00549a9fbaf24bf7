"""Real sockets on both sides: a fake provider that can do everything badly, and the real balancer."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import socket
import ssl
import struct
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httptools

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable


def event(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def start(tokens: int = 7) -> bytes:
    message: dict[str, Any] = {
        "id": "msg_up", "type": "message", "role": "assistant", "model": "up", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": tokens, "output_tokens": 1},
    }  # fmt: skip
    return event({"type": "message_start", "message": message})


def block(index: int = 0, **more: Any) -> bytes:
    content = more or {"type": "text", "text": ""}
    return event({"type": "content_block_start", "index": index, "content_block": content})


def delta(text: str, index: int = 0) -> bytes:
    return event({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}})


def arguments(text: str, index: int = 0) -> bytes:
    part = {"type": "input_json_delta", "partial_json": text}
    return event({"type": "content_block_delta", "index": index, "delta": part})


def stop(reason: str = "end_turn", index: int = 0) -> bytes:
    return (
        event({"type": "content_block_stop", "index": index})
        + event(
            {
                "type": "message_delta",
                "delta": {"stop_reason": reason, "stop_sequence": None},
                "usage": {"output_tokens": 5},
            }
        )
        + event({"type": "message_stop"})
    )


def error(kind: str = "overloaded_error", message: str = "Overloaded") -> bytes:
    return event({"type": "error", "error": {"type": kind, "message": message}})


def message(text: str) -> bytes:
    return json.dumps(
        {
            "id": "msg_up", "type": "message", "role": "assistant", "model": "up", "stop_reason": "end_turn",
            "stop_sequence": None, "content": [{"type": "text", "text": text}],
            "usage": {"input_tokens": 7, "output_tokens": 5},
        }
    ).encode()  # fmt: skip


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]

    @property
    def stream(self) -> bool:
        return bool(self.body) and bool(self.json.get("stream"))

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


class Peer:
    """The upstream's side of one connection; a behaviour does with it what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.left = asyncio.Event()
        """Set when the balancer closed the connection."""

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int = 200, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def whole(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        lines = {"content_type": content_type, "content_length": str(len(body)), **headers}
        await self.head(status, **lines)
        await self.raw(body)

    async def sse(self) -> None:
        await self.head(
            200, content_type="text/event-stream; charset=utf-8", transfer_encoding="chunked", request_id="req_up"
        )

    async def chunk(self, data: bytes) -> None:
        if data:
            await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Seen, Peer], Awaitable[None]]


async def good(seen: Seen, peer: Peer, text: str = "Hello from the upstream.") -> None:
    """Answer as a provider should."""
    if seen.target.startswith("/v1/messages/count_tokens"):
        await peer.whole(200, b'{"input_tokens": 42}')
    elif seen.target.startswith("/v1/models"):
        await peer.whole(
            200, b'{"data":[{"type":"model","id":"claude-listed","display_name":"Listed"}],"has_more":false}'
        )
    elif not seen.stream:
        await peer.whole(200, message(text), request_id="req_up")
    else:
        await peer.sse()
        await peer.chunk(start() + block())
        for word in text.split(" "):
            await peer.chunk(delta(word + " "))
        await peer.chunk(stop())
        await peer.end()


async def parse(reader: asyncio.StreamReader) -> Seen | None:
    """Read one request; None at the end of the connection."""

    class ResponseWriter:
        done = False
        target = b""
        body = b""

        def __init__(self) -> None:
            self.headers: list[tuple[str, str]] = []

        def on_url(self, url: bytes) -> None:
            self.target += url

        def on_header(self, name: bytes, value: bytes) -> None:
            self.headers.append((name.decode(), value.decode("latin-1")))

        def on_body(self, body: bytes) -> None:
            self.body += body

        def on_message_complete(self) -> None:
            self.done = True

    sink = ResponseWriter()
    parser = httptools.HttpRequestParser(sink)
    while not sink.done:
        data = await reader.read(65536)
        if not data:
            return None
        parser.feed_data(data)
    return Seen(parser.get_method().decode(), sink.target.decode(), sink.headers, sink.body)


class Upstream:
    """A provider on a raw socket that behaves as it is told, and remembers what it was asked."""

    def __init__(self, behaviour: Behaviour = good, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour = behaviour
        self.tls = tls
        self.seen: list[Seen] = []
        self.connections = 0
        self.left = 0
        """How many connections the balancer closed while an answer was still under way."""
        self.port = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def asked(self) -> list[Seen]:
        """The inferences only."""
        return [seen for seen in self.seen if seen.method == "POST" and "count_tokens" not in seen.target]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=2048, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        peer = Peer(reader, writer)
        try:
            while (seen := await parse(reader)) is not None:
                self.seen.append(seen)
                await self._behave(seen, peer)
                if writer.is_closing():
                    return
        except (ConnectionError, asyncio.IncompleteReadError, httptools.HttpParserError):
            return
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _behave(self, seen: Seen, peer: Peer) -> None:
        behaving = asyncio.ensure_future(self.behaviour(seen, peer))
        watching = asyncio.ensure_future(peer.reader.read(1))
        try:
            await asyncio.wait({behaving, watching}, return_when=asyncio.FIRST_COMPLETED)
            cut_off = not behaving.done()
            behaving.cancel()
            (result,) = await asyncio.gather(behaving, return_exceptions=True)
            if cut_off or isinstance(result, ConnectionError):
                self.left += 1
                peer.left.set()
        finally:
            behaving.cancel()
            watching.cancel()
            await asyncio.gather(behaving, watching, return_exceptions=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Running:
    """A balancer that runs in a process of its own."""

    url: str
    folder: Path
    process: asyncio.subprocess.Process
    output: bytearray = field(default_factory=bytearray)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def log(self) -> list[dict[str, Any]]:
        """The JSON log so far."""
        path = self.folder / "logs" / "logs.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def ended(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until `count` requests have ended, and return what the log says of them."""
        await eventually(lambda: len(self._ends()) >= count)
        return self._ends()

    def _ends(self) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["event"] == "request_ended"]


def configuration(*upstreams: Upstream | int, settings: str = "", routes: str = "", provider: str = "") -> str:
    """Return a providers.yaml with one Anthropic-type provider an upstream: a, b, c by priority."""
    names = "abcdefgh"[: len(upstreams)]
    lines = ["providers:"]
    for name, upstream in zip(names, upstreams, strict=True):
        port = upstream if isinstance(upstream, int) else upstream.port
        where = f'base_url: "http://127.0.0.1:{port}", auth_value: sk-canary-{name}'
        lines.append(f"  - {{name: {name}, type: anthropic, {where}{provider}}}")
    targets = ", ".join(f"{{provider: {n}, model: passthrough, priority: {i}}}" for i, n in enumerate(names, 1))
    lines += ["model_routes:", f'  "*": [{targets}]', *([routes] if routes else []), f"settings: {{{settings}}}"]
    return "\n".join(lines) + "\n"


@asynccontextmanager
async def balancer(
    config: str | None,
    *flags: str,
    env: dict[str, str] | None = None,
    by_uvicorn: bool = False,
    before: str = "",
    tls: ssl.SSLContext | None = None,
    files: Mapping[str, bytes] | None = None,
) -> AsyncIterator[Running]:
    """Run the balancer as users do, None: without a file; SIGTERM must end it with 0.

    `by_uvicorn`: with uvicorn's own command. `before`: Python code that its process runs first. `tls`: how its clients
    speak TLS with it. `files` lie beside its configuration, and nobody else can read them.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in (files or {}).items():
            (folder / file).touch(0o600)
            (folder / file).write_bytes(content)
        if config is not None:
            (folder / "providers.yaml").write_text(config)
        port = free_port()
        clean = {
            key: value for key, value in os.environ.items() if not key.startswith(("ANTHROPIC", "BALANCER", "LOG_"))
        }
        program = (
            ["-m", "uvicorn", "src.main:app", "--app-dir", str(ROOT)] if by_uvicorn else [str(ROOT / "src" / "main.py")]
        )
        if before:
            run = f"{before}; import runpy, sys; sys.path[0] = {str(ROOT / 'src')!r}; sys.argv[0] = 'main.py'"
            program = ["-c", f"{run}; runpy.run_path({program[0]!r}, run_name='__main__')"]
        process = await asyncio.create_subprocess_exec(
            PYTHON, *program, "--port", str(port), *flags,
            cwd=folder, env={**clean, **(env or {})}, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        running = Running(f"{'https' if tls else 'http'}://127.0.0.1:{port}", folder, process)
        reading = asyncio.ensure_future(_collect(process, running.output))
        try:
            await _listening(running, tls)
            yield running
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                code = await process.wait()
            # uvicorn on its own ends by raising the signal again, so that its parent sees what ended it
            assert code in ((0, -signal.SIGTERM) if by_uvicorn else (0,)), running.output.decode()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await reading


async def _collect(process: asyncio.subprocess.Process, into: bytearray) -> None:
    assert process.stdout is not None
    while data := await process.stdout.read(4096):
        into += data


async def _listening(running: Running, tls: ssl.SSLContext | None) -> None:
    """Wait for an answer: a port is taken before the configuration is in force, so connecting says nothing."""
    async with asyncio.timeout(20):
        while True:
            assert running.process.returncode is None, running.output.decode()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=tls)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            assert b" 200 " in answer.partition(b"\r\n")[0], answer
            return


async def posted(running: Running, body: bytes) -> tuple[int, bytes, bool]:
    """Ask as any client, on a connection of its own; return status, body, and whether the body ended as it should."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=2**20)
    head = f"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    got, whole = b"", False
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next((line.partition(": ")[2] for line in lines if line.startswith("content-length")), None)
        if length is not None:
            got = await reader.readexactly(int(length))
        else:
            while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
                got += (await reader.readexactly(size + 2))[:-2]
        whole = True
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
    return int(lines[0].split()[1]), got, whole


async def eventually(true: Callable[[], bool], within_s: float = 15.0) -> None:
    """Return as soon as `true()` is. What happens in another process can only be looked for."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def compressed(data: bytes) -> bytes:
    return gzip.compress(data)
