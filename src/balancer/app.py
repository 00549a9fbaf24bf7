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
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from balancer import config as configuration
from balancer import events
from balancer.clock import SYSTEM, Clock
from balancer.coalescing.shared import InFlight
from balancer.config import Config, ConfigError, Problem, Source
from balancer.config.credential_commands import CredentialCommands
from balancer.config.watch import watch
from balancer.control import api
from balancer.control.catalogue import Catalogue
from balancer.control.memory import Memory
from balancer.control.memory import beside as learnt_file
from balancer.control.recovery import Recovery
from balancer.control.reloading import Reloading
from balancer.control.rotation import Rotation
from balancer.control.workers import Workers
from balancer.model import Operation, Provider
from balancer.policy import shortage
from balancer.relay.relay import Relay
from balancer.relay.resources import ResourceRelay
from balancer.server import descriptors, memory
from balancer.server.access import Denied, Gate
from balancer.server.asgi import AsgiClient, Receive, Scope, Send, without_secrets
from balancer.server.connections import KEPT_DESCRIPTORS, Connections, bounded, spare_of
from balancer.server.endpoint import Messages
from balancer.server.hangup import Hangup
from balancer.server.keys import hash_of, is_for_admins, presented_in
from balancer.server.limits import ClientLimits
from balancer.server.paths import OPERATIONS, canonical
from balancer.server.rejected import Rejected, new_id, reject
from balancer.server.resources import ResourceEndpoints, is_resource, is_stored
from balancer.sharing.worker import NUMBER, NotShared, WorkerSharing, joined
from balancer.state.fleet import Fleet
from balancer.state.grants import Grants
from balancer.state.shared import SharedFleet
from balancer.telemetry.audit import ASKER, Asker, Audit
from balancer.telemetry.logs import Logs
from balancer.telemetry.metrics import Metrics
from balancer.telemetry.recent import Recent
from balancer.telemetry.usage.ledger import Ledger, place
from balancer.telemetry.watchdog import LoopWatchdog
from balancer.transport import Transport

_log = logging.getLogger(__name__)

