"""Watching the file, so that every worker notices a change by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from balancer.config import envfile

Mark: TypeAlias = tuple[int, int, int] | None


def _none() -> Iterable[Path]:
    return ()


async def watch(
    path: Path,
    on_change: Callable[[], Awaitable[None]],
    interval_s: float = 1.0,
    others: Callable[[], Iterable[Path]] = _none,
) -> None:
    """Call `on_change` whenever the file at `path`, the `.env` beside it, or one of `others` was changed or replaced.

    Runs until it is cancelled. It is called once at the beginning too: the file may have changed since it was read.
    Polls: a stat a second costs nothing, works on every file system, and survives editors that write a new file and
    rename it. A configuration that is gone for a moment is waited for; the other files may come and go.
    """
    seen: dict[Path, Mark] = {}
    while True:
        await asyncio.sleep(interval_s)
        now = {file: _mark(file) for file in (path, envfile.beside(path), *others())}
        if now[path] is not None and now != seen:
            seen = now
            await on_change()


def _mark(path: Path) -> Mark:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
