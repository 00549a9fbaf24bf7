"""providers.yaml -> Config, or every problem with its line."""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import socket
import ssl
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, TypeVar, get_args
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ValidationError

from balancer import dialects
from balancer.config.addresses import is_loopback
from balancer.config.document import Document, Path
from balancer.config.model import ProviderEntry, Settings, TargetEntry
from balancer.config.problem import ConfigError, Problem
from balancer.headers import Headers
from balancer.model import Origin, Provider, Route, Target, Timeouts

M = TypeVar("M", bound=BaseModel)

_SECTIONS = ("providers", "model_routes", "settings")
_TYPES = ("anthropic", "openai", "zed", "simulated")
"""The types that the documentation names; each may have its `<type>_config` in any entry."""

_PROXIES = ("http", "https", "socks5", "socks5h")
_METADATA = frozenset({"fd00:ec2::254", "metadata.google.internal", "100.100.100.200"})
"""Besides every link-local address of IPv4."""

_NOT_TO_BE_SET = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "expect", "te", "trailer", "upgrade"}
)
"""Headers that frame a request: with a second one, it could be read in two ways."""

KEY_LENGTH = 24
"""A gate key shorter than this can be guessed."""
_SAMPLE_KEYS = ("sk-1234", "changeme", "change-me", "password", "example", "test", "your-")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a file says. Frozen: a reload makes a new one."""

    providers: Mapping[str, Provider]
    routes: tuple[Route, ...]
    settings: Settings
    path: FilePath | None = None
    digest: str = ""
    """Of the file's bytes and the values that came from the environment."""
    warnings: tuple[Problem, ...] = field(default=())


def parse(text: str | bytes, file: str, env: Mapping[str, str], path: FilePath | None = None) -> Config:
    """Return what `text` says. Raises `ConfigError` with all that is wrong with it."""
    document = Document(file, env)
    document.read(text)
    return _Reader(document).config(text, path)


