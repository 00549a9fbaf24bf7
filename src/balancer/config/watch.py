"""Watching the file, so that every worker notices a change by itself."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from balancer.config import envfile
from balancer.policy import shortage

_log = logging.getLogger(__name__)

Mark: TypeAlias = tuple[int, int, int, int] | None

CONTENT_EVERY = 30
"""At every so many looks the content is compared, too: not every file system tells of every change."""


async def watch(
    path: Path,
    on_change: Callable[[], Awaitable[bool]],
    interval_s: float = 1.0,
    more: Callable[[], Iterable[Path]] = tuple,
) -> None:
    """Call `on_change` when the file at `path`, the `.env` beside it, or a file that `more` names may have changed.

    It is called when all of them have stayed as they are from one look to the next: a file that is being written, or a
    certificate without its key yet, is waited for. It says whether it has dealt with the change; where it has not, as
    when the file could not be read, it is called again at the next look. It is called once at the beginning, too: the
    file may have changed since it was read.

    Runs until it is cancelled. Polls: a stat a second costs nothing, works on every file system, and survives editors
    that write a new file and rename it. A configuration that is gone for a moment is waited for; a `.env` may come and
    go.
    """
    dealt_with: list[Mark] | None = None
    before: list[Mark] = []
    looks = 0
    while True:
        await asyncio.sleep(interval_s)
        last, before = before, [_mark(file) for file in (path, envfile.beside(path), *more())]
        looks += 1
        if before[0] is None or before != last:
            continue
        if before != dealt_with or looks >= CONTENT_EVERY:
            looks = 0
            dealt_with = before if await _tried(on_change) else None


async def _tried(on_change: Callable[[], Awaitable[bool]]) -> bool:
    """Say whether a change is dealt with. Watching goes on whatever happens."""
    try:
        return await on_change()
    except Exception as error:
        # A shortage ends, and then it is done.
        if shortage.kind_of(error) is None:
            _log.exception("a changed configuration could not be looked at")
        return False


def _mark(path: Path) -> Mark:
    """Return what changes when a file does. A tool may put back when it was written, but not `st_ctime`."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def stamp(path: Path, more: Iterable[Path] = ()) -> bytes:
    """Return a digest of the file, of the `.env` beside it and of `more`: equal ones need not be parsed again.

    Raises `OSError` where the file can't be read, or where this machine is short of what reading another one takes.
    """
    digest = hashlib.blake2b(_size_and(path.read_bytes()), digest_size=16)
    for file in (envfile.beside(path), *more):
        digest.update(_size_and(_bytes(file)))
    return digest.digest()


def _size_and(data: bytes) -> bytes:
    """Return `data` behind its size, so that what ends one file can't be taken for the beginning of the next."""
    return b"%d:%b" % (len(data), data)


def _bytes(path: Path) -> bytes:
    """Return what a file holds, or why it can't be read, as long as that has its cause in the file."""
    try:
        return path.read_bytes()
    except OSError as error:
        if shortage.kind_of(error) is not None:
            raise
        return b"unread: %d" % (error.errno or 0)
