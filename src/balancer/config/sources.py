"""Where the configuration comes from, and who wins: flag, environment, file, default."""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from balancer.config.model import Settings
from balancer.config.problem import ConfigError, Problem
from balancer.config.reading import Config, parse, plainly

FILE = "providers.yaml"

EMBEDDED = """\
providers:
  - {name: "simulated-a", type: "simulated", simulated_config: {latency: 0.2, speed: 60}}
  - {name: "simulated-b", type: "simulated", simulated_config: {latency: 0.3, speed: 60}}
  - {name: "simulated-c", type: "simulated", simulated_config: {latency: 0.4, speed: 60}}
model_routes:
  "*":
    - {provider: "simulated-a", model: "passthrough", priority: 1}
    - {provider: "simulated-b", model: "passthrough", priority: 2}
    - {provider: "simulated-c", model: "passthrough", priority: 3}
settings: {drills: true}
"""
"""What is served where there is no file: nothing real, so that everything can be tried."""


def load(path: Path, env: Mapping[str, str]) -> Config:
    """Return what the file at `path` says. Raises `ConfigError`."""
    try:
        data = path.read_bytes()
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise ConfigError([Problem(str(path), 0, "there is no such file")]) from None
    except IsADirectoryError:
        raise ConfigError([Problem(str(path), 0, "this is a folder, not a file")]) from None
    except OSError as error:
        raise ConfigError([Problem(str(path), 0, f"the file can't be read: {error.strerror}")]) from None
    config = parse(data, path.name, env, path)
    places = [data.find(p.secret.encode()) for p in config.providers.values() if p.secret]
    literal = min((place for place in places if place >= 0), default=None)
    if literal is not None and os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        words = f"here is a key, and others on this machine can read the file; run: chmod 600 {path.name}"
        line = data.count(b"\n", 0, literal) + 1
        config = replace(config, warnings=(*config.warnings, Problem(path.name, line, words)))
    return config


def find(explicit: str | None, env: Mapping[str, str], cwd: Path) -> Path | None:
    """Return the file to use: the one named, else `providers.yaml` here or beside the project, else None.

    Raises `ConfigError` when one was named and is not there.
    """
    named = explicit or env.get("BALANCER_CONFIG")
    if named:
        path = Path(named).expanduser()
        path = path if path.is_absolute() else cwd / path
        if not path.exists():
            source = "--config" if explicit else "BALANCER_CONFIG"
            raise ConfigError([Problem(named, 0, f"there is no such file; {source} names it")])
        return path
    beside = Path(__file__).resolve().parents[3]
    return next((folder / FILE for folder in (cwd, beside) if (folder / FILE).is_file()), None)


def embedded(env: Mapping[str, str]) -> Config:
    """Return the configuration that is used where there is no file."""
    return parse(EMBEDDED, "embedded", env)


_ENVIRONMENT = (
    ("LOG_LEVEL", "log_level"),
    ("LOG_COLOR", "log_color"),
    ("HOST", "host"),
    ("PORT", "port"),
    ("BALANCER_HOST", "host"),
    ("BALANCER_PORT", "port"),
)
"""Variables and the settings that they override; of two for one setting, the later one wins."""


def override(config: Config, env: Mapping[str, str], **flags: object) -> Config:
    """Return `config` with the environment's and then the flags' values over it. Raises `ConfigError`."""
    names = {key: name for name, key in _ENVIRONMENT if env.get(name) and not _is_machines_name(name, env[name])}
    given: dict[str, object] = {key: env[name] for key, name in names.items()}
    given |= {key: value for key, value in flags.items() if value is not None}
    if not given:
        return config
    try:
        settings = Settings.model_validate({**config.settings.model_dump(), **given})
    except ValidationError as error:
        problems = [
            Problem(
                "environment", 0, f"{names.get(str(fault['loc'][0]), '')}: {plainly(fault, Settings, fault['loc'])}"
            )
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError(problems) from None
    return replace(config, settings=settings)


def _is_machines_name(variable: str, value: str) -> bool:
    """Say whether a shell has set `HOST` to this machine's own name, as some do: nobody meant the balancer by it."""
    node = platform.node().lower()
    return variable == "HOST" and value.lower() in (node, node.partition(".")[0])


def changes(old: Config, new: Config) -> Iterator[str]:
    """Say in words what is different; no values, they may be secret."""
    for name in old.providers.keys() - new.providers.keys():
        yield f"provider '{name}' removed"
    for name in new.providers.keys() - old.providers.keys():
        yield f"provider '{name}' added"
    for name in sorted(old.providers.keys() & new.providers.keys()):
        if old.providers[name] != new.providers[name]:
            yield f"provider '{name}' changed"
    if old.routes != new.routes:
        yield "model_routes changed"
    for key in Settings.model_fields:
        if getattr(old.settings, key) != getattr(new.settings, key):
            yield f"settings.{key} changed"