class _Reader:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []

    def config(self, text: str | bytes, path: FilePath | None) -> Config:
        root = self._document.value
        if not isinstance(root, dict):
            raise ConfigError(
                [self._document.problem((), "the file must be a mapping with providers and model_routes")]
            )
        for key in root:
            if key not in _SECTIONS:
                self._tell((key,), f"unknown key '{key}'{_did_you_mean(key, _SECTIONS)}")
        settings = self._settings(root.get("settings"))
        providers = self._providers(root.get("providers"), settings)
        routes = self._routes(root.get("model_routes"), root.get("providers"))
        disabled = self._disabled(root.get("providers"))
        for at, message in self._document.problems:
            if not (at[:1] == ("providers",) and at[1:2] and at[1] in disabled and "environment variable" in message):
                self._tell(at, message)
        if self._problems:
            raise ConfigError(self._problems)
        raw = text.encode() if isinstance(text, str) else text
        secrets = "\0".join(provider.secret for provider in providers.values())
        digest = hashlib.blake2b(raw + secrets.encode(), digest_size=16).hexdigest()
        return Config(providers, routes, settings, path, digest, tuple(self._warnings))

    def _tell(self, path: Path, message: str) -> None:
        problem = self._document.problem(path, message)
        if problem not in self._problems:
            self._problems.append(problem)

    def _warn(self, path: Path, message: str) -> None:
        self._warnings.append(self._document.problem(path, message))

    # Settings

    def _settings(self, value: Any) -> Settings:
        if value is None:
            return Settings()
        settings = self._checked(Settings, value, ("settings",)) or Settings()
        for kind in ("keys", "admin_keys"):
            for index, key in enumerate(getattr(settings.auth, kind)):
                if key.lower().startswith(_SAMPLE_KEYS):
                    self._warn(
                        ("settings", "auth", kind, index), "this key looks like one from an example; choose your own"
                    )
                elif len(key) < KEY_LENGTH:
                    words = f"this key is short enough to be guessed; use {KEY_LENGTH} characters or more"
                    self._warn(("settings", "auth", kind, index), words)
        if not is_loopback(settings.host) and not settings.auth.keys:
            self._warn(
                ("settings", "host"),
                "others can reach this address, but without settings.auth.keys only this machine's clients are served",
            )
        return settings

    # Providers

    def _disabled(self, value: Any) -> set[int | str]:
        entries = value if isinstance(value, list) else []
        return {i for i, entry in enumerate(entries) if isinstance(entry, dict) and entry.get("enabled") is False}

    def _providers(self, value: Any, settings: Settings) -> dict[str, Provider]:
        if not isinstance(value, list) or not value:
            self._tell(("providers",), "providers must be a list with at least one provider")
            return {}
        providers: dict[str, Provider] = {}
        lines: dict[str, int] = {}
        for index, entry in enumerate(value):
            at: Path = ("providers", index)
            provider = self._provider(entry, at, settings)
            if provider is None:
                continue
            if provider.name in lines:
                first = lines[provider.name]
                self._tell((*at, "name"), f"a provider named '{provider.name}' stands on line {first} already")
                continue
            lines[provider.name] = self._document.line((*at, "name"))
            providers[provider.name] = provider
        if providers and not any(provider.enabled for provider in providers.values()):
            self._warn(("providers",), "no provider is enabled: nothing can be served")
        return providers

    def _provider(self, entry: Any, at: Path, settings: Settings) -> Provider | None:
        if not isinstance(entry, dict):
            self._tell(at, "a provider must be a mapping with name, type, base_url, ...")
            return None
        kind = entry.get("type")
        options_keys = sorted({f"{name}_config" for name in (*dialects.names(), *_TYPES)})
        plain = {key: value for key, value in entry.items() if key not in options_keys}
        checked = self._checked(ProviderEntry, plain, at, also=options_keys)
        if isinstance(kind, str) and kind not in dialects.names():
            self._tell((*at, "type"), f"unknown type '{kind}'{_did_you_mean(kind, dialects.names())}")
            return None
        options = self._options(entry, at, kind)
        if checked is None or options is None:
            return None
        return self._built(checked, options, at, settings)

    def _options(self, entry: dict[str, Any], at: Path, kind: Any) -> BaseModel | None:
        if not isinstance(kind, str):
            return None
        for key in entry:
            other = key.removesuffix("_config")
            if key != other and other != kind and other in dialects.names():
                self._warn((*at, key), f"'{key}' has no effect on a provider of type '{kind}'")
                self._checked(dialects.get(other).Options, entry[key] or {}, (*at, key))
        given = entry.get(f"{kind}_config")
        return self._checked(dialects.get(kind).Options, {} if given is None else given, (*at, f"{kind}_config"))

    def _built(self, entry: ProviderEntry, options: BaseModel, at: Path, settings: Settings) -> Provider | None:
        default = dialects.get(entry.type).default_base_url
        base_url = entry.base_url or default
        if base_url is None:
            self._tell(at, f"missing required key 'base_url' of provider '{entry.name}'")
            return None
        needs_key = entry.type != "simulated" and entry.enabled
        if needs_key and entry.auth_value is None:
            self._tell(at, f"missing required key 'auth_value' of provider '{entry.name}'")
        elif needs_key and entry.auth_value == "" and not self._told((*at, "auth_value")):
            self._tell((*at, "auth_value"), "auth_value is empty; give the provider's key, ${NAME}, or passthrough")
        if not (entry.auth_value or "").strip().isprintable():
            self._tell((*at, "auth_value"), "auth_value must not hold line breaks or other control characters")
        if entry.ca_file and entry.enabled and (wrong := _not_authorities(entry.ca_file)):
            self._tell((*at, "ca_file"), wrong)
        url = self._url(base_url, (*at, "base_url"), entry)
        proxy = self._proxy(entry.proxy, (*at, "proxy"))
        headers = self._headers(entry.headers, (*at, "headers"))
        for remark in getattr(options, "remarks", ()) if entry.enabled else ():
            self._warn((*at, f"{entry.type}_config"), remark)
        if url is None:
            return None
        tls = url.scheme == "https"
        path = url.path.rstrip("/").removesuffix("/v1").rstrip("/")
        return Provider(
            name=entry.name,
            type=entry.type,
            base_url=base_url,
            origin=Origin(tls, url.hostname or "", url.port or (443 if tls else 80), proxy, entry.ca_file),
            base_path=path,
            auth_type=entry.auth_type,
            secret="" if entry.auth_value == "passthrough" else (entry.auth_value or "").strip(),
            passthrough=entry.auth_value == "passthrough",
            enabled=entry.enabled,
            headers=headers,
            timeouts=Timeouts(
                connect_s=entry.connect_timeout or settings.connect_timeout,
                request_s=entry.request_timeout or settings.request_timeout,
                idle_s=entry.stream_idle_timeout or settings.stream_idle_timeout,
                non_streaming_s=entry.non_streaming_timeout or settings.non_streaming_timeout,
            ),
            max_in_flight=entry.max_in_flight or getattr(options, "max_concurrency", None),
            options=options,
        )

    def _told(self, path: Path) -> bool:
        return any(at == path for at, _ in self._document.problems)

    def _url(self, text: str, at: Path, entry: ProviderEntry) -> SplitResult | None:
        url, wrong = _split(text)
        if url is None or url.scheme not in ("http", "https", "simulated") or not url.hostname:
            wrong = wrong or "base_url must begin with https:// or http:// and name a host"
        elif url.username is not None or url.password is not None:
            wrong = "base_url must not hold a user or password; use auth_value"
        elif url.query or url.fragment:
            wrong = "base_url must not hold a query or fragment"
        elif _is_metadata(url.hostname):
            wrong = "base_url is the address of a cloud's metadata service, which is no provider"
        elif any(c.isspace() or ord(c) < 32 for c in text):
            wrong = "base_url must not hold white space"
        elif not url.path.isascii():
            wrong = "the path of base_url must be ASCII; write other characters as %C3%BC"
        elif url.path.rstrip("/").endswith(("/v1/messages", "/chat/completions")):
            wrong = "base_url is where the API begins; leave out what comes after /v1"
        if wrong:
            self._tell(at, wrong)
            return None
        if url and url.scheme == "http" and entry.auth_value and entry.enabled and not is_loopback(url.hostname or ""):
            self._warn(at, "plain http sends the key readable over the network; use https")
        return url

    def _proxy(self, text: str | None, at: Path) -> str | None:
        if not text:
            return None
        url, wrong = _split(text)
        if wrong or url is None or url.scheme not in _PROXIES or not url.hostname:
            self._tell(
                at, "proxy must be a URL that begins with http://, https://, socks5:// or socks5h:// and names a host"
            )
            return None
        return text

    def _headers(self, given: Mapping[str, str], at: Path) -> Headers:
        lines = []
        for name, value in given.items():
            if not name or not all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name) or not name.isascii():
                self._tell((*at, name), "this is not the name of a header")
            elif name.lower() in _NOT_TO_BE_SET:
                self._tell((*at, name), f"'{name}' is set by the balancer itself")
            elif any(ord(c) < 32 or ord(c) == 127 for c in value):
                self._tell((*at, name), "a header's value must not hold control characters")
            else:
                lines.append((name.lower().encode(), value.encode()))
        return tuple(lines)

    # Routes

    def _routes(self, value: Any, providers: Any) -> tuple[Route, ...]:
        if not isinstance(value, dict) or not value:
            self._tell(("model_routes",), "model_routes must be a mapping with at least one pattern")
            return ()
        entries = providers if isinstance(providers, list) else []
        names = list(dict.fromkeys(str(entry.get("name")) for entry in entries if isinstance(entry, dict)))
        routes = []
        for pattern, entries in value.items():
            at: Path = ("model_routes", pattern)
            if not pattern or pattern != pattern.strip() or any(ord(c) < 32 for c in pattern):
                self._tell(at, "a pattern must not be empty, nor begin or end with white space")
            if isinstance(entries, dict):
                entries = [entries]
            if not isinstance(entries, list) or not entries:
                self._tell(at, f"route '{pattern}' must be a list with at least one target")
                continue
            targets = [self._target(entry, (*at, index), names) for index, entry in enumerate(entries)]
            routes.append(Route(pattern, tuple(target for target in targets if target is not None)))
        return tuple(routes)

    def _target(self, entry: Any, at: Path, names: Collection[str]) -> Target | None:
        checked = self._checked(TargetEntry, entry, at)
        if checked is None:
            return None
        if checked.provider not in names:
            guess = _did_you_mean(checked.provider, names)
            self._tell((*at, "provider"), f"there is no provider '{checked.provider}'{guess}")
            return None
        return Target(**checked.model_dump())

    # Models

    def _checked(self, model: type[M], value: Any, at: Path, also: Iterable[str] = ()) -> M | None:
        """Return `value` as `model` sees it, or tell all that is wrong with it."""
        if not isinstance(value, dict):
            self._tell(at, f"{_name_of(at)} must be a mapping of keys and values")
            return None
        try:
            return model.model_validate(value)
        except ValidationError as error:
            for fault in error.errors(include_url=False, include_input=False):
                where = tuple(part for part in fault["loc"] if part not in _NOT_IN_THE_FILE)
                if fault["type"] != "missing":  # `failure_cooldown: x` stands for a mapping that is not in the file
                    while len(where) > 1 and (*at, *where) not in self._document.lines:
                        where = where[:-1]
                self._tell((*at, *where), plainly(fault, model, where, list(also)))
            return None


