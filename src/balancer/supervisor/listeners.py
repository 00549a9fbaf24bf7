"""The sockets that workers listen on: one for each where the system spreads connections over them, else one for all.

Where all workers accept from one socket, whoever is awake first takes all that wait: of 40 streams one of four workers
got 37. With a socket each (SO_REUSEPORT) the system spreads them. The price is that what waits at one worker's socket
waits for that worker; so each looks at the others' sockets too (`siblings`).
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Self

from balancer.config.addresses import is_loopback
from balancer.server.listening import listening
from balancer.supervisor.siblings import accept

SPREADS = sys.platform == "linux"
"""Whether the system spreads connections over the sockets that share an address."""

_LISTENS = "0A"
"""TCP_LISTEN, as the system writes it."""


class Listeners:
    """What is listened on. As a context, or until `close`."""

    def __init__(
        self, sockets: Sequence[socket.socket], *, each: bool, shared: bool = False, handed: bool = False
    ) -> None:
        """`each`: every worker has one of its own. `shared`: others may listen there. `handed`: whoever has opened them
        keeps them, with what waits there."""
        self._sockets = sockets
        self._each = each
        self._shared = shared
        self._handed = handed
        self.descriptors = tuple(sock.fileno() for sock in sockets)

    @classmethod
    def opened(cls, host: str, port: int, workers: int, *, reuse_port: bool) -> Listeners:
        """Listen for so many workers. Raises `OSError`, also where another program listens there.

        `reuse_port`: another balancer may listen there too.
        """
        if workers == 1 or not SPREADS:
            return cls([listening(host, port, shared=reuse_port)], each=False, shared=reuse_port)
        if not reuse_port:
            with listening(host, port) as first:  # this fails if anybody else listens there; the shared ones would not
                port = first.getsockname()[1]
        sockets = [listening(host, port, shared=True)]
        try:
            port = sockets[0].getsockname()[1]
            sockets += [listening(host, port, shared=True) for _ in range(workers - 1)]
        except OSError:
            for sock in sockets:
                sock.close()
            raise
        return cls(sockets, each=True, shared=reuse_port)

    @cached_property
    def port(self) -> int:
        """The port that is listened on."""
        number: int = self._sockets[0].getsockname()[1]
        return number

    @property
    def host(self) -> str:
        """The address that is listened on; of several one that others than this machine reach."""
        hosts: list[str] = [sock.getsockname()[0] for sock in self._sockets]
        return next((host for host in hosts if not is_loopback(host)), hosts[0])

    def own(self, number: int) -> int | None:
        """Return the descriptor of a worker's own socket; None: all workers share all of them."""
        return self.descriptors[(number - 1) % len(self.descriptors)] if self._each else None

    def let_go(self) -> bool:
        """The balancer is being stopped. Say whether somebody else listens or keeps what comes; then close them."""
        elsewhere = self.is_elsewhere()
        if elsewhere:
            self.close()
        return elsewhere

    def is_elsewhere(self) -> bool:
        """Say whether somebody else listens on the address too, or keeps what comes."""
        if self._sockets[0].fileno() < 0:
            return True
        return self._handed or (self._shared and _listening_at(self.port) > len(self.descriptors))

    async def hand_over(self, take: Callable[[socket.socket], Awaitable[object]]) -> None:
        """Have `take` serve what waits at the sockets, and close them."""
        for sock in self._sockets:
            if sock.fileno() >= 0:
                sock.setblocking(False)
                await accept(sock, take)
                sock.close()

    def copies(self) -> list[socket.socket]:
        """Return the sockets for a server in this process, which closes them when it is done."""
        return [sock.dup() for sock in self._sockets]

    def close(self) -> None:
        """Listen no more, in this process."""
        for sock in self._sockets:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _listening_at(port: int) -> int:
    """Return how many sockets of this machine listen at a port; 0 where the system does not say."""
    count = 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                _, address, _, state = line.split()[:4]
                count += state == _LISTENS and int(address.rpartition(":")[2], 16) == port
    return count
