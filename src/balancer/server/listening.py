"""A socket that clients connect to."""

from __future__ import annotations

import contextlib
import socket

from balancer.server import descriptors
from balancer.server.connections import spare_of

BACKLOG = 2048
"""So many connections wait to be accepted, where there are descriptors enough: all of them may be accepted at once."""


def backlog() -> int:
    """Return how many connections may wait to be accepted. More than there are descriptors for would be reset."""
    known = descriptors.raised()
    return BACKLOG if known >= 16 * BACKLOG else spare_of(known)


def listening(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a socket that listens; port 0: any that is free. Raises `OSError`.

    `shared`: other sockets may listen on the same address, and the system spreads connections over them.
    """
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(where)
        sock.listen(backlog())
    except OSError:
        sock.close()
        raise
    sock.set_inheritable(True)
    return sock
