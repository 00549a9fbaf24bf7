"""Connections that nobody takes."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from balancer.supervisor.siblings import Siblings


async def test_a_connection_is_taken_that_still_waits_at_the_second_look() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    taken: asyncio.Queue[socket.socket] = asyncio.Queue()
    siblings = Siblings([listener], taken.put)
    looks = asyncio.ensure_future(siblings.run())
    clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]

    for _ in clients:
        (await asyncio.wait_for(taken.get(), 10)).close()

    looks.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await looks
    siblings.close()
    assert listener.fileno() == -1
    for client in clients:
        client.close()
