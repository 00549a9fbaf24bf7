"""The configuration as a command finds it: flag, environment, file, default, in this order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from balancer import config as configuration
from balancer.config import Config
from balancer.config.credential_commands import CredentialCommands
from balancer.model import Provider
from balancer.redact import shown_url


def found(explicit: str | None) -> Path | None:
    """Return the file that is in force; None: there is none, and the embedded default serves."""
    return configuration.find(explicit, os.environ, Path.cwd())


def read(
    explicit: str | None,
    overrides: Mapping[str, object] | None = None,
    credential_commands: CredentialCommands | None = None,
) -> Config:
    """Return the configuration in force. Raises `ConfigError` with every problem there is.

    Without `credential_commands` no program is run for a provider's key.
    """
    path = found(explicit)
    if path is None:
        config = configuration.embedded(os.environ)
    else:
        config = configuration.load(path, os.environ, credential_commands)
    return configuration.override(config, os.environ, **dict(overrides or {}))


def address(provider: Provider) -> str:
    """Return where a provider is, without a password that somebody may have written into it."""
    if provider.type == "simulated":
        return "inside this process"
    url = shown_url(provider)
    parts = urlsplit(url)
    host = parts.hostname or url.rpartition("@")[2]
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def client_key(config: Config) -> str | None:
    """Return a key by which clients of this balancer are let in; None where it asks for none, or none is known.

    Where there is a choice, it may read the balancer's state too, and is not narrowed to some models.
    """
    if plain := config.settings.auth.plain_keys:
        return plain[0]
    known = [key for key in config.named_keys if key.secret and "messages" in key.rights]
    known.sort(key=lambda key: ("read" not in key.rights, key.expires is not None, bool(key.models or key.providers)))
    return known[0].secret if known else None


def takes_clients_login(config: Config) -> bool:
    """Say whether a provider that is asked gets the client's own credential (`auth_value: passthrough`)."""
    asked = {target.provider for route in config.routes for target in route.targets if target.enabled}
    return any(p.passthrough and p.enabled and p.name in asked for p in config.providers.values())


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 provider`, `2 providers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
