"""The composition root: builds everything and wires it. Importing it opens nothing.

`create_app` returns one ASGI callable. The hot paths go past FastAPI, straight to `Messages`;
everything passes the gate first. What is shared is made when the server starts (the lifespan),
and closed when it stops.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from balancer import config as configuration
from balancer import events
from balancer.clock import SYSTEM, Clock
from balancer.coalescing.shared import InFlight
from balancer.config import Config, ConfigError, Problem, Source
from balancer.config.watch import watch
from balancer.control import api
from balancer.control.catalogue import Catalogue
from balancer.control.memory import Memory
from balancer.control.memory import beside as learnt_file
from balancer.control.recovery import Recovery
from balancer.control.workers import Workers
from balancer.relay.relay import Relay
from balancer.relay.resources import ResourceRelay
from balancer.server import descriptors, memory
from balancer.server.access import Denied, Gate
from balancer.server.asgi import AsgiClient, Receive, Scope, Send, without_secrets
from balancer.server.connections import Connections, bounded
from balancer.server.endpoint import Messages
from balancer.server.hangup import Hangup
from balancer.server.keys import hash_of, is_for_admins, presented_in
from balancer.server.limits import ClientLimits
from balancer.server.paths import OPERATIONS, canonical
from balancer.server.rejected import Rejected, new_id, reject
from balancer.server.resources import ResourceEndpoints, is_resource
from balancer.sharing.worker import NotShared, WorkerSharing, joined
from balancer.state.fleet import Fleet
from balancer.state.grants import Grants
from balancer.state.shared import SharedFleet
from balancer.telemetry.audit import ASKER, Asker, Audit
from balancer.telemetry.logs import Logs
from balancer.telemetry.metrics import Metrics
from balancer.telemetry.usage.ledger import Ledger, place
from balancer.transport import Transport

_log = logging.getLogger(__name__)

DEFAULT_LIMITS = ClientLimits()

WORKER = "BALANCER_WORKER"
"""The variable that holds a worker's number, from 1, where there are several."""

FILE_LEASE_S = 5.0
"""So long a worker looks after the file once it has read a change. The next change may be another's to read."""

SWITCH_S = 0.0005
"""How long a thread that counts tokens may keep the event loop waiting; Python's own is ten times that."""


