"""Files that the configuration names: can they be used?"""

from __future__ import annotations

import os
import stat
from pathlib import Path

SYSTEMS = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))
"""Only the system makes files and links in these folders."""

_READ = stat.S_IRGRP | stat.S_IROTH
_CHANGE = stat.S_IWGRP | stat.S_IWOTH


def open_to_others(mode: int, path: Path, *, secret: bool = True) -> str:
    """Say what others on this machine can do with a file of this mode: `read`, `change`, or both; else nothing.

    Who may replace a file in its folder can change it. `secret`: that they can read it counts, too. Where files have
    no modes of this kind, nothing is known.
    """
    if os.name != "posix":
        return ""
    read = secret and mode & _READ
    change = mode & _CHANGE or _is_replaceable(path)
    return " or ".join(word for word, is_so in (("read", read), ("change", change)) if is_so)


def _is_replaceable(path: Path) -> bool:
    """Say whether everybody may put another file in the place of this one. A sticky bit, as of /tmp, forbids it."""
    try:
        folder = path.absolute().parent.stat().st_mode
    except OSError:
        return False
    return bool(folder & stat.S_IWOTH) and not folder & stat.S_ISVTX


def not_writable(path: str) -> str:
    """Say why nothing can be written to a file that may not exist yet; nothing if it can. Makes nothing."""
    if "\0" in path:  # Python's own functions differ in whether they raise
        return "it is not the name of a file"
    try:
        file = Path(path)
        if file.is_symlink() and file.parent not in SYSTEMS:
            return "it is a symbolic link, and none is followed"
        if file.is_dir():
            return "it is a folder"
        if file.exists():
            return "" if os.access(file, os.W_OK) else "no permission to write to it"
        folder = next(parent for parent in (file.parent, *file.absolute().parents) if parent.exists())
    except OSError as error:
        return error.strerror or "it can't be reached"
    if not folder.is_dir():
        return "a part of its path is a file, not a folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "no permission to write to its folder"
