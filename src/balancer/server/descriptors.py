"""How many files and connections the process may have open at once."""

from __future__ import annotations

import importlib
from typing import Any

ENOUGH = 1_048_576
"""More is never asked for: some systems keep a table of this size."""

UNKNOWN = 1024
"""What is taken to be the limit where the system does not say, as Windows does not."""


def raised() -> int:
    """Raise the process's own limit as far as the system allows, and return it.

    A shell's usual limit of 1024 is meant for programs that hold few connections.
    """
    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:
        return UNKNOWN
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return ENOUGH if soft == resource.RLIM_INFINITY else int(soft)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return int(soft)
    return int(wanted)
