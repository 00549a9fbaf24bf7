"""Where the configuration comes from, and who wins: flag, environment, file, default."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from balancer.config import envfile, keys, paths
from balancer.config.addresses import is_loopback
from balancer.config.credential_commands import CredentialCommands
from balancer.config.credentials import KEY_LENGTH, is_guessable
from balancer.config.model import Settings
from balancer.config.problem import ConfigError, Problem, Unreadable
from balancer.config.quoting import Quoting
from balancer.config.reading import Config, parse
from balancer.config.wording import plainly
from balancer.redact import secrets_in_url, secrets_of

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


@dataclass(frozen=True, slots=True)
class Source:
    """A configuration as bytes: what was on disk at one moment. It can be handed to another process."""

    path: str | None
    """Where it lies; None: nowhere, it is the embedded one."""
    data: bytes = field(repr=False)
    mode: int = 0
    env: envfile.EnvBytes = field(default_factory=envfile.EnvBytes)
    """The `.env` beside it."""


def taken(path: Path | None) -> Source:
    """Return what is on disk now; None: the embedded configuration. Raises `ConfigError`."""
    if path is None:
        return Source(None, EMBEDDED.encode())
    data, mode = _bytes(path)
    return Source(str(path), data, mode, envfile.taken(envfile.beside(path)))


def load(path: Path, env: Mapping[str, str], credential_commands: CredentialCommands | None = None) -> Config:
    """Return what the file at `path` says, with the values of the `.env` beside it. Raises `ConfigError`.

    Without `credential_commands` no program is run for a key.
    """
    return parsed(taken(path), env, credential_commands)


def parsed(source: Source, env: Mapping[str, str], credential_commands: CredentialCommands | None = None) -> Config:
    """Return what a source says. Raises `ConfigError`."""
    if source.path is None:
        return embedded(env)
    path, data, mode = Path(source.path), source.data, source.mode
    more = envfile.parsed(source.env, env, envfile.beside(path))
    origins = {name: (envfile.NAME, line) for name, line in more.lines.items() if name not in env}
    named = {name.decode() for name in re.findall(rb"\$\{(\w+)", data) if name.isascii()}
    try:
        config = parse(data, path.name, {**more.values, **env}, path, origins, credential_commands)
    except ConfigError as error:
        missing = named - more.values.keys() - env.keys()
        raise ConfigError([*error.problems, *(more.problems if missing else ())], error.watched) from None
    warnings = list(config.warnings)
    others_can = paths.open_to_others(mode, path)
    if "read" in others_can and (line := _line_of_a_key(data, config)):
        words = f"here is a key, and others on this machine can read the file; run: chmod 600 {path.name}"
        warnings.append(Problem(path.name, line, words, warning=True))
    if "change" in others_can:
        words = f"others on this machine can change the file, and so where keys are sent; run: chmod go-w {path.name}"
        warnings.append(Problem(path.name, 1, words, warning=True))
    if named & more.values.keys():
        warnings += more.problems
    return replace(config, warnings=tuple(warnings))


def _bytes(path: Path) -> tuple[bytes, int]:
    """Return what the file holds, and its mode."""
    try:
        return path.read_bytes(), path.stat().st_mode
    except FileNotFoundError:
        raise ConfigError([Problem(str(path), 0, "there is no such file")]) from None
    except IsADirectoryError:
        raise ConfigError([Problem(str(path), 0, "this is a folder, not a file")]) from None
    except OSError as error:
        raise Unreadable([Problem(str(path), 0, f"the file can't be read: {error.strerror}")]) from None


def _line_of_a_key(data: bytes, config: Config) -> int | None:
    """Return the first line on which a key stands literally."""
    providers = [p for p in config.providers.values() if not is_loopback(p.origin.host)]
    auth = config.settings.auth
    secrets = [secret for provider in providers for secret in secrets_of(provider)]
    secrets += (*auth.secrets, *secrets_in_url(config.settings.usage))
    places = [data.find(secret.encode()) for secret in secrets]
    first = min((place for place in places if place >= 0), default=None)
    return None if first is None else data.count(b"\n", 0, first) + 1


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
    return next((folder / FILE for folder in (cwd, *_checkout()) if (folder / FILE).is_file()), None)


def _checkout() -> tuple[Path, ...]:
    """Return the folder of the project, if this is a checkout: an installed package lies beside nothing of users'."""
    folder = Path(__file__).resolve().parents[3]
    return (folder,) if (folder / "pyproject.toml").is_file() else ()


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
        settings = Settings.model_validate({**config.settings.model_dump(by_alias=True), **given})
    except ValidationError as error:
        raise ConfigError(list(_in_words(error, names))) from None
    auth = settings.auth
    if not is_loopback(settings.host) and any(
        map(is_guessable, (*auth.secrets, *(key.secret for key in config.named_keys if key.secret)))
    ):
        place = "environment" if "host" in names and flags.get("host") is None else "command line"
        words = (
            f"host {settings.host} can be reached by others, and a key in settings.auth can be guessed: "
            f"use {KEY_LENGTH} random characters or more; balancer key new prints one"
        )
        raise ConfigError([Problem(place, 0, words)])
    return replace(config, settings=settings)


