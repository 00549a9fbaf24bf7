"""What the application wires: which clock and which limits its parts have, and what a reload changes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from client_side import HOST, Wire, post
from shortages import no_descriptors
from uvicorn.server import ServerState
from virtual_time import in_virtual_time, loop, settled

from balancer.app import App, create_app
from balancer.clock import SYSTEM
from balancer.config import Config, Source
from balancer.config.credential_commands import CredentialCommands
from balancer.control.reloading import Reloading
from balancer.events import Reloaded
from balancer.server import run
from balancer.server.http11 import ClientConnection
from balancer.server.limits import ClientLimits

CONFIG = """\
providers:
  - {{name: a, type: simulated, simulated_config: {{latency: 40, speed: 0}}}}
model_routes: {{"*": [{{provider: a}}]}}
settings: {{log_file: null, log_level: CRITICAL{settings}}}
"""
STREAM = b'{"model":"m","max_tokens":5,"stream":true,"messages":[]}'


class World:
    """The whole application in virtual time; connections come from the test."""

    def __init__(self, folder: Path, settings: str, **more: Any) -> None:
        self._path = folder / "providers.yaml"
        self.write(settings)
        self.app: App = create_app(str(self._path), clock=loop().clock, **more)
        self.state = ServerState()

    def write(self, settings: str = "") -> None:
        self._path.write_text(CONFIG.format(settings=f", {settings}" if settings else ""))

    def connect(self, address: str = "127.0.0.1") -> Wire:
        config = run.configured(self.app)
        config.load()
        return Wire(ClientConnection(config, self.state, {}, loop()), (address, 5))


@asynccontextmanager
async def world(folder: Path, settings: str = "", **more: Any) -> AsyncIterator[World]:
    one = World(folder, settings, **more)
    await one.app.start()
    try:
        yield one
    finally:
        await one.app.stop()


@in_virtual_time
async def test_a_virtual_clock_drives_everything_but_sockets(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        wire = one.connect()
        wire.says(post(STREAM))
        await asyncio.sleep(15)
        assert wire.answers[0].body == b'event: ping\ndata: {"type": "ping"}\n\n'
        await asyncio.sleep(26)

        assert wire.answers[0].whole
        assert one.app.uptime_s() == 41.0
        assert one.app.fleet.stats("a").first_content_at == pytest.approx(40, abs=0.1)


@in_virtual_time
async def test_limits_of_clients_are_an_argument(tmp_path: Path) -> None:
    async with world(tmp_path, limits=ClientLimits(head_s=3)) as one:
        assert await one.connect().closes() == pytest.approx(3)


@in_virtual_time
async def test_a_reload_reaches_everything_that_goes_by_the_file(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        before = one.app.gate
        one.write(
            "deduplication: {max_bytes: 4096}, auth: {keys: [a-key-of-some-length]}, limits: {max_body_bytes: 2048}"
        )
        changes, problems, _ = await one.app.reload()

        assert (bool(changes), problems) == (True, [])
        assert one.app._in_flight.max_bytes == 4096
        assert one.app.gate is not before
        wire = one.connect()
        wire.says(post(STREAM))
        await settled()
        assert wire.statuses == [401]
        wire = one.connect()
        wire.says(post(STREAM + b" " * 2000, b"x-api-key: a-key-of-some-length"))
        await settled()
        assert wire.statuses == [413]


@in_virtual_time
async def test_a_file_that_can_not_be_used_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        before = one.app.gate, one.app.fleet.config
        one.write("deduplication: {max_bytes: many}")
        changes, problems, _ = await one.app.reload()

        assert (changes, len(problems)) == ((), 1)
        assert (one.app.gate, one.app.fleet.config) == before


ANSWERS: dict[str, tuple[bytes, int]] = {
    "a probe": (b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    "a slip in the path": (post(STREAM, b"content-type: text/plain", path=b"//v1/messages/"), 415),
    "an unknown path": (b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "another host": (b"GET /health HTTP/1.1\r\nhost: elsewhere.example\r\n\r\n", 421),
}


@pytest.mark.parametrize(("said", "status"), ANSWERS.values(), ids=ANSWERS)
@in_virtual_time
async def test_what_is_answered_where(said: bytes, status: int, tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        wire = one.connect()
        wire.says(said)
        await settled()

        assert wire.statuses == [status]
        assert "x-balancer-request-id" in wire.answers[0].headers or status == 200


@in_virtual_time
async def test_other_machines_are_sent_away_without_keys(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        wire = one.connect("203.0.113.9")
        wire.says(post(STREAM))
        await settled()

        assert wire.statuses == [401]


# Beginning and end


class Server:
    """An ASGI server for what is not HTTP."""

    def __init__(self, *messages: str) -> None:
        self._messages = list(messages)
        self.sent: list[dict[str, Any]] = []
        self.between: Callable[[], None] = bool  # type: ignore[assignment]

    async def receive(self) -> dict[str, Any]:
        self.between()
        return {"type": self._messages.pop(0)}

    async def send(self, message: Any) -> None:
        self.sent.append(message)


@in_virtual_time
async def test_it_starts_and_stops_with_the_server(tmp_path: Path) -> None:
    one = World(tmp_path, "")
    one.app.drain()  # a signal may come before the start
    server = Server("lifespan.startup", "lifespan.shutdown")
    await one.app({"type": "lifespan"}, server.receive, server.send)

    assert [message["type"] for message in server.sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    one.app.drain()
    assert one.app.fleet.draining


@in_virtual_time
async def test_a_file_that_can_not_be_used_is_no_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception would be taken for "no lifespan here", and be served nevertheless."""
    one = World(tmp_path, "no_such_key: 1")
    server = Server("lifespan.startup")
    await one.app({"type": "lifespan"}, server.receive, server.send)

    assert [message["type"] for message in server.sent] == ["lifespan.startup.failed"]
    assert "no_such_key" in capsys.readouterr().err


