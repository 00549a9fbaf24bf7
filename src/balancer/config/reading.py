"""providers.yaml -> Config, or every problem with its line."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

from balancer.config import addresses, credentials, paths, prices, words
from balancer.config.checking import MISPLACED, Checker
from balancer.config.document import Document, Path
from balancer.config.keys import NamedKey, NamedKeys
from balancer.config.model import Settings
from balancer.config.problem import ConfigError, Problem
from balancer.config.providers import Providers, names_of
from balancer.config.quoting import is_keylike
from balancer.config.routes import Routes
from balancer.config.wording import unknown_key
from balancer.model import Provider, Route
from balancer.policy.prices import Price


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a file says. Frozen: a reload makes a new one."""

    providers: Mapping[str, Provider]
    routes: tuple[Route, ...]
    settings: Settings
    named_keys: tuple[NamedKey, ...] = ()
    """Of `settings.auth.keys` those with names."""
    prices: tuple[Mapping[str, Price], ...] = ()
    """Prices by pattern of model: the user's own, then those that ship with the balancer."""
    path: FilePath | None = None
    digest: str = ""
    """Of the file's bytes and the values that came from the environment."""
    warnings: tuple[Problem, ...] = field(default=())


def parse(
    text: str | bytes,
    file: str,
    env: Mapping[str, str],
    path: FilePath | None = None,
    origins: Mapping[str, tuple[str, int]] | None = None,
) -> Config:
    """Return what `text` says. Raises `ConfigError` with all that is wrong with it.

    `origins` names the file and line of variables that come from another file (`.env`).
    """
    document = Document(file, env)
    document.read(text)
    checker = Checker(document, origins or {})
    config = _config(checker)
    return replace(config, path=path, digest=_digest(document, text), warnings=tuple(checker.warnings))


def _config(checker: Checker) -> Config:
    document, root = checker.document, checker.document.value
    if not isinstance(root, dict):
        said = "the file must be a mapping with providers and model_routes: providers: [...], model_routes: {...}"
        raise ConfigError([document.problem((), said)])
    for key in root:
        if key not in words.SECTIONS:
            checker.add((key,), unknown_key(key, None))
    settings = _settings(root.get("settings"), checker)
    providers, routes = Providers(checker), Routes(checker)
    config = Config(providers.read(root, settings), routes.read(root), settings)
    listed = root.get("providers")
    named = NamedKeys(checker).read(settings, names_of(listed) if isinstance(listed, list) else config.providers)
    config = replace(config, named_keys=named, prices=(*_own_prices(settings, checker), prices.shipped()))
    disabled = providers.disabled(root.get("providers"))
    for note in document.notes:
        if not (note.variable and note.path[:1] == ("providers",) and note.path[1] in disabled):
            checker.add(note.path, note.message, note.variable)
    if not checker.problems:
        routes.weigh(config.providers, config.routes, settings.passthrough_to)
    if checker.problems:
        raise ConfigError(checker.odd_lines() or checker.problems)
    return config


def _own_prices(settings: Settings, checker: Checker) -> tuple[Mapping[str, Price], ...]:
    if settings.prices is None:
        return ()
    try:
        text, found = prices.read(FilePath(settings.prices).expanduser())
    except OSError as error:
        checker.tell(("settings", "prices"), f"prices can't be read: {error.strerror}")
        return ()
    except ValueError as error:
        checker.tell(("settings", "prices"), f"prices: {error}")
        return ()
    checker.document.expanded.append(hashlib.blake2b(text).hexdigest())  # a changed file is a changed configuration
    return (found,)


def _digest(document: Document, text: str | bytes) -> str:
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    put_in = "\0".join(document.expanded).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(raw + b"\0" + put_in, digest_size=16).hexdigest()


def _settings(value: Any, checker: Checker) -> Settings:
    settings = Settings() if value is None else checker.checked(Settings, value, ("settings",)) or Settings()
    for kind in ("keys", "admin_keys"):
        for index, key in enumerate(getattr(settings.auth, kind)):
            if not isinstance(key, str):  # `NamedKeys` looks at those with names
                continue
            at: Path = ("settings", "auth", kind, index)
            if credentials.is_guessable(key) and not addresses.is_loopback(settings.host):
                checker.tell(at, credentials.GUESSABLE)
            elif odd := credentials.gate_oddity(key):
                checker.warn(at, odd)
    checker.look_at_times(settings, ("settings",))
    log_file = settings.log_file or ""
    shown: dict[Path, str] = {("host",): settings.host, ("log_file",): log_file}
    shown |= {("allowed_hosts", index): host for index, host in enumerate(settings.allowed_hosts)}
    for at, text in shown.items():
        if is_keylike(text):
            checker.tell(("settings", *at), MISPLACED)
    if log_file and (why := paths.not_writable(log_file)):
        checker.warn(("settings", "log_file"), f"log_file can't be written: {why}; name another file, or null for none")
    if not addresses.is_loopback(settings.host) and not settings.auth.keys:
        checker.warn(
            ("settings", "host"),
            "others can reach this address, but without settings.auth.keys only this machine's clients are served",
        )
    return settings
