"""`balancer serve --to URL`: the configuration of one provider, written from flags."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from balancer.config.addresses import is_loopback, is_plain_to_others
from balancer.config.quoting import is_keylike

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHOWN = re.compile(r"[A-Z_][A-Z0-9_]{0,100}")
"""What is surely a variable's name; anything else may be a key that was entered in its place."""


class Unfit(Exception):
    """The flags do not say enough; `str(error)` says what is missing, and never quotes a key."""


def written(url: str, key_env: str | None, kind: str | None, model: str | None, env: Mapping[str, str]) -> str:
    """Return the providers.yaml that these flags stand for. The key stays in the environment. Raises `Unfit`."""
    kind = kind or type_of(url)
    provider = {"name": name_of(url), "type": kind, "base_url": url}
    if key := _key(url, key_env, env):
        provider["auth_value"] = key
    if kind == "anthropic":
        provider["auth_type"] = "api_key" if _host(url) == "api.anthropic.com" else "auth_token"
    target = {"provider": provider["name"], "model": model or "passthrough"}
    file: dict[str, object] = {"providers": [provider], "model_routes": {"*": [target]}}
    if is_plain_to_others(url):
        file["settings"] = {"allow_http": True}  # whoever types such an address means it; a key is warned of
    return json.dumps(file, indent=1)


def _key(url: str, key_env: str | None, env: Mapping[str, str]) -> str | None:
    if key_env is None:
        if is_loopback(_host(url)):
            return None  # a server on this machine asks for no key
        raise Unfit("--key-env VAR is missing: the name of the environment variable that holds the provider's key")
    if not _NAME.fullmatch(key_env) or is_keylike(key_env):
        raise Unfit("--key-env takes the name of an environment variable, not the key itself")
    if not env.get(key_env, "").strip():
        raise Unfit(
            f"the environment variable {key_env} is not set; set it to the provider's key: export {key_env}=..."
            if _SHOWN.fullmatch(key_env)
            else "the environment variable that --key-env names is not set; it takes a name, not the key itself"
        )
    return f"${{{key_env}}}"


def type_of(url: str) -> str:
    """Guess how a provider is spoken to, by its URL. Most services name their API's model in host or path."""
    host, path = _host(url), _path(url)
    if host.endswith("zed.dev"):
        return "zed"
    if "anthropic" in f"{host}{path}":
        return "anthropic"
    if "openai" in f"{host}{path}" or re.search(r"/v\d+\w*/?$", path) or is_loopback(host):
        return "openai"
    return "anthropic"


def name_of(url: str) -> str:
    """Return a name for the provider: `deepseek` for `https://api.deepseek.com/anthropic`."""
    host = _host(url)
    if is_loopback(host):
        return "local"
    labels = [label for label in host.split(".") if re.fullmatch(r"[a-z0-9-]+", label)]
    word = labels[-2] if len(labels) > 1 and not labels[-1].isdecimal() else ""
    return word.strip("-")[:60] or "provider"


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _path(url: str) -> str:
    try:
        return urlsplit(url).path.lower()
    except ValueError:
        return ""
