"""Reading the configuration: at the start, when its file changes, when somebody asks, when another worker has."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from balancer import config as configuration
from balancer import events
from balancer.config import Config, ConfigError, Problem, Source, Unreadable
from balancer.config.credential_commands import CredentialCommands
from balancer.config.watch import stamp
from balancer.control.workers import Workers
from balancer.model import Provider
from balancer.policy import shortage
from balancer.sharing.worker import NUMBER
from balancer.state.fleet import Fleet
from balancer.state.prepared import Prepared

FILE_LEASE_S = 5.0
"""How long the worker that reads the file stays the one that does, since it last looked."""

_log = logging.getLogger(__name__)

Outcome = tuple[tuple[str, ...], list[Problem], dict[str, Any]]
"""What changed, or the problems, and how other workers took it."""


class Host(Protocol):
    """Whose configuration it is: one worker's balancer."""

    fleet: Fleet
    workers: Workers

    def wall(self) -> float: ...

    def put_in_force(self, config: Config, old: Mapping[str, Provider], *, followed: bool = False) -> None:
        """Use a configuration that the fleet uses already in everything else, too. `old` are the providers before.

        `followed`: another worker has read it, and nothing is told of it here.
        """
        ...

    def is_short(self, what: str, kind: str) -> None:
        """Count a shortage of this machine. `what` could not be done; empty: that is told elsewhere."""
        ...


class Reloading:
    """Reads the configuration, whole or not at all."""

    def __init__(
        self,
        host: Host,
        config_path: str | None,
        overrides: Mapping[str, object],
        commands: CredentialCommands,
        source: Source | None = None,
    ) -> None:
        """`source` is the configuration to begin with, where somebody else has read the file."""
        self.commands = commands
        self._host = host
        self._config_path = config_path
        self._overrides = dict(overrides)
        self._handed = source
        self.source: Source | None = None
        """What was read last and could be used."""
        self._config: Config | None = None
        self._file: Path | None = None
        """The file that is in force: if it goes away, nothing else takes its place."""
        self._stamp = b""
        """Of the file that was read last, good or bad; empty: it could not be read."""
        self._unread = ""
        """Why the file can't be read at present; empty: it can."""
        self._refused_files: tuple[Path, ...] = ()
        """The files that a configuration names which was refused: a change of one may mend it."""

    def read(self) -> Config:
        """Return the configuration as it is in the file now, or as it was handed over. Raises `ConfigError`."""
        source, self._handed = self._handed, None
        return self._parsed(source or self._source())

    def other_files(self) -> tuple[Path, ...]:
        """Return the files whose change may change the configuration, besides its own."""
        return (*(self._config.watched if self._config is not None else ()), *self._refused_files)

    def _source(self) -> Source:
        """Return what is in the file now. Raises `ConfigError`."""
        path = self._file or configuration.find(self._config_path, os.environ, Path.cwd())
        self._stamp = b""
        with suppress(OSError):  # `taken` says it better
            # Before it: what is written meanwhile is not overlooked.
            self._stamp = b"" if path is None else stamp(path, self.other_files())
        try:
            return configuration.taken(path)
        except Unreadable:
            self._stamp = b""
            raise

    def _parsed(self, source: Source) -> Config:
        """Return the configuration that `source` is. Raises `ConfigError`."""
        try:
            config = configuration.parsed(source, os.environ, self.commands)
            config = configuration.override(config, os.environ, **self._overrides)
        except ConfigError as error:
            self._refused_files = error.watched
            raise
        self._file, self._refused_files, self._config, self.source = config.path, (), config, source
        return config

    async def reload(self) -> Outcome:
        """Read the file again. Programs that print keys are run again, too."""
        for command in self._host.fleet.config.commands.values():
            self.commands.expire(command)
        return await self._reload()

    async def reload_once(self) -> None:
        """Read the file again, if no other worker does: all were told to."""
        if self._looks_after_file():
            await self.reload()

    async def on_change(self, path: Path) -> bool:
        """The file at `path`, or one that it names, may have changed. Say whether that is dealt with."""
        if not self._looks_after_file():
            return False  # it may be left to this worker at any time
        try:
            now = await asyncio.to_thread(stamp, path, self.other_files())
        except OSError as error:
            self._tell_unread(path, error)
            return False
        self._unread = ""
        if now == self._stamp:  # it was read at the start, or for somebody who asked for that
            return True
        await self._reload(if_new=True)
        return self._stamp == now

    async def on_new_key(self) -> None:
        """A program that prints a key may print another one now. Each worker runs it for itself."""
        await self._reload(if_new=True, alone=True)

    async def follow(self, source: Source, generation: int) -> str:
        """Put in force what another worker has read, and has logged. Return why not; empty: it is in force."""
        fleet = self._host.fleet
        try:
            config = await asyncio.to_thread(self._parsed, source)
        except ConfigError as error:
            return f"worker {os.environ.get(NUMBER, '')}: {error}"
        if config.digest != fleet.config.digest:
            old = fleet.config.providers
            prepared = await asyncio.to_thread(Prepared.of, config, fleet.config)
            fleet.reload(prepared, self._host.wall(), logs=False)
            self._host.put_in_force(config, old, followed=True)
        fleet.generation = generation
        return ""

    async def _reload(self, *, if_new: bool = False, alone: bool = False) -> Outcome:
        """Do what `reload` does. `if_new`: not where what is in force says the same; `alone`: others are not told."""
        fleet, wall = self._host.fleet, self._host.wall
        try:
            source = await asyncio.to_thread(self._source)
            config = await asyncio.to_thread(self._parsed, source)
        except ConfigError as error:
            fleet.refused = tuple(map(str, error.problems))
            fleet.bus.emit(events.ReloadRefused(wall(), fleet.refused))
            return (), error.problems, {}
        if if_new and config.digest == fleet.config.digest:
            return (), [], {}
        if (loss := configuration.lost(fleet.config, config)) is not None:
            config = replace(config, warnings=(*config.warnings, loss))
            _log.warning("%s", loss)
        prepared = await asyncio.to_thread(Prepared.of, config, fleet.config)
        old = fleet.config.providers
        changes = fleet.reload(prepared, wall())
        self._host.put_in_force(config, old)
        others = {} if alone else await self._host.workers.tell_reload(source, fleet.generation)
        return changes, [], others

    def _looks_after_file(self) -> bool:
        """Say whether it is this worker that reads the file when it changes. One does, and tells the others."""
        sharing = self._host.workers.sharing
        return sharing is None or bool(sharing.trouble) or sharing.lease("the file", FILE_LEASE_S)

    def _tell_unread(self, path: Path, error: OSError) -> None:
        """Say once that the file can't be read. It is read as soon as that is possible."""
        reason = error.strerror or type(error).__name__
        if reason != self._unread:
            self._unread = reason
            _log.error("%s can't be read (%s); the configuration stays as it is, and it is tried again", path, reason)
            if kind := shortage.kind_of(error):
                self._host.is_short("", kind)
