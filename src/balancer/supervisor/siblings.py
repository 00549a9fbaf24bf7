"""Connections that wait at the socket of a worker that does not take them: it hangs, starts, is busy, or is gone."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Awaitable, Callable, Sequence

LOOK_S = 0.05
"""How often the others' sockets are looked at. A worker that is well takes its connections long before."""

AT_ONCE = 64


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
                await self._accept(self._sockets[descriptor])
            self._waiting = waiting

    async def _accept(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, _ = listener.accept()
            except OSError:  # somebody else has taken it, or no descriptor is left
                return
            sock.setblocking(False)
            await self._take(sock)

    def close(self) -> None:
        """Let go of the sockets."""
        for sock in self._sockets.values():
            sock.close()
