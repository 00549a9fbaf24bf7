"""What was learnt of the providers, kept in a small file beside the log, so that a restart does not forget it.

It holds names of providers, models and fields, never a key or a word of a conversation. Several workers write the same
file, each all that it knows: the last one wins, and what is lost is learnt again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import Any

import msgspec

from balancer import dialects
from balancer.clock import Clock
from balancer.dialect import Remembers
from balancer.redact import shown_url
from balancer.state.fleet import Fleet

_log = logging.getLogger(__name__)

MAX_BYTES = 1024 * 1024
"""A larger file is neither written nor read."""
EVERY_S = 5.0
"""How often is looked whether something was learnt."""


class _Provider(msgspec.Struct):
    type: str
    base_url: str
    learnt: dict[str, Any]


class _File(msgspec.Struct):
    providers: dict[str, _Provider] = {}
    version: int = 1


def beside(log_file: str | None) -> Path | None:
    """Return where it is kept; None where no log is written either."""
    return Path(log_file).with_suffix(".learnt.json") if log_file else None


class Memory:
    """Writes down what is learnt, and reads it at the start."""

    def __init__(self, fleet: Fleet, clock: Clock, path: Path | None) -> None:
        self._fleet = fleet
        self._clock = clock
        self._path = path
        self._written = b""

    def restore(self) -> None:
        """Give the providers back what was learnt of them, where type and address are still the same."""
        for name, kept in self._read().providers.items():
            provider = self._fleet.config.providers.get(name)
            if provider is None or (provider.type, shown_url(provider)) != (kept.type, kept.base_url):
                continue
            dialect = dialects.get(provider.type)
            if isinstance(dialect, Remembers):
                dialect.remember(self._fleet.stats(name).provider_state, kept.learnt, self._clock.wall())
        self._written = self._encoded()

    async def run(self) -> None:
        """Write what was learnt, soon after it was. Runs until it is cancelled."""
        while self._path is not None:
            await asyncio.sleep(EVERY_S)
            if self._is_new(data := self._encoded()):
                await asyncio.to_thread(self._write, self._path, data)

    def save(self) -> None:
        """Write what is known, if it is not what stands in the file already."""
        if self._path is not None and self._is_new(data := self._encoded()):
            self._write(self._path, data)

    def _is_new(self, data: bytes) -> bool:
        return data != self._written and len(data) <= MAX_BYTES

    def _write(self, path: Path, data: bytes) -> None:
        try:
            _replace(path, data)
        except OSError as error:
            _log.warning("what was learnt of the providers can't be kept in %s: %s", path, error.strerror)
        self._written = data  # a folder that is not writable is told of once for each thing that is learnt

    def _encoded(self) -> bytes:
        found: dict[str, _Provider] = {}
        for name, provider in self._fleet.config.providers.items():
            dialect = dialects.get(provider.type)
            if isinstance(dialect, Remembers) and (
                learnt := dialect.remembered(self._fleet.stats(name).provider_state)
            ):
                found[name] = _Provider(provider.type, shown_url(provider), learnt)
        return msgspec.json.encode(_File(found)) if found or self._written else b""

    def _read(self) -> _File:
        if self._path is None:
            return _File()
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            return msgspec.json.decode(data, type=_File) if len(data) <= MAX_BYTES else _File()
        except (OSError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return _File()


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    try:
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with os.fdopen(file, "wb") as out:
            out.write(data)
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