_NOT_IN_THE_FILE = frozenset({"constrained-str", "function-before"})


def plainly(fault: Mapping[str, Any], model: type[BaseModel], where: Path, also: Collection[str] = ()) -> str:
    """Say what is wrong without the validator's jargon."""
    key = str(where[-1]) if where else ""
    context = fault.get("ctx", {})
    match fault["type"]:
        case "extra_forbidden":
            known = [*_fields_at(model, where[:-1]), *also]
            return f"unknown key '{key}'{_did_you_mean(key, known)}"
        case "missing":
            return f"missing required key '{key}'"
        case "string_type":
            return f"{_name_of(where)} must be a string; put it in quotes"
        case "bool_type" | "bool_parsing":
            return f"{_name_of(where)} must be true or false"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"{_name_of(where)} must be a whole number"
        case "float_type" | "float_parsing" | "finite_number":
            return f"{_name_of(where)} must be a number"
        case "list_type" | "tuple_type":
            return f"{_name_of(where)} must be a list"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{_name_of(where)} must be a mapping of keys and values"
        case "literal_error" | "enum":
            return f"{_name_of(where)} must be one of {context.get('expected', '')}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            words = fault["msg"].removeprefix("Input should be ")
            return f"{_name_of(where)} must be {words}"
        case "string_pattern_mismatch":
            return f"{_name_of(where)} must begin with a letter or digit, and hold only those, spaces and _ . @ -"
        case "string_too_short":
            return f"{_name_of(where)} must not be empty"
        case "value_error":
            return f"{_name_of(where)}: {context.get('error', 'is not valid')}"
        case _:
            return f"{_name_of(where)}: {fault['msg']}"


