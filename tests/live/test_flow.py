"""Streams as they flow: cut anywhere, read at any pace, left at any time, and every byte that came is there."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest
from live.harness import Peer, Running, Seen, Upstream, balancer, block, configuration, delta, event, start, stop

pytestmark = pytest.mark.live

PING = event({"type": "ping"})
CLIENTS = 40


def answer(number: int) -> bytes:
    """Return the answer to request `number`: numbered events of all sizes, and among them what is no content."""
    chance = random.Random(number)
    events = [start(), block()]
    for i in range(chance.choice((20, 200, 600))):
        events.append(delta(f"{number}.{i} " + "x" * chance.choice((0, 0, 10, 300, chance.randint(0, 100_000)))))
        if chance.random() < 0.05:
            usage = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": i}}
            events.append(chance.choice((event(usage), b":\n\n", event({"type": "news", "of": i}))))
    return b"".join((*events, stop()))


async def cut_anywhere(seen: Seen, peer: Peer) -> None:
    """Send the answer in chunks, and these in pieces, of any size."""
    number = int(seen.json["metadata"]["user_id"])
    chance, data = random.Random(-number), answer(number)
    await peer.sse()
    wire, at = bytearray(), 0
    while at < len(data):
        size = chance.choice((chance.randint(1, 50), chance.randint(1, 2000), chance.randint(1, 200_000)))
        part = data[at : at + size]
        wire += b"%x\r\n%b\r\n" % (len(part), part)
        at += size
    wire += b"0\r\n\r\n"
    while wire:
        size = chance.choice((chance.randint(1, 10), chance.randint(1, 2000), chance.randint(1, 200_000)))
        await peer.raw(bytes(wire[:size]))
        del wire[:size]
        await asyncio.sleep(chance.choice((0, 0, 0, 0.002)))


async def take(running: Running, number: int, chance: random.Random) -> bytes | None:
    """Return the body that a client gets, without our own pings; None: it left before the end."""
    sock = socket.socket()
    sock.setblocking(False)
    if chance.random() < 0.5:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", running.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
    body = b'{"model":"m","stream":true,"messages":[],"metadata":{"user_id":"%d"}}' % number
    head = (
        b"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    writer.write(head % len(body) + body)
    await reader.readuntil(b"\r\n\r\n")
    slow, leaves_at = chance.random() < 0.4, chance.randint(1, 200) if chance.random() < 0.2 else 0
    got: list[bytes] = []
    try:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            got.append((await reader.readexactly(size + 2))[:-2])
            if len(got) == leaves_at:
                return None
            if slow and chance.random() < 0.1:
                await asyncio.sleep(chance.random() * 0.02)
        assert await reader.readexactly(2) == b"\r\n"
        return b"".join(got).replace(PING, b"")
    finally:
        writer.transport.abort()


async def test_every_client_gets_every_byte_in_order_or_has_left() -> None:
    async with Upstream(cut_anywhere) as upstream, balancer(configuration(upstream)) as running:
        numbers = [client // 2 if client % 8 < 2 else client + 1000 for client in range(CLIENTS)]  # some have a twin
        async with asyncio.timeout(60):
            bodies = await asyncio.gather(
                *(take(running, number, random.Random(f"client {i}")) for i, number in enumerate(numbers))
            )

        for number, body in zip(numbers, bodies, strict=True):
            assert body is None or body == answer(number), number
        outcomes = [line["outcome"] for line in await running.ended(CLIENTS)]
        left = bodies.count(None)
        assert 0 < left < CLIENTS / 2
        assert set(outcomes) == {"ok", "abandoned"}
        assert outcomes.count("ok") >= CLIENTS - left