def _is_machines_name(variable: str, value: str) -> bool:
    """Say whether a shell has set `HOST` to this machine's own name, as some do: nobody meant the balancer by it."""
    node = platform.node().lower()
    return variable == "HOST" and value.lower() in (node, node.partition(".")[0])


def _in_words(error: ValidationError, sources: Mapping[str, str]) -> Iterator[Problem]:
    quoting = Quoting()
    for fault in error.errors(include_url=False):
        key = str(fault["loc"][0])
        said = quoting.say(*plainly(fault, Settings, fault["loc"]))
        if key in sources:
            said = f"{sources[key]}: {said.removeprefix(f'{key} ')}"
        yield Problem("environment" if key in sources else "command line", 0, said)


NEEDS_RESTART = ("host", "port", "reuse_port", "log_file", "usage")
"""Settings that are used once, when the balancer starts; `log_file` and `usage`: when a process of it does."""


def needs_restart(started: Settings, now: Settings) -> tuple[str, ...]:
    """Return the settings that are not as they were at the start and that only a restart brings into effect."""
    return tuple(key for key in NEEDS_RESTART if getattr(started, key) != getattr(now, key))


def changes(old: Config, new: Config) -> Iterator[str]:
    """Say in words what is different and in effect; no values, they may be secret."""
    quoting = Quoting()

    def named(name: str) -> str:
        return f"provider '{name}'" if quoting.may_show(name) else "a provider"

    for name in old.providers.keys() - new.providers.keys():
        yield f"{named(name)} removed"
    for name in new.providers.keys() - old.providers.keys():
        yield f"{named(name)} added"
    for name in sorted(old.providers.keys() & new.providers.keys()):
        if old.providers[name] != new.providers[name]:
            yield f"{named(name)} changed"
    if old.routes != new.routes:
        yield "model_routes changed"
    for name, what in keys.changed(old.named_keys, new.named_keys):
        yield f"key '{name}' {what}" if quoting.may_show(name) else f"a key {what}"
    if old.tls and new.tls and old.tls.digest != new.tls.digest:
        yield "settings.tls: other certificates"
    waiting = needs_restart(old.settings, new.settings)
    for key in Settings.model_fields:
        if key not in waiting and getattr(old.settings, key) != getattr(new.settings, key):
            yield f"settings.{key} changed"


def lost(old: Config, new: Config) -> Problem | None:
    """Return a warning if more than half of the providers are not there any more: the file may be only half written."""
    gone = len(old.providers.keys() - new.providers.keys())
    if 2 * gone <= len(old.providers):
        return None
    file = new.path.name if new.path else "embedded"
    words = (
        f"{gone} of the {len(old.providers)} providers are gone; if that is not meant, the file was not written whole"
    )
    return Problem(file, 0, words, warning=True)
