"""The HTTP server under the balancer."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest

from balancer.server import run as server


def test_a_free_port_is_found_and_a_taken_one_refused() -> None:
    with server.listening("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        with pytest.raises(OSError):
            server.listening("127.0.0.1", port)


class Drained:
    """An application that can be told to drain."""

    draining = False

    @property
    def fleet(self) -> Drained:
        return self


async def test_the_first_signal_drains_and_the_second_does_not_wait() -> None:
    config = server.configured(app := Drained())
    config.load()
    running = server.Server(config)
    answering = asyncio.get_running_loop().create_future()
    running.server_state.tasks.add(answering)  # type: ignore[arg-type]

    assert not await running.on_tick(1)
    running.handle_exit(signal.SIGTERM, None)
    assert app.draining
    assert not await running.on_tick(2), "an answer is under way"
    running.handle_exit(signal.SIGTERM, None)
    assert await running.on_tick(3)
    assert running.force_exit


async def test_answers_get_no_more_than_their_time_to_end() -> None:
    config = server.configured(Drained(), drain_s=0)
    config.load()
    running = server.Server(config)
    running.server_state.tasks.add(asyncio.get_running_loop().create_future())  # type: ignore[arg-type]

    running.handle_exit(signal.SIGTERM, None)

    assert await running.on_tick(1)
    assert config.timeout_graceful_shutdown == 0


def test_no_header_may_say_who_a_client_is() -> None:
    """Who is on this machine is let in without a key: `x-forwarded-for` must not decide that."""
    assert server.configured("balancer.app:create_app").proxy_headers is False
