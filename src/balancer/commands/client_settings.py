"""Claude Code's own settings files: what they set in `env` goes over the environment that it is started with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from balancer.claude_code import BASE_URL, CONFIG_DIR

MAX_BYTES = 1024 * 1024


def of_client(env: Mapping[str, str], cwd: Path) -> tuple[dict[str, str], Path | None]:
    """Return the variables that the client's settings files set, and the file that sets its base URL, if one does."""
    known: dict[str, str] = {}
    source = None
    for path in _files(env, cwd):
        given = _variables(path)
        known |= given
        source = path if BASE_URL in given else source
    return known, source


def _files(env: Mapping[str, str], cwd: Path) -> Iterator[Path]:
    """The files that are read, the strongest last."""
    home = env.get("HOME") or env.get("USERPROFILE")
    if folder := env.get(CONFIG_DIR) or (home and f"{home}/.claude"):
        yield Path(folder) / "settings.json"
    yield cwd / ".claude" / "settings.json"
    yield cwd / ".claude" / "settings.local.json"


def _variables(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            settings = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}  # the client complains of its own files
    given = settings.get("env") if isinstance(settings, dict) else None
    return {name: value for name, value in given.items() if isinstance(value, str)} if isinstance(given, dict) else {}
