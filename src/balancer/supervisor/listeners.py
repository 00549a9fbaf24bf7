"""The sockets that workers listen on: one for each where the system spreads connections over them, else one for all.

Where all workers accept from one socket, whoever is awake first takes all that wait: of 40 streams one of four workers
got 37. With a socket each (SO_REUSEPORT) the system spreads them. The price is that what waits at one worker's socket
waits for that worker; so each looks at the others' sockets too (`siblings`).
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from typing import Self

from balancer.config.addresses import is_loopback
from balancer.server.run import listening
from balancer.supervisor.supervisor import Sockets

SPREADS = sys.platform == "linux"
"""Whether the system spreads connections over the sockets that share an address."""


class Listeners:
    """What is listened on. As a context, or until `close`."""

    def __init__(self, sockets: Sequence[socket.socket], *, each: bool) -> None:
        self._sockets = sockets
        self.of_workers = Sockets(tuple(sock.fileno() for sock in sockets), each)

    @classmethod
    def opened(cls, host: str, port: int, workers: int, *, reuse_port: bool) -> Listeners:
        """Listen for so many workers. Raises `OSError`, also where another program listens there.

        `reuse_port`: another balancer may listen there too.
        """
        if workers == 1 or not SPREADS:
            return cls([listening(host, port, shared=reuse_port)], each=False)
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
        return cls(sockets, each=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        number: int = self._sockets[0].getsockname()[1]
        return number

    @property
    def host(self) -> str:
        """The address that is listened on; of several one that others than this machine reach."""
        hosts: list[str] = [sock.getsockname()[0] for sock in self._sockets]
        return next((host for host in hosts if not is_loopback(host)), hosts[0])

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
