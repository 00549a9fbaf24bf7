"""The configuration in force, as bytes: what a new worker gets, whatever is on disk by then."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from balancer import config as configuration
from balancer.config import Config, ConfigError, Source
from balancer.config.credential_commands import CredentialCommands
from balancer.config.watch import watch


class InForce:
    """Follows the file, and keeps what could be used last."""

    def __init__(
        self,
        source: Source,
        config: Config,
        overrides: Mapping[str, str | int | bool],
        printed: CredentialCommands | None = None,
    ) -> None:
        self.source = source
        self.printed = printed
        """What the programs that print keys have printed already."""
        self.config = config
        self.overrides = dict(overrides)
        settings = config.settings
        self.opened_for = (settings.host, settings.port, settings.reuse_port)
        self._path = config.path or Path.cwd() / configuration.FILE
        self._looks: asyncio.Task[None] | None = None
        self._again = False
        self._then: list[Callable[[], None]] = []

    @property
    def drain_s(self) -> float:
        """The longest that it takes until all answers under way have ended."""
        settings = self.config.settings
        return settings.drain_delay_s + settings.drain_timeout

    def keep(self, source: Source, config: Config) -> None:
        """Keep what this process itself has read and put in force."""
        self.source, self.config = source, config

    def look(self, then: Callable[[], None] | None = None) -> None:
        """Look at the file again, soon, and call `then`."""
        if then is not None:
            self._then.append(then)
        if self._looks is not None and not self._looks.done():
            self._again = True
            return
        self._looks = asyncio.get_running_loop().create_task(self._look())

    async def follow(self) -> None:
        """Follow the file until it is cancelled."""

        async def changed() -> bool:
            self.look()
            return True

        await watch(self._path, changed)

    async def _look(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            await asyncio.to_thread(self._read)
        then, self._then = self._then, []
        for call in then:
            call()

    def _read(self) -> None:
        try:
            source = configuration.taken(self._path)
            if source == self.source:
                return
            config = configuration.override(configuration.parsed(source, os.environ), os.environ, **self.overrides)
        except ConfigError:
            return  # the workers say what is wrong with it; what was in force stays so
        self.source, self.config = source, config
