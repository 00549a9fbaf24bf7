"""What the attacks have in common: raw requests to a running balancer, and how it fares meanwhile.

Everything goes over real sockets. A test says which line of the checklist in docs/security.md it proves by standing there.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from pathlib import Path

from live.harness import Behaviour, Peer, Running, Seen

KEY = "V9q3XrT7bLw2Zk8NfYp4HsJd6"
OTHER_KEY = "Hm5Rt8Wq2Lz7Xc4Vb9Nk3Js6P"
ADMIN_KEY = "Pw6Yd3Gf8Kz5Tn2Qx7Rb4Lm9C"

QUESTION = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"q"}]}'


def question(content: str = "q", *, stream: bool = False, model: str = "m") -> bytes:
    messages = [{"role": "user", "content": content}]
    return json.dumps({"model": model, "max_tokens": 5, "stream": stream, "messages": messages}).encode()


def request(
    body: bytes = QUESTION,
    *lines: str,
    path: str = "/v1/messages",
    method: str = "POST",
    host: str | None = "localhost",
) -> bytes:
    """Return a request on a connection of its own. A body is declared as JSON unless `lines` say what it is."""
    head = [f"{method} {path} HTTP/1.1", *([f"host: {host}"] if host is not None else []), *lines]
    told = {line.partition(":")[0].lower() for line in lines}
    if body and "content-type" not in told:
        head.append("content-type: application/json")
    if (body or method == "POST") and not told & {"content-length", "transfer-encoding"}:
        head.append(f"content-length: {len(body)}")
    if "connection" not in told:
        head.append("connection: close")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


async def exchange(port: int, data: bytes, quiet_s: float = 10.0, source: str | None = None) -> bytes:
    """Send bytes; return what came back before the connection was closed or silent for `quiet_s`."""
    address = None if source is None else (source, 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=address)
    got = b""
    try:
        writer.write(data)
        while part := await asyncio.wait_for(reader.read(1 << 16), quiet_s):
            got += part
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return got


async def beginning(port: int, data: bytes) -> bytes:
    """Send bytes; return the head of the answer, whether or not its body ever ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


def status(answer: bytes) -> int:
    """Return the status of an answer; 0: there was none."""
    words = answer.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def head_of(answer: bytes) -> dict[str, str]:
    lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").lower().split("\r\n")[1:]
    return dict(line.partition(": ")[::2] for line in lines)


async def ask(running: Running, body: bytes = QUESTION, *lines: str, path: str = "/v1/messages") -> bytes:
    return await exchange(running.port, request(body, *lines, path=path), 30.0)


async def get(running: Running, path: str, *lines: str) -> bytes:
    return await exchange(running.port, request(b"", *lines, path=path, method="GET"))


def memory_mb(running: Running, line: str = "VmRSS") -> float:
    """Return the memory of a balancer: `VmRSS` now, `VmHWM` the most so far."""
    told = Path(f"/proc/{running.process.pid}/status").read_text()
    return next(int(row.split()[1]) / 1024 for row in told.splitlines() if row.startswith(line))


def forget_peak(running: Running) -> None:
    """Make the most memory so far what it is now."""
    Path(f"/proc/{running.process.pid}/clear_refs").write_text("5")


async def worst_health_s(running: Running, attack: Awaitable[object]) -> float:
    """Wait for an attack, and return how long `/health` took at worst beside it."""
    worst, task = 0.0, asyncio.ensure_future(attack)
    while True:
        began = time.monotonic()
        assert status(await get(running, "/health")) == 200
        worst = max(worst, time.monotonic() - began)
        if task.done():
            break
        await asyncio.sleep(0.02)
    await task
    return worst


def says(data: bytes, *, close: bool = True) -> Behaviour:
    """Return what answers everything with these bytes."""

    async def behave(seen: Seen, peer: Peer) -> None:
        await peer.raw(data)
        if close:
            peer.close()

    return behave


def pours(first: bytes, again: bytes, times: int) -> Behaviour:
    """Return what answers with `first`, and then with `again` so often or until nobody listens."""

    async def behave(seen: Seen, peer: Peer) -> None:
        await peer.raw(first)
        for _ in range(times):
            await peer.raw(again)
        peer.close()

    return behave


def everything_written(running: Running) -> bytes:
    """Return every byte that a balancer has written: files beside its configuration, and the console."""
    files = [path for path in running.folder.rglob("*") if path.is_file() and path.name != "providers.yaml"]
    return b"\n".join([*(path.read_bytes() for path in files), bytes(running.output)])
