"""How this program is called on this machine, so that every command it suggests can be run as printed."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

NAME = "balancer"


def program() -> str:
    """Return the words that start this program in a shell: `balancer`, a path to it, or `python -m balancer.cli`."""
    return form(
        started_as=sys.argv[0] if sys.argv else "",
        on_path=shutil.which(NAME),
        script=os.path.join(sysconfig.get_path("scripts"), NAME),
        source=Path(__file__).resolve().parents[2],
        cwd=_folder(),
    )


def hint(*arguments: str) -> str:
    """Return a command line of this program, for people to copy."""
    return " ".join([program(), *map(shlex.quote, arguments)])


def form(started_as: str, on_path: str | None, script: str, source: Path, cwd: Path) -> str:
    """Choose the shortest way to call the program that is this installation and no other.

    `on_path` is what a shell finds under the program's name, `script` the command that was installed
    beside this Python, `source` the folder that holds the package.
    """
    started = started_as if os.path.basename(started_as) == NAME and _is_program(started_as) else ""
    checkout = str(source.parent / NAME) if source.name == "src" else ""
    ours = {os.path.realpath(path) for path in (started, checkout, script) if path}
    if on_path is not None and os.path.realpath(on_path) in ours:
        return NAME
    for path in (started, checkout, script):
        if path and _is_program(path):
            return shlex.quote(_shown(path, cwd))
    python = "python" if _is_this_python(shutil.which("python")) else shlex.quote(_shown(sys.executable, cwd))
    return f"{python} -m balancer.cli"


def _folder() -> Path:
    try:
        return Path.cwd()
    except OSError:  # somebody removed it: then every path is shown whole
        return Path("/")


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _is_this_python(found: str | None) -> bool:
    return found is not None and os.path.abspath(found) == os.path.abspath(sys.executable)


def _shown(path: str, cwd: Path) -> str:
    """Return `path` as it is typed in `cwd`: relative where it lies below, else whole."""
    whole = os.path.abspath(path)
    below = os.path.relpath(whole, cwd) if whole.startswith(f"{cwd}{os.sep}") else whole
    return below if os.sep in below else f".{os.sep}{below}"
