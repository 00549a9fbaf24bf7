"""How a command says that it failed: one prefix for all of them, on stderr."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable

PREFIX = "balancer: error: "


def complain(words: str) -> None:
    """Print an error. `words` say what is wrong and what to do about it."""
    print(f"{PREFIX}{words}", file=sys.stderr)


def notice(words: str) -> None:
    """Print something that is no error and no result: what a command does on the way."""
    print(f"balancer: {words}", file=sys.stderr, flush=True)


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'check'?`, or nothing where no known word is near."""
    near = difflib.get_close_matches(typed[:100], list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