@in_virtual_time
async def test_a_web_socket_is_refused(tmp_path: Path) -> None:
    one = World(tmp_path, "")
    server = Server("websocket.connect")
    await one.app({"type": "websocket"}, server.receive, server.send)

    assert server.sent == [{"type": "websocket.close", "code": 1008}]


class Counting(Reloading):
    """Counts how often the configuration was read."""

    reads = 0

    def _parsed(self, source: Source) -> Config:
        self.reads += 1
        return super()._parsed(source)


async def test_what_was_read_already_is_not_read_again_by_the_watcher(tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text(CONFIG.format(settings=""))
    app = create_app(str(path))
    counting = app.reloading = Counting(app, str(path), {}, CredentialCommands(SYSTEM.now))
    await app.start()
    try:
        await asyncio.sleep(2.2)
        assert counting.reads == 1, "at the start"
        path.write_text(CONFIG.format(settings=", queue_timeout: nonsense"))
        assert (await app.reload())[1]
        await asyncio.sleep(2.2)
        assert counting.reads == 2, "a bad file, for somebody who asked for it"
        path.write_text(CONFIG.format(settings=", failure_cooldown: 9"))
        await asyncio.sleep(3.2)
        assert (counting.reads, app.fleet.generation) == (3, 1)
    finally:
        await app.stop()


async def test_a_file_that_can_not_be_read_for_want_of_descriptors_is_read_when_there_are_some(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text(CONFIG.format(settings=""))
    app = create_app(str(path))
    await app.start()
    path.write_text(CONFIG.format(settings=", failure_cooldown: 9"))
    try:
        with no_descriptors():
            await asyncio.sleep(4)
            assert app.fleet.generation == 0
        taken = asyncio.Event()
        app.fleet.bus.add(lambda event: taken.set(), (Reloaded,))
        async with asyncio.timeout(10):
            await taken.wait()
    finally:
        await app.stop()
    told = [record.message for record in caplog.records if "can't be read" in record.message]
    assert len(told) == 1, told
    assert "Too many open files" in told[0]


async def test_a_file_that_has_lost_most_providers_is_taken_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "providers.yaml"
    more = "".join(f"  - {{name: p{n}, type: simulated}}\n" for n in range(3))
    text = CONFIG.format(settings="")
    path.write_text(text.replace("model_routes:", f"{more}model_routes:"))
    app = create_app(str(path))
    await app.start()
    try:
        path.write_text(text.replace("model_routes:", "  - {name: p0, type: simulated}\nmodel_routes:"))
        await app.reload()
        assert not app.fleet.config.warnings, "half of them"
        path.write_text(text.replace("model_routes:", f"{more}model_routes:"))
        await app.reload()
        path.write_text(text)
        assert (await app.reload())[1] == []
        assert ["3 of the 4 providers are gone" in str(warning) for warning in app.fleet.config.warnings] == [True]
    finally:
        await app.stop()
    assert [r.message for r in caplog.records if "3 of the 4 providers are gone" in r.message]