DEFAULT_LIMITS = ClientLimits()

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
        credential_commands: CredentialCommands | None = None,
        source: Source | None = None,
    ) -> None:
        """`source` is the configuration to begin with, where somebody else has read the file."""
        self.limits = limits
        self._clock = clock
        self.on_reload: Callable[[], None] = _nothing
        """Called when a changed configuration has come into force."""
        self.restarts: dict[str, int] = {}
        """How often workers were started again, by reason; of all workers together. Empty: there are none."""
        self.restart: Callable[[], Awaitable[str]] | None = None
        """Replaces this balancer's processes by new ones, and returns why that failed; None: it can't be done here."""
        commands = credential_commands or CredentialCommands(clock.now)
        self.reloading = Reloading(self, config_path, overrides, commands, source)
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
            operation = Operation.STORED_RESPONSES if is_stored(path) else OPERATIONS.get(path)
            await reject(client, rejected, new_id(), operation)
        elif scope["path"] in OPERATIONS:
            await self.messages(scope, receive, send, admitted)
        elif is_stored(path) or (self.fleet.config.settings.proxy_endpoints and is_resource(path)):
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
        config = self.reloading.read()
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
        self.recent = Recent()
        self._logs = Logs(config.settings, secrets=self.fleet.secrets, worker=os.environ.get(NUMBER, ""))
        bus.add(self._logs.take)
        bus.add(self.metrics.take, Metrics.KINDS)
        bus.add(self.recent.take, Recent.KINDS)
        self._logs.on_shortage(partial(self.is_short, ""))
        self._resources.callback(self._logs.close)
        if config.settings.log_file:
            self._audit = Audit(config.settings.log_file, self._clock.wall, self._clock.now)
            bus.add(self._audit.take, Audit.KINDS)
            self._resources.callback(self._audit.close)
        self.ledger = self._make_ledger(config, bus)
        transport = Transport(self._clock)
        transport.on_shortage = partial(self.is_short, "a connection to a provider could not be opened")
        self.connections.on_shortage = partial(self.is_short, "a client was turned away", shortage.DESCRIPTORS)
        transport.allow(config.settings.allowed_upstreams)
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
        rotation = Rotation(self.reloading.commands, lambda: self.fleet.config, self.reloading.on_new_key)
        bus.add(rotation.on_event, Rotation.KINDS)
        self.fleet.on_key_refused = rotation.refused
        self._resources.push_async_callback(_end, asyncio.get_running_loop().create_task(rotation.run()))
        watched = config.path or Path.cwd() / configuration.FILE  # none yet: it is taken over when it is there
        changed = partial(self.reloading.on_change, watched)
        watcher = asyncio.get_running_loop().create_task(watch(watched, changed, more=self.reloading.other_files))
        self._resources.push_async_callback(_end, watcher)
        self._resources.push_async_callback(_end, asyncio.get_running_loop().create_task(recovery.run()))
        learnt = Memory(self.fleet, self._clock, learnt_file(config.settings.log_file))
        learnt.restore()
        self._resources.callback(learnt.save)
        self._resources.push_async_callback(_end, asyncio.get_running_loop().create_task(learnt.run()))
        self._resources.push_async_callback(self.workers.close)
        await self.workers.start(self.reloading.follow)
        if trouble:
            _log.warning("%s; this worker goes by what it knows itself", trouble)
        if self._clock is SYSTEM:  # it watches real time, and no other
            self._resources.callback(LoopWatchdog(loop, self.metrics.lagged).close)
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

    def _make_gate(self, config: Config) -> Gate:
        settings = config.settings
        named = () if config.tls is None else config.tls.names  # the certificate's: nobody else can have them
        return Gate(
            settings.auth.plain_keys,
            settings.auth.admin_keys,
            (*settings.allowed_hosts, *named),
            self._seed,
            allowed_origins=settings.allowed_origins,
            trusted_proxies=settings.trusted_proxies,
            scheme="http" if config.tls is None else "https",
            named=self._grants.apply(config.named_keys),
            wall=self._clock.wall,
        )

    @property
    def client_tls(self) -> ssl.SSLContext | None:
        """What new connections of clients are encrypted with, by the configuration in force; None: nothing."""
        tls = self.fleet.config.tls
        return None if tls is None else tls.context

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
        most = bounded(limits.max_connections, self._descriptors)
        self.connections.apply(
            most=most,
            most_per_address=limits.max_connections_per_address,
            most_bytes=limits.max_buffered_bytes,
            most_spare=(spare := spare_of(self._descriptors)),
            short_of_descriptors=most < limits.max_connections,
        )
        self.transport.most = max(1, self._descriptors - KEPT_DESCRIPTORS - spare - most)
        if limits.max_in_flight > most:
            _log.warning(
                "limits.max_in_flight is %d, but there are descriptors for %d requests at once: %s",
                limits.max_in_flight,
                most,
                f"this process may open {self._descriptors} files (ulimit -n, LimitNOFILE= of the service)"
                if most < limits.max_connections
                else f"limits.max_connections is {limits.max_connections}",
            )

    # What the control endpoints work on

    def now(self) -> float:
        return self._clock.now()

    def wall(self) -> float:
        return self._clock.wall()

    def uptime_s(self) -> float:
        return self._clock.now() - self._started

    def log_lines_lost(self) -> int:
        return self._logs.lines_lost

    def is_short(self, what: str, kind: str) -> None:
        """Count a shortage of this machine. `what` could not be done; empty: that is told elsewhere."""
        self.fleet.local_faults.count(kind, what, self._clock.now())

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

    async def reload(self) -> tuple[tuple[str, ...], list[Problem], dict[str, Any]]:
        """Read the file again: whole or not at all. Return what changed, or the problems, and how others took it."""
        return await self.reloading.reload()

    async def reload_once(self) -> None:
        """Read the file again, if no other worker does: all were told to."""
        await self.reloading.reload_once()

    def put_in_force(self, config: Config, old: Mapping[str, Provider], *, followed: bool = False) -> None:
        """Use a configuration that the fleet uses already in everything else, too. `old` are the providers before.

        `followed`: another worker has read it, and nothing is told of it here.
        """
        self.gate = self._make_gate(config)
        self._bound_connections(config)
        self._in_flight.max_bytes = config.settings.deduplication.max_bytes
        self._logs.apply(config.settings, self.fleet.secrets)
        self.transport.allow(config.settings.allowed_upstreams)
        if self.ledger is not None:
            self.ledger.apply(config.prices, _factors(config), config.settings.usage_keep_days)
        self.transport.retire({provider.origin for provider in config.providers.values()})
        pairs = ((old[name], provider) for name, provider in config.providers.items() if name in old)
        self.transport.renew({now.origin for before, now in pairs if not before.is_asked_like(now)})
        if followed:
            self._recovery.start_anew()
        self.on_reload()


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
    credential_commands: CredentialCommands | None = None,
) -> App:
    """Return the application. Nothing is read or opened before the server starts it.

    `credential_commands`: what was printed already by the programs that print keys.
    """
    return App(config_path, overrides or {}, clock, limits, credential_commands)