def _fields_at(model: type[BaseModel], where: Path) -> list[str]:
    """Return the keys that may stand in the part of `model` at `where`."""
    for key in where:
        info = model.model_fields.get(str(key))
        if info is None:
            continue
        inner = [
            a for a in (info.annotation, *get_args(info.annotation)) if isinstance(a, type) and issubclass(a, BaseModel)
        ]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)


def _name_of(where: Path) -> str:
    words = [part for part in where if isinstance(part, str)]
    return words[-1] if words else "an entry"


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; there are: {', '.join(known)}" if 0 < len(known) <= 8 else ""


def _split(text: str) -> tuple[SplitResult | None, str]:
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        return None, "this is not a valid URL"
    return url, ""


def _is_metadata(host: str) -> bool:
    """Say whether a cloud tells its secrets there, in whatever way the address is written."""
    name = host.strip("[]").rstrip(".").lower()
    if name in _METADATA:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(name))  # 2852039166, 0xa9fea9fe
        except OSError:
            return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return (isinstance(mapped, ipaddress.IPv4Address) and mapped.is_link_local) or str(mapped) in _METADATA


def _not_authorities(path: str) -> str:
    """Say why a file is no PEM file of authorities; nothing if it is one."""
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return "ca_file is not a PEM file of certificates"
    except OSError as error:
        return f"ca_file can't be read: {error.strerror}"
    return ""
