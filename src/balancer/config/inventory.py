"""What of a configuration must never be shown."""

from __future__ import annotations

from balancer.config.reading import Config
from balancer.redact import Inventory, secrets_in_url, secrets_of


def secrets(config: Config) -> dict[str, None]:
    """Return every secret of a configuration, in the order of the file."""
    ours = (*config.settings.auth.secrets, *(key.secret for key in config.named_keys if key.secret))
    theirs = (secret for provider in config.providers.values() for secret in secrets_of(provider))
    return dict.fromkeys((*ours, *secrets_in_url(config.settings.usage), *theirs))


def public(config: Config) -> list[str]:
    """Return the names in a configuration: clients are told of them, so none is a secret."""
    names = [name for provider in config.providers.values() for name in (provider.name, provider.type)]
    names += [target.model for route in config.routes for target in route.targets]
    return [*names, *(route.pattern for route in config.routes)]


def without_secrets(text: str, config: Config) -> str:
    """Return a text as it may be shown to somebody who need not know the secrets of the configuration."""
    known = Inventory(secrets(config), public(config))
    return known.without(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
