"""The HTTP server under the balancer."""

from __future__ import annotations

import signal
import socket

import pytest

from balancer.commands import server

URLS = {
    "127.0.0.1": "http://127.0.0.1:8080",
    "0.0.0.0": "http://127.0.0.1:8080",
    "::": "http://[::1]:8080",
    "::1": "http://[::1]:8080",
    "box.local": "http://box.local:8080",
}


@pytest.mark.parametrize(("host", "url"), URLS.items())
def test_the_address_for_clients(host: str, url: str) -> None:
    assert server.url(host, 8080) == url


def test_a_free_port_is_found_and_a_taken_one_refused() -> None:
    with server.listening("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        with pytest.raises(OSError):
            server.listening("127.0.0.1", port)


def test_the_first_signal_drains_and_the_second_does_not_wait() -> None:
    drained: list[bool] = []
    running = server.Server(server.configured(lambda scope, receive, send: None), on_drain=lambda: drained.append(True))

    running.handle_exit(signal.SIGTERM, None)
    assert (running.should_exit, running.force_exit, drained) == (True, False, [True])
    running.handle_exit(signal.SIGTERM, None)

    assert (running.force_exit, drained) == (True, [True])


def test_no_header_may_say_who_a_client_is() -> None:
    """Who is on this machine is let in without a key: `x-forwarded-for` must not decide that."""
    assert server.configured("balancer.app:create_app").proxy_headers is False
