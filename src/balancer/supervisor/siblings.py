"""Connections that wait at the socket of a worker that does not take them: it hangs, starts, is busy, or is gone."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Awaitable, Callable, Sequence

LOOK_S = 0.05
"""How often the others' sockets are looked at. A worker that is well takes its connections long before."""

AT_ONCE = 64


async def accept(
    listener: socket.socket, take: Callable[[socket.socket], Awaitable[object]], most: int = 100_000
) -> None:
    """Have `take` serve what waits at a socket that does not block."""
    for _ in range(most):
        try:
            sock, _ = listener.accept()
        except OSError:  # nothing is left, or no descriptor
            return
        sock.setblocking(False)
        await take(sock)


class Siblings:
    """Looks at other workers' sockets, and takes what nobody took between two looks."""

    def __init__(self, sockets: Sequence[socket.socket], take: Callable[[socket.socket], Awaitable[object]]) -> None:
        """`take` serves a connection that was accepted. The sockets are closed with `close`."""
        self._sockets = {sock.fileno(): sock for sock in sockets}
        self._take = take
        self._waiting: set[int] = set()
        """Those at which something waited when they were looked at last."""
        self._poll = select.poll()
        for descriptor in self._sockets:
            self._poll.register(descriptor, select.POLLIN)
        for sock in sockets:
            sock.setblocking(False)

    async def run(self) -> None:
        """Look, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            waiting = {descriptor for descriptor, _ in self._poll.poll(0)}
            for descriptor in waiting & self._waiting:
                await accept(self._sockets[descriptor], self._take, AT_ONCE)
            self._waiting = waiting

    def close(self) -> None:
        """Let go of the sockets."""
        for sock in self._sockets.values():
            sock.close()
