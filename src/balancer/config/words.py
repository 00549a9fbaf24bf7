"""The words of the configuration, and the words that other proxies use for the same things."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, get_args

from pydantic import BaseModel

from balancer import dialects
from balancer.config.model import ProviderEntry, Settings, TargetEntry

SECTIONS: Final = ("providers", "model_routes", "settings")
TYPES: Final = ("anthropic", "openai", "zed", "simulated")
"""The types that the documentation names; each may have its `<type>_config` in any entry."""

TIERS: Final = {"opus": "*opus*", "sonnet": "*sonnet*", "haiku": "*haiku*", "default": "*"}
"""Short forms of patterns in `model_routes`."""

NO_KEY: Final = "none"
PASSTHROUGH: Final = "passthrough"

_PLAIN = ("true", "false", "null", "none", "yes", "no", "on", "off", "model", "models", "status", "delay", "simulated")
_COMMON = ("provider", "password", "bearer", "authorization", "localhost", "https", "http", "socks5", "socks5h")

ASIDE: Mapping[str, str] = {
    "apikey": "auth_value",
    "apikeys": "auth_value",
    "apikeyenv": "auth_value",
    "apitoken": "auth_value",
    "accesstoken": "auth_value",
    "authtoken": "auth_value",
    "authkey": "auth_value",
    "auth": "auth_value",
    "key": "auth_value",
    "keys": "auth_value",
    "token": "auth_value",
    "secret": "auth_value",
    "secretkey": "auth_value",
    "password": "auth_value",
    "bearer": "auth_value",
    "bearertoken": "auth_value",
    "credential": "auth_value",
    "credentials": "auth_value",
    "anthropicapikey": "auth_value",
    "anthropicauthtoken": "auth_value",
    "openaiapikey": "auth_value",
    "authorization": "auth_value",
    "xapikey": "auth_value",
    "apikeyfile": "auth_value_file",
    "keyfile": "auth_value_file",
    "tokenfile": "auth_value_file",
    "secretfile": "auth_value_file",
    "authfile": "auth_value_file",
    "apikeyhelper": "auth_value_command",
    "apikeycommand": "auth_value_command",
    "keycommand": "auth_value_command",
    "tokencommand": "auth_value_command",
    "authcommand": "auth_value_command",
    "url": "base_url",
    "uri": "base_url",
    "baseuri": "base_url",
    "apibase": "base_url",
    "apibaseurl": "base_url",
    "apiurl": "base_url",
    "apiendpoint": "base_url",
    "endpoint": "base_url",
    "address": "base_url",
    "host": "base_url",
    "server": "base_url",
    "anthropicbaseurl": "base_url",
    "kind": "type",
    "protocol": "type",
    "vendor": "type",
    "provider": "type",
    "providertype": "type",
    "apitype": "type",
    "format": "type",
    "customllmprovider": "type",
    "id": "name",
    "label": "name",
    "title": "name",
    "providername": "name",
    "authmethod": "auth_type",
    "authscheme": "auth_type",
    "authheader": "auth_type",
    "proxyurl": "proxy",
    "httpproxy": "proxy",
    "httpsproxy": "proxy",
    "timeout": "request_timeout",
    "timeouts": "request_timeout",
    "timeoutms": "request_timeout",
    "apitimeoutms": "request_timeout",
    "timeoutseconds": "request_timeout",
    "streamtimeout": "stream_idle_timeout",
    "maxparallelrequests": "max_in_flight",
    "maxconcurrency": "max_in_flight",
    "maxconcurrentrequests": "max_in_flight",
    "concurrency": "max_in_flight",
    "extraheaders": "headers",
    "customheaders": "headers",
    "defaultheaders": "headers",
    "cafile": "ca_file",
    "cabundle": "ca_file",
    "sslverify": "ca_file",
    "verifyssl": "ca_file",
}
"""Keys of a provider as other proxies call them, without `_` and `-`, and what they are called here."""

ASIDE_SETTINGS: Mapping[str, str] = {
    "strategy": "selection_strategy",
    "routingstrategy": "selection_strategy",
    "loadbalancing": "selection_strategy",
    "loadbalancer": "selection_strategy",
    "lbstrategy": "selection_strategy",
    "cooldown": "failure_cooldown",
    "cooldowntime": "failure_cooldown",
    "timeout": "request_timeout",
    "apitimeoutms": "request_timeout",
    "bind": "host",
    "address": "host",
    "listen": "host",
    "masterkey": "auth",
    "apikey": "auth",
    "apikeys": "auth",
    "keys": "auth",
    "loglevel": "log_level",
    "verbosity": "log_level",
    "logfile": "log_file",
    "logpath": "log_file",
    "dedup": "deduplication",
    "stickysessions": "sticky",
    "sessionaffinity": "sticky",
}

ASIDE_TARGET: Mapping[str, str] = {
    "name": "provider",
    "providername": "provider",
    "target": "provider",
    "backend": "provider",
    "modelname": "model",
    "order": "priority",
    "prio": "priority",
    "share": "weight",
    "contextlength": "context_window",
    "maxcontexttokens": "context_window",
}

ASIDE_SECTIONS: Mapping[str, str] = {
    "provider": "providers",
    "backends": "providers",
    "endpoints": "providers",
    "upstreams": "providers",
    "accounts": "providers",
    "modellist": "providers and model_routes",
    "models": "model_routes",
    "routes": "model_routes",
    "routing": "model_routes",
    "router": "model_routes",
    "modelmap": "model_routes",
    "modelmapping": "model_routes",
    "modelaliases": "model_routes",
    "config": "settings",
    "server": "settings",
    "general": "settings",
    "generalsettings": "settings",
    "routersettings": "settings",
    "litellmsettings": "settings",
}

NOTES: Mapping[str, str] = {
    "models": "which models a provider gets is said in model_routes: "
    '"*sonnet*": [{provider: NAME, model: MODEL-OF-THE-PROVIDER}]',
    "model": "which model a provider gets is said in model_routes: "
    '"*sonnet*": [{provider: NAME, model: MODEL-OF-THE-PROVIDER}]',
    "retries": "there is no such key: when a provider fails, the next target of the route is asked",
    "maxretries": "there is no such key: when a provider fails, the next target of the route is asked",
    "numretries": "there is no such key: when a provider fails, the next target of the route is asked",
    "fallbacks": "there is no such key: a route's targets in model_routes are tried in the order of their priority",
    "fallback": "there is no such key: a route's targets in model_routes are tried in the order of their priority",
    "priority": "it belongs to a target in model_routes: {provider: NAME, priority: 1}",
    "weight": "it belongs to a target in model_routes: {provider: NAME, weight: 1}",
    "transformer": "there is no such key: the type says how to convert (anthropic, openai, zed)",
    "transformers": "there is no such key: the type says how to convert (anthropic, openai, zed)",
    "disabled": "write enabled: false",
    "disable": "write enabled: false",
    "active": "write enabled: true or enabled: false",
    "rpm": "there is no such key; max_in_flight limits how many requests run at once",
    "tpm": "there is no such key; max_in_flight limits how many requests run at once",
}
"""Keys that have no counterpart in the same place, and what to do instead."""

CHOICES: Mapping[str, Mapping[str, str]] = {
    "auth_type": {
        "bearer": "auth_token",
        "token": "auth_token",
        "oauth": "auth_token",
        "authorization": "auth_token",
        "authtoken": "auth_token",
        "key": "api_key",
        "apikey": "api_key",
        "xapikey": "api_key",
        "header": "api_key",
        "header_key": "api_key",
    },
    "selection_strategy": {
        "roundrobin": "round_robin",
        "rr": "round_robin",
        "simpleshuffle": "random",
        "shuffle": "random",
        "leastbusy": "least_busy",
        "leastconnections": "least_busy",
        "leastconn": "least_busy",
        "latency": "fastest",
        "latencybasedrouting": "fastest",
        "lowestlatency": "fastest",
        "failover": "priority",
        "fallback": "priority",
        "ordered": "priority",
        "weight": "weighted",
    },
    "log_level": {"warn": "WARNING", "trace": "DEBUG", "verbose": "DEBUG", "fatal": "CRITICAL", "err": "ERROR"},
    "type": {
        "claude": "anthropic",
        "messages": "anthropic",
        "openaicompatible": "openai",
        "openaicompat": "openai",
        "openailike": "openai",
        "gpt": "openai",
        "chatgpt": "openai",
        "azure": "openai",
        "openrouter": "openai",
        "deepseek": "openai",
        "gemini": "openai",
        "google": "openai",
        "ollama": "openai",
        "vllm": "openai",
        "lmstudio": "openai",
        "llamacpp": "openai",
        "mistral": "openai",
        "groq": "openai",
        "xai": "openai",
        "fake": "simulated",
        "mock": "simulated",
        "test": "simulated",
    },
    "on_broken_stream": {"error": "error_event", "event": "error_event", "close": "abort", "default": "auto"},
}
"""Values as others call them, without `_` and `-`."""


def folded(word: str) -> str:
    """Return a key without case, `_`, `-` and blanks: `API-Key`, `apiKey` and `api_key` are the same."""
    return word.lower().replace("_", "").replace("-", "").replace(" ", "")


def aside(word: str, model: type[BaseModel] | None) -> tuple[str | None, str | None]:
    """Return what a key of another proxy is called in `model` (None: at the top of the file), and a note on it."""
    tables: dict[type[BaseModel] | None, Mapping[str, str]] = {
        ProviderEntry: ASIDE,
        Settings: ASIDE_SETTINGS,
        TargetEntry: ASIDE_TARGET,
        None: ASIDE_SECTIONS,
    }
    key = folded(word)
    ours = tables.get(model, {}).get(key)
    if ours is not None:
        return ours, None
    return None, NOTES.get(key) if model in (ProviderEntry, Settings) else None


def elsewhere(word: str, model: type[BaseModel] | None) -> str | None:
    """Say in which part of the file a key belongs that does not belong into `model`."""
    homes: tuple[tuple[type[BaseModel], str], ...] = (
        (ProviderEntry, "belongs to an entry of providers, beside its name"),
        (Settings, "belongs below settings"),
        (TargetEntry, "belongs to a target in model_routes"),
    )
    if word in SECTIONS and model is not None:
        return "begins at the left margin of the file"
    for home, said in homes:
        if home is not model and word in home.model_fields:
            return said
    return None


@cache
def known() -> frozenset[str]:
    """Return every word that may be quoted wherever it stands: keys, values of choices, types, others' words."""
    found = {NO_KEY, PASSTHROUGH, *SECTIONS, *TYPES, *dialects.names(), *TIERS, *_PLAIN, *_COMMON}
    models: list[type[BaseModel]] = [ProviderEntry, TargetEntry, Settings]
    models += [dialects.get(name).Options for name in dialects.names()]
    for model in models:
        found |= set(_words_of(model))
    found |= {f"{name}_config" for name in (*TYPES, *dialects.names())}
    for table in (ASIDE, ASIDE_SETTINGS, ASIDE_TARGET, ASIDE_SECTIONS, NOTES, *CHOICES.values()):
        found |= set(table)
    found |= {
        "api_key",
        "api-key",
        "apiKey",
        "x-api-key",
        "auth_token",
        "access_token",
        "api_base",
        "api_url",
        "base-url",
    }
    return frozenset(found)


def _words_of(model: type[BaseModel]) -> Iterator[str]:
    for name, info in model.model_fields.items():
        yield info.alias or name
        yield from _choices(info.annotation)


def _choices(annotation: Any) -> Iterator[str]:
    """Return the strings of every `Literal`, and the words of every part, inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _words_of(annotation)
    for inner in get_args(annotation):
        if isinstance(inner, str):
            yield inner
        else:
            yield from _choices(inner)


def choices_of(model: type[BaseModel], key: str) -> tuple[str, ...]:
    """Return the values that a key of `model` may have, where it is a choice among words."""
    info = next((info for name, info in model.model_fields.items() if (info.alias or name) == key), None)
    return tuple(_choices(info.annotation)) if info is not None else ()


def keys_of(model: type[BaseModel]) -> list[str]:
    """Return the keys of a part, as they stand in the file."""
    return [info.alias or name for name, info in model.model_fields.items()]
