"""Keys that programs print (`auth_value_command`) are renewed: in time, and soon after a provider has refused one.

One task, off the way of every request. The configuration is read again, in a thread, when a program is due; only a key
that is another one makes a reload of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from balancer import events
from balancer.config import Config
from balancer.config.credential_commands import CredentialCommands

_log = logging.getLogger(__name__)

LEAST_S = 1.0
"""The configuration is not read again more often than this."""


class Rotation:
    """Has the programs run when they are due. `config` returns the configuration in force."""

    KINDS = (events.Reloaded,)
    """The events that it has to be told."""

    def __init__(
        self,
        commands: CredentialCommands,
        config: Callable[[], Config],
        read_again: Callable[[], Awaitable[None]],
        least_s: float = LEAST_S,
    ) -> None:
        self._commands = commands
        self._config = config
        self._read_again = read_again
        self._least_s = least_s
        self._changed = asyncio.Event()

    def refused(self, provider: str) -> None:
        """Take note of a provider that has refused its key."""
        if command := self._config().commands.get(provider):
            self._commands.refused(command)
            self._changed.set()

    def on_event(self, event: events.Event) -> None:
        """Take note of another configuration."""
        self._changed.set()

    async def run(self) -> None:
        """Renew what is due, for ever."""
        while True:
            self._changed.clear()
            due_in_s = self._commands.due_in_s(self._config().commands.values())
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due_in_s is None else max(due_in_s, self._least_s)):
                    await self._changed.wait()
            if self._is_due():
                await self._read_again()
                self._tell(self._config().commands)

    def _is_due(self) -> bool:
        due_in_s = self._commands.due_in_s(self._config().commands.values())
        return due_in_s is not None and due_in_s <= 0

    def _tell(self, providers: Iterable[str]) -> None:
        """Log which keys could not be renewed. Neither the key nor what the program printed is part of it."""
        for name in providers:
            if failure := self._commands.failure(self._config().commands[name]):
                _log.warning(
                    "the auth_value_command of %s %s; the key that it printed before is still used", name, failure
                )
