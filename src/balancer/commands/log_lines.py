"""The lines of a JSON log: the newest first, all from a time on, or new ones as they come. Rotated files count."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

BLOCK_BYTES = 256 * 1024
MAX_LINE_BYTES = 1024 * 1024
"""What is longer is no line of ours. It is cut, so that it can't be read, and counts as one that is broken."""

OVERLONG = b"{"
"""Stands for such a line."""


def files(path: Path) -> list[Path]:
    """Return the log and those that rotation has put aside, the newest first."""
    aside = re.compile(re.escape(path.name) + r"\.([0-9]{1,6})")
    try:
        names = os.listdir(path.parent)
    except OSError:
        names = []
    numbers = sorted(int(match[1]) for name in names if (match := aside.fullmatch(name)))
    rotated = [path.with_name(f"{path.name}.{number}") for number in numbers]
    return [path, *rotated] if path.exists() else rotated


def newest_first(path: Path) -> Iterator[bytes]:
    """Return every line, from the last one of the log back to the first one of the oldest file. Raises `OSError`."""
    for name in files(path):
        with suppress(FileNotFoundError), name.open("rb") as file:  # rotated away meanwhile: it comes next
            yield from _backwards(file, whole_lines_end(file))


def oldest_first(path: Path, since: float) -> Iterator[bytes]:
    """Return every line of the files that were written to after `since`, in seconds. Raises `OSError`."""
    for name in reversed(files(path)):
        with suppress(FileNotFoundError), name.open("rb") as file:
            if os.fstat(file.fileno()).st_mtime >= since:
                yield from _forwards(file, whole_lines_end(file))


def whole_lines_end(file: BinaryIO) -> int:
    """Return where the last whole line ends; behind it somebody may be writing."""
    position = file.seek(0, os.SEEK_END)
    while position > 0:
        start = max(0, position - BLOCK_BYTES)
        file.seek(start)
        if (found := file.read(position - start).rfind(b"\n")) >= 0:
            return start + found + 1
        position = start
    return 0


def _backwards(file: BinaryIO, end: int) -> Iterator[bytes]:
    rest = b""
    position = max(0, end - 1)  # without the last line's end
    while position > 0:
        start = max(0, position - BLOCK_BYTES)
        file.seek(start)
        rest, *lines = (file.read(position - start) + rest).split(b"\n")
        yield from reversed(lines)
        if len(rest) > MAX_LINE_BYTES:
            rest = OVERLONG
        position = start
    if end:
        yield rest


def _forwards(file: BinaryIO, end: int) -> Iterator[bytes]:
    lines = _Lines()
    file.seek(0)
    position = 0
    while position < end:
        data = file.read(min(BLOCK_BYTES, end - position))
        if not data:
            return
        position += len(data)
        yield from lines.feed(data)


class _Lines:
    """Cuts what it is fed into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._rest + lines[0]
            self._rest = rest
        elif len(self._rest) + len(rest) > MAX_LINE_BYTES:
            self._rest = OVERLONG
        else:
            self._rest += rest
        return lines


def follow(path: Path, start: int | None, wait: Callable[[], None]) -> Iterator[list[bytes]]:
    """Return what is written from now on, for ever: from `start` on in the file that is there now.

    None: it is not there yet. A file that is moved aside is read to its end before the new one;
    one that is emptied is read from its beginning. `wait` is called when there is nothing new.
    """
    file = None
    try:
        while True:
            if file is None and (file := _opened(path)) is not None:
                file.seek(start or 0)
                start, lines, moved = 0, _Lines(), False
            if file is not None:
                if data := file.read(BLOCK_BYTES):
                    yield lines.feed(data)
                    continue
                if moved:  # before it was read last: so nothing comes after this
                    file.close()
                    file = None
                    continue
                moved = _is_another(path, file)
                if moved:
                    continue
                if os.fstat(file.fileno()).st_size < file.tell():
                    file.seek(0)
                    lines = _Lines()
                    continue
            wait()
    finally:
        if file is not None:
            file.close()


def _opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        return None


def _is_another(path: Path, file: BinaryIO) -> bool:
    """Say whether another file has this name by now."""
    try:
        return not os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False  # not yet: the old one may still be written to
