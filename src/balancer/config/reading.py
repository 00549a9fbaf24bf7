"""providers.yaml -> Config, or every problem with its line."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

from balancer.config import addresses, credentials, paths, prices, words
from balancer.config.checking import MISPLACED, Checker
from balancer.config.credential_commands import Command, CredentialCommands
from balancer.config.document import Document, Path
from balancer.config.keys import NamedKey, NamedKeys
from balancer.config.loading import collecting_nothing
from balancer.config.model import Settings
from balancer.config.problem import ConfigError, Problem
from balancer.config.providers import Providers, names_of
from balancer.config.quoting import Theirs, is_keylike
from balancer.config.routes import Routes
from balancer.config.tls import Certificates, ServerTls
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
    tls: ServerTls | None = None
    """Of `settings.tls`."""
    prices: tuple[Mapping[str, Price], ...] = ()
    """Prices by pattern of model: the user's own, then those that ship with the balancer."""
    path: FilePath | None = None
    digest: str = ""
    """Of the file's bytes, the values that came from the environment, and the files that it names."""
    warnings: tuple[Problem, ...] = field(default=())
    watched: tuple[FilePath, ...] = ()
    """Other files that it names: those of secrets and certificates."""
    commands: Mapping[str, Command] = field(default_factory=dict)
    """The programs that print the keys of providers, by the providers' names."""


def parse(
    text: str | bytes,
    file: str,
    env: Mapping[str, str],
    path: FilePath | None = None,
    origins: Mapping[str, tuple[str, int]] | None = None,
    credential_commands: CredentialCommands | None = None,
) -> Config:
    """Return what `text` says. Raises `ConfigError` with all that is wrong with it.

    `origins` names the file and line of variables that come from another file (`.env`). Without
    `credential_commands` no program is run for a key: the providers have none then.
    """
    with collecting_nothing():
        return _parsed(text, file, env, path, origins or {}, credential_commands)


def _parsed(
    text: str | bytes,
    file: str,
    env: Mapping[str, str],
    path: FilePath | None,
    origins: Mapping[str, tuple[str, int]],
    credential_commands: CredentialCommands | None,
) -> Config:
    """Do what `parse` does. What it makes on the way is gone when it returns."""
    document = Document(file, env, path.absolute().parent if path is not None else None, credential_commands)
    document.read(text)
    checker = Checker(document, origins)
    try:
        config = _config(checker)
    except ConfigError as error:
        raise ConfigError(error.problems, document.files) from None
    config = replace(
        config,
        path=path,
        digest=_digest(document, text),
        warnings=tuple(checker.warnings),
        watched=tuple(document.files),
        commands=document.commands,
    )
    document.close()
    return config


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
    tls = Certificates(checker).of_server(settings.tls, ("settings", "tls"))
    all_prices = (*_own_prices(settings, checker), prices.shipped())
    config = replace(config, named_keys=named, tls=tls, prices=all_prices)
    _check_judge(config, names_of(listed) if isinstance(listed, list) else (), checker)
    disabled = providers.disabled(root.get("providers"))
    for note in document.notes:
        if not (note.variable and note.path[:1] == ("providers",) and note.path[1] in disabled):
            checker.add(note.path, note.message, note.variable)
    if not checker.problems:
        routes.weigh(config.providers, config.routes, settings.passthrough_to)
    if checker.problems:
        raise ConfigError(checker.odd_lines() or checker.problems)
    return config


def _check_judge(config: Config, names: Collection[object], checker: Checker) -> None:
    """Tell why `settings.safety_judge` can't be asked."""
    judge = config.settings.safety_judge
    if judge is None:
        return
    at: Path = ("settings", "safety_judge")
    if judge.provider not in names:
        guess = checker.guess(judge.provider, names)
        checker.tell((*at, "provider"), "there is no provider ", Theirs(judge.provider), *guess)
    provider = config.providers.get(judge.provider)
    if provider is not None and provider.type != "anthropic":
        said = f"the judge must be a provider of type anthropic; this one is of type {provider.type}"
        checker.tell((*at, "provider"), said)
    elif provider is not None and not provider.enabled:
        checker.tell((*at, "provider"), "this provider is not enabled, so it can't be the judge")
    elif provider is not None and provider.passthrough:
        said = "the judge needs a key of its own: auth_value of this provider is passthrough"
        checker.tell((*at, "provider"), said)
    if is_keylike(judge.model):
        checker.tell((*at, "model"), MISPLACED)
    elif "claude" not in judge.model.lower():
        checker.tell((*at, "model"), "the judge must be a Claude model, by its whole name: model: claude-sonnet-5-5")


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