class App:
    """One worker's balancer, as an ASGI application, and the `http11.Host` of its connections."""

    fleet: Fleet
    metrics: Metrics
    messages: Messages
    resources: ResourceEndpoints
    gate: Gate
    _in_flight: InFlight
    _control: FastAPI

    def __init__(
        self,
        config_path: str | None,
        overrides: Mapping[str, object],
        clock: Clock = SYSTEM,
        limits: ClientLimits = DEFAULT_LIMITS,
        source: Source | None = None,
    ) -> None:
        """`source` is the configuration to begin with, where somebody else has read the file."""
        self.limits = limits
        self._clock = clock
        self._config_path = config_path
        self._handed = source
        self.on_reload: Callable[[], None] = _nothing
        """Called when a changed configuration has come into force."""
        self.restarts: dict[str, int] = {}
        """How often workers were started again, by reason; of all workers together. Empty: there are none."""
        self.restart: Callable[[], Awaitable[str]] | None = None
        """Replaces this balancer's processes by new ones, and returns why that failed; None: it can't be done here."""
        self._file: Path | None = None
        """The file that is in force: if it goes away, nothing else takes its place."""
        self._overrides = dict(overrides)
        self._seed = os.urandom(16)
        self._started = clock.now()
        self.one_of_several = multiprocessing.parent_process() is not None  # uvicorn has started it, with others
        self._resources = AsyncExitStack()
        self._audit: Audit | None = None
        self.connections = Connections()

    # ASGI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = canonical(scope["path"])
        path, method, headers = scope["path"], scope["method"], tuple(scope["headers"])
        admitted = self.gate.check(path, method, scope.get("client"), headers, version=scope["http_version"])
        if isinstance(admitted, Denied):
            if admitted.key and self._audit is not None:
                asker = Asker(self.gate.address(scope.get("client"), headers), admitted.name, admitted.key)
                self._audit.refused(asker, method, path, admitted.status)
            rejected = Rejected(admitted.status, admitted.kind, admitted.message)
            client = AsgiClient(receive, send, scope["http_version"], self.limits, asyncio.get_running_loop())
            await reject(client, rejected, new_id(), OPERATIONS.get(scope["path"]))
        elif scope["path"] in OPERATIONS:
            await self.messages(scope, receive, send, admitted)
        elif self.fleet.config.settings.proxy_endpoints and is_resource(scope["path"]):
            await self.resources(scope, receive, send, admitted)
        else:
            if admitted.grant is not None and admitted.grant.may_ask is not None:
                scope[api.MAY_ASK] = admitted.grant.may_ask
            if is_for_admins(path, method):
                name = admitted.grant.name if admitted.grant is not None else ""
                ASKER.set(Asker(self.gate.address(scope.get("client"), headers), name, hash_of(presented_in(headers))))
            await self._control(scope, receive, without_secrets(send, self.fleet.secrets))

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except ConfigError as error:
            print(error, file=sys.stderr)
            # An exception would be taken for "no lifespan here", and be served nevertheless.
            await send({"type": "lifespan.startup.failed", "message": "the configuration can't be used"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    # Life

    async def start(self) -> None:
        """Read the configuration and open what is shared. Raises `ConfigError`."""
        config = self.read()
        memory.keep()
        sys.setswitchinterval(SWITCH_S)
        bus = events.Bus()
        sharing, trouble = _sharing()
        if sharing is None:
            self.fleet, self._grants = Fleet(config, bus, random.Random()), Grants()
            self.one_of_several = self.one_of_several or bool(trouble)
        else:
            self.fleet = shared = SharedFleet(config, bus, random.Random(), sharing)
            self._grants = Grants(shared.keys.of)
            # Clients are known by hashes: of the same client the same one at all workers.
            self._seed = b"".join(sharing.hash_of(f"seed {n}").to_bytes(8, "big", signed=True) for n in range(2))
        self.workers = Workers(self, sharing, trouble)
        if sharing is not None:
            bus.add(self.workers.began, (events.RequestBegan,))
            bus.add(self.workers.ended, (events.RequestEnded,))
        self.metrics = Metrics(self.restarts)
        self._logs = Logs(config.settings, secrets=self.fleet.secrets, worker=os.environ.get(WORKER, ""))
        bus.add(self._logs.take)
        bus.add(self.metrics.take, Metrics.KINDS)
        self._resources.callback(self._logs.close)
        if config.settings.log_file:
            self._audit = Audit(config.settings.log_file, self._clock.wall, self._clock.now)
            bus.add(self._audit.take, Audit.KINDS)
            self._resources.callback(self._audit.close)
        self.ledger = self._make_ledger(config, bus)
        transport = Transport(self._clock)
        self._resources.push_async_callback(transport.close)
        self.transport = transport
        self.relay = Relay(self.fleet, transport, self._clock)
        self._in_flight = InFlight(config.settings.deduplication.max_bytes, self._clock.now)
        seed = int.from_bytes(self._seed[:8], "big")
        loop = asyncio.get_running_loop()
        self.messages = Messages(self.relay, self._in_flight, seed, self.limits, loop, self.connections)
        resources = ResourceRelay(self.fleet, transport, self._clock)
        self.resources = ResourceEndpoints(resources, self.fleet, self.limits, loop)
        self._descriptors = descriptors.raised()
        self._bound_connections(config)
        self._catalogue = Catalogue(self.relay, self._clock.now)
        self._recovery = recovery = Recovery(self.relay, self._clock, random.Random())
        bus.add(recovery.on_event, Recovery.KINDS)
        self.fleet.on_news = recovery.look
        self.gate = self._make_gate(config)
        self._control = api.build(self)
        watched = config.path or Path.cwd() / configuration.FILE  # none yet: it is taken over when it is there
        watcher = asyncio.get_running_loop().create_task(watch(watched, self._on_change))
        self._resources.push_async_callback(_end, watcher)
        self._resources.push_async_callback(_end, asyncio.get_running_loop().create_task(recovery.run()))
        learnt = Memory(self.fleet, self._clock, learnt_file(config.settings.log_file))
        learnt.restore()
        self._resources.callback(learnt.save)
        self._resources.push_async_callback(_end, asyncio.get_running_loop().create_task(learnt.run()))
        self._resources.push_async_callback(self.workers.close)
        await self.workers.start(self._follow)
        if trouble:
            _log.warning("%s; this worker goes by what it knows itself", trouble)
        memory.settle()
        self._obey_hangup()
        if self._audit is not None:
            self._audit.started()

    async def stop(self) -> None:
        """Close what was opened."""
        await self._resources.aclose()

    def _obey_hangup(self) -> None:
        """Have SIGHUP read the configuration again, unless whoever started this process has seen to that."""
        hangup, loop = Hangup(), asyncio.get_running_loop()
        if not hangup.is_ours:
            return
        reloads: set[asyncio.Task[object]] = set()

        def hang_up() -> None:
            if hangup.ends():
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                reloads.add(task := loop.create_task(self.reload()))
                task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, hang_up)
        self._resources.callback(loop.remove_signal_handler, signal.SIGHUP)

    def read(self) -> Config:
        """Return the configuration as it is in the file now. Raises `ConfigError`."""
        source, self._handed = self._handed, None
        return self._parsed(source or self._source())

    def _source(self) -> Source:
        """Return what is in the file now. Raises `ConfigError`."""
        return configuration.taken(self._file or configuration.find(self._config_path, os.environ, Path.cwd()))

    def _parsed(self, source: Source) -> Config:
        """Return the configuration that `source` is. Raises `ConfigError`."""
        config = configuration.parsed(source, os.environ)
        config = configuration.override(config, os.environ, **self._overrides)
        self._file = config.path
        return config

    def _make_gate(self, config: Config) -> Gate:
        settings = config.settings
        return Gate(
            settings.auth.plain_keys,
            settings.auth.admin_keys,
            settings.allowed_hosts,
            self._seed,
            allowed_origins=settings.allowed_origins,
            trusted_proxies=settings.trusted_proxies,
            named=self._grants.apply(config.named_keys),
            wall=self._clock.wall,
        )

    def _make_ledger(self, config: Config, bus: events.Bus) -> Ledger | None:
        where = place(config.settings.usage, config.settings.log_file)
        if where is None:
            return None
        ledger = Ledger(where, self._clock.wall, self._clock.now)
        ledger.apply(config.prices, _factors(config), config.settings.usage_keep_days)
        bus.add(ledger.take, Ledger.KINDS)
        self._resources.callback(ledger.close)
        return ledger

    def _bound_connections(self, config: Config) -> None:
        limits = config.settings.limits
        self.connections.apply(
            most=bounded(limits.max_connections, self._descriptors),
            most_per_address=limits.max_connections_per_address,
            most_bytes=limits.max_buffered_bytes,
        )

    # What the control endpoints work on

    def now(self) -> float:
        return self._clock.now()

    def wall(self) -> float:
        return self._clock.wall()

    def uptime_s(self) -> float:
        return self._clock.now() - self._started

    def note_restart(self) -> None:
        """A client has ordered a restart."""
        if self._audit is not None:
            self._audit.restart()

    @property
    def drain_s(self) -> float:
        """How long answers under way may go on when the server is stopped."""
        return self.fleet.config.settings.drain_timeout

    @property
    def drain_delay_s(self) -> float:
        """How long requests are still served when the server is to be stopped, while `/ready` says 503."""
        return self.fleet.config.settings.drain_delay_s

    def announce_drain(self) -> None:
        """Say on `/ready` that requests will not be taken any more; they still are."""
        if (fleet := getattr(self, "fleet", None)) is not None:
            fleet.drain_announced = True

    def drain(self) -> None:
        """Take no more requests: the server is being stopped. Before the start there is nothing to do."""
        if (fleet := getattr(self, "fleet", None)) is not None:
            fleet.draining = fleet.drain_announced = True

    async def models(
        self, limit: int | None, after: str | None, before: str | None, may_ask: Callable[[str], bool] | None
    ) -> dict[str, Any]:
        return await self._catalogue.page(limit, after, before, may_ask)

    async def model(self, name: str) -> dict[str, Any] | None:
        return await self._catalogue.find(name)

    async def reload(self, *, if_new: bool = False) -> tuple[tuple[str, ...], list[Problem], dict[str, Any]]:
        """Read the file again: whole or not at all. Return what changed, or the problems, and how others took it.

        `if_new`: there is nothing to do if its content is in force already.
        """
        try:
            source = await asyncio.to_thread(self._source)
            config = await asyncio.to_thread(self._parsed, source)
        except ConfigError as error:
            self.fleet.bus.emit(events.ReloadRefused(self._clock.wall(), tuple(map(str, error.problems))))
            return (), error.problems, {}
        if if_new and config.digest == self.fleet.config.digest:
            return (), [], {}
        changes = self.fleet.reload(config, self._clock.wall())
        self._put_in_force(config)
        return changes, [], await self.workers.tell_reload(source, self.fleet.generation)

    async def reload_once(self) -> None:
        """Read the file again, if no other worker does: all were told to."""
        if self._looks_after_file():
            await self.reload()

    def _looks_after_file(self) -> bool:
        """Say whether it is this worker that reads the file when it changes. One does, and tells the others."""
        sharing = self.workers.sharing
        return sharing is None or bool(sharing.trouble) or sharing.lease("the file", FILE_LEASE_S)

    async def _follow(self, source: Source, generation: int) -> str:
        """Put in force what another worker has read, and has logged. Return why not; empty: it is in force."""
        try:
            config = await asyncio.to_thread(self._parsed, source)
        except ConfigError as error:
            return f"worker {os.environ.get(WORKER, '')}: {error}"
        if config.digest != self.fleet.config.digest:
            self.fleet.reload(config, self._clock.wall(), logs=False)
            self._put_in_force(config)
            self._recovery.start_anew()
        self.fleet.generation = generation
        return ""

    def _put_in_force(self, config: Config) -> None:
        """Use a configuration that the fleet uses already in everything else, too."""
        self.gate = self._make_gate(config)
        self._bound_connections(config)
        self._in_flight.max_bytes = config.settings.deduplication.max_bytes
        self._logs.apply(config.settings, self.fleet.secrets)
        if self.ledger is not None:
            self.ledger.apply(config.prices, _factors(config), config.settings.usage_keep_days)
        self.transport.retire({provider.origin for provider in config.providers.values()})
        self.on_reload()

    async def _on_change(self) -> None:
        """The file has changed. After a reload by request its content is in force already."""
        if self._looks_after_file():
            await self.reload(if_new=True)


def _sharing() -> tuple[WorkerSharing | None, str]:
    """Return what this worker shares with others; None: nothing. Then there are no others, or the text says why."""
    try:
        return joined(os.environ), ""
    except NotShared as error:
        return None, str(error)


def _nothing() -> None:
    return


def _factors(config: Config) -> dict[str, float]:
    return {name: provider.price_factor for name, provider in config.providers.items()}


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def create_app(
    config_path: str | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    clock: Clock = SYSTEM,
    limits: ClientLimits = DEFAULT_LIMITS,
) -> App:
    """Return the application. Nothing is read or opened before the server starts it."""
    return App(config_path, overrides or {}, clock, limits)
