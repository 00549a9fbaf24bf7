"""A socket that clients connect to."""

from __future__ import annotations

import socket

import pytest

from balancer.server.listening import listening


def test_a_free_port_is_found_and_a_taken_one_refused() -> None:
    with listening("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        with pytest.raises(OSError):
            listening("127.0.0.1", port)
