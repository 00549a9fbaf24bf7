"""The HTTP server under the balancer."""

from __future__ import annotations

import asyncio
import signal

import pytest
from client_side import Front

from balancer.server import run as server
from balancer.server.asgi import Receive, Scope, Send
from balancer.server.listening import listening


class Drained:
    """An application that can be told to drain."""

    drains = 0

    def drain(self) -> None:
        self.drains += 1


def running(app: Drained, drain_s: float = 120.0) -> tuple[server.Server, list[float]]:
    """Return a server that answers something, and the time that it goes by."""
    config = server.configured(app, drain_s=drain_s)
    config.load()
    now = [100.0]
    one = server.Server(config, now=lambda: now[0])
    one.server_state.tasks.add(asyncio.get_running_loop().create_future())  # type: ignore[arg-type]
    return one, now


async def test_the_first_signal_drains_and_the_second_does_not_wait() -> None:
    one, _ = running(app := Drained())

    assert not await one.on_tick(1)
    one.handle_exit(signal.SIGTERM, None)
    assert app.drains == 1
    assert not await one.on_tick(2), "an answer is under way"
    one.handle_exit(signal.SIGTERM, None)
    assert await one.on_tick(3)
    assert (one.force_exit, app.drains) == (True, 1)


async def test_it_ends_at_once_where_nothing_is_answered() -> None:
    one, _ = running(Drained())
    one.server_state.tasks.clear()
    one.handle_exit(signal.SIGTERM, None)

    assert await one.on_tick(1)
    assert not one.force_exit


@pytest.mark.parametrize(("waited_s", "ends"), [(7.9, False), (8.0, True)])
async def test_answers_get_no_more_than_their_time_to_end(waited_s: float, ends: bool) -> None:
    one, now = running(Drained(), drain_s=7.5)  # whole seconds are uvicorn's
    one.handle_exit(signal.SIGTERM, None)
    now[0] += waited_s

    assert await one.on_tick(1) is ends
    assert one.config.timeout_graceful_shutdown == (0 if ends else 8)


def test_a_signal_may_come_before_there_is_an_application() -> None:
    one = server.Server(server.configured("balancer.app:create_app"))
    one.handle_exit(signal.SIGTERM, None)

    assert one.should_exit


class Alive(Front):
    """An application with a life of its own."""

    drain_s = 60.0
    drain_delay_s = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await super().__call__(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})


async def test_it_says_once_that_it_listens_serves_and_ends_with_the_signal() -> None:
    listens: list[int] = []
    ready = asyncio.Event()

    def on_start() -> None:
        listens.append(1)
        ready.set()

    with listening("127.0.0.1", 0) as sock:
        one = server.Server(server.configured(app := Alive()), on_start)
        serving = asyncio.ensure_future(one.serve([sock]))
        await asyncio.wait_for(ready.wait(), 10)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(b"GET /other HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        one.handle_exit(signal.SIGTERM, None)
        await asyncio.wait_for(serving, 10)

    assert listens == [1]
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\ndate: " in answer
    assert b"\r\nserver: " not in answer
    assert app.fleet.draining


def test_no_header_may_say_who_a_client_is() -> None:
    """Who is on this machine is let in without a key: `x-forwarded-for` must not decide that."""
    assert server.configured("balancer.app:create_app").proxy_headers is False
