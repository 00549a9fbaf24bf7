"""TLS handshakes with clients over real sockets: counted and timed from the first moment on. `live/test_tls.py` has the rest."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

from balancer.app import App, create_app
from balancer.server import run
from balancer.server.limits import ClientLimits
from balancer.server.listening import listening

AUTHORITY = trustme.CA()

CONFIG = """\
providers:
  - {name: a, type: simulated, simulated_config: {latency: 0, speed: 0}}
model_routes:
  "*": [{provider: a}]
settings: {log_file: null, log_level: CRITICAL, tls: {cert: both.pem}}
"""
HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> App:
    both = tmp_path / "both.pem"
    both.touch(0o600)
    both.write_bytes(AUTHORITY.issue_cert("localhost").private_key_and_cert_chain_pem.bytes())
    path = tmp_path / "providers.yaml"
    path.write_text(CONFIG)
    return create_app(str(path), limits=ClientLimits(head_s=0.5))


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[int]:
    """Serve inside this process; what is open at the end must not hold it up."""
    ready = asyncio.Event()
    with listening("127.0.0.1", 0) as sock:
        server = run.Server(run.configured(app), ready.set)
        task = asyncio.ensure_future(server.serve([sock]))
        await asyncio.wait_for(ready.wait(), 10)
        try:
            yield sock.getsockname()[1]
        finally:
            server.handle_exit(signal.SIGTERM, None)
            await asyncio.wait_for(task, 10)


def client() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=AUTHORITY.cert_pem.bytes().decode())


async def asked(port: int, *, tls: bool = True) -> bytes:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=client() if tls else None, server_hostname="localhost" if tls else None
    )
    writer.write(HEALTH)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def until(app: App, connections: int) -> None:
    async with asyncio.timeout(5):
        while len(app.connections) != connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_request_may_come_with_the_end_of_the_handshake(app: App) -> None:
    async with serving(app) as port:
        for _ in range(5):
            assert b"HTTP/1.1 200 OK" in await asked(port)
        await until(app, 0)


async def test_a_handshake_is_counted_and_ends_when_it_takes_as_long_as_no_head_may(app: App) -> None:
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(app, 1)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        await until(app, 0)


async def test_what_is_no_handshake_is_closed_and_forgotten(app: App) -> None:
    async with serving(app) as port:
        assert b"HTTP" not in await asked(port, tls=False)
        with socket.create_connection(("127.0.0.1", port)):
            await until(app, 1)
        await until(app, 0)
        assert b"HTTP/1.1 200 OK" in await asked(port)


async def test_of_too_many_the_oldest_handshake_goes(app: App) -> None:
    async with serving(app) as port:
        app.connections.apply(most=2, most_per_address=None, most_bytes=1_000_000)
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await until(app, 2)
        assert b"HTTP/1.1 200 OK" in await asked(port)
        assert await asyncio.wait_for(silent[0][0].read(), 5) == b""
        for _, writer in silent:
            writer.close()


async def test_one_too_many_of_an_address_is_closed_at_once(app: App) -> None:
    async with serving(app) as port:
        app.connections.apply(most=9, most_per_address=1, most_bytes=1_000_000)
        _, first = await asyncio.open_connection("127.0.0.1", port)
        await until(app, 1)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await asked(port)
        first.close()


async def test_a_handshake_does_not_hold_up_the_end(app: App) -> None:
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(app, 1)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
