"""Watching the file, so that every worker notices a change by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from balancer.config import envfile

Mark: TypeAlias = tuple[int, int, int] | None


async def watch(
    path: Path,
    on_change: Callable[[], Awaitable[None]],
    interval_s: float = 1.0,
    more: Callable[[], Iterable[Path]] = tuple,
) -> None:
    """Call `on_change` whenever the file at `path`, or the `.env` beside it, was changed or replaced.

    So do the files that `more` returns, once they have stayed as they are for an interval: a certificate and its key
    belong together, and are written one after the other.
    Runs until it is cancelled. It is called once at the beginning too: the file may have changed since it was read.
    Polls: a stat a second costs nothing, works on every file system, and survives editors that write a new file and
    rename it. A configuration that is gone for a moment is waited for; a `.env` may come and go.
    """
    seen: tuple[Mark, Mark] = (None, None)
    others = before = _marks(more())
    while True:
        await asyncio.sleep(interval_s)
        now = (_mark(path), _mark(envfile.beside(path)))
        last, before = before, _marks(more())
        if (now[0] is not None and now != seen) or (before == last and before != others):
            seen = now
            await on_change()
            others = before = {path: before.get(path, mark) for path, mark in _marks(more()).items()}


def _marks(paths: Iterable[Path]) -> dict[Path, Mark]:
    return {path: _mark(path) for path in paths}


def _mark(path: Path) -> Mark:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
