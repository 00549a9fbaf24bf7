"""The file's `providers`, each checked, as the rest of the program sees them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from balancer import dialects
from balancer.config import addresses, credentials, paths, words
from balancer.config.checking import MISPLACED, Checker
from balancer.config.document import Path
from balancer.config.model import NAME, ErrorRuleEntry, ProviderEntry, Settings
from balancer.config.problem import Problem
from balancer.config.quoting import Theirs, is_keylike, looks_random, nearest
from balancer.headers import Headers
from balancer.model import ErrorRule, Origin, Provider, RefusalClass, Timeouts

_NOT_TO_BE_SET = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "expect", "te", "trailer", "upgrade"}
)
"""Headers that frame a request: with a second one, it could be read in two ways."""


STALL_MAX_S = 300.0
"""By default pings alone keep no stream alive for longer."""


class Providers:
    """Reads the section `providers`."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    def disabled(self, value: Any) -> set[int | str]:
        entries = value if isinstance(value, list) else []
        return {i for i, entry in enumerate(entries) if isinstance(entry, dict) and _is_off(entry.get("enabled"))}

    def read(self, root: dict[str, Any], settings: Settings) -> dict[str, Provider]:
        value = root.get("providers")
        if not isinstance(value, list) or not value:
            self._no_providers(root)
            return {}
        self._checker.document.quoting.know_names(names_of(value))
        providers: dict[str, Provider] = {}
        lines: dict[str, int] = {}
        for index, entry in enumerate(value):
            at: Path = ("providers", index)
            provider = self._provider(entry, at, settings)
            if provider is None:
                continue
            if provider.name in lines:
                first = lines[provider.name]
                said = f" stands on line {first} already; give each its own name"
                self._checker.tell((*at, "name"), "a provider named ", Theirs(provider.name), said)
                continue
            lines[provider.name] = self._checker.document.line((*at, "name"))
            providers[provider.name] = provider
        return providers

    def _no_providers(self, root: dict[str, Any]) -> None:
        value = root.get("providers")
        said = "providers must be a list with at least one provider"
        if "providers" not in root and any(words.aside(key, None)[0] for key in root):
            return  # the other name of the section was told
        if isinstance(value, dict) and value:
            if set(value) & set(ProviderEntry.model_fields):
                self._checker.tell(
                    ("providers", next(iter(value))), f"{said}: a '- ' is missing before the first key of the entry"
                )
            else:
                first = next(iter(value))
                shown = first if self._checker.document.quoting.may_show(first) else "main"
                self._checker.tell(("providers",), f"{said}: write '- name: {shown}', and the other keys below name")
            return
        self._checker.tell(("providers",), f"{said}: '- name: main', and type, base_url and auth_value below name")

    def _provider(self, entry: Any, at: Path, settings: Settings) -> Provider | None:
        if not isinstance(entry, dict):
            self._checker.tell(at, "a provider must be a mapping with name, type, base_url, ...: - name: main")
            return None
        kind = entry.get("type")
        options_keys = sorted({f"{name}_config" for name in (*dialects.names(), *words.TYPES)})
        plain = {key: value for key, value in entry.items() if key not in options_keys}
        checked = self._checker.checked(ProviderEntry, plain, at, also=options_keys)
        if isinstance(kind, str) and kind not in dialects.names():
            self._unknown_type(kind, (*at, "type"))
            return None
        options = self._options(entry, at, kind)
        if checked is None or options is None:
            return None
        return self._built(checked, options, at, settings)

    def _unknown_type(self, kind: str, at: Path) -> None:
        folded = words.folded(kind)
        ours = words.CHOICES["type"].get(folded)
        if kind in words.choices_of(dialects.get("openai").Options, "profile"):
            self._checker.tell(
                at, "unknown type ", Theirs(kind), f"; write type: openai and openai_config: {{profile: {kind}}}"
            )
        elif ours:
            self._checker.tell(at, "unknown type ", Theirs(kind), f"; did you mean '{ours}'?")
        else:
            self._checker.tell(at, "unknown type ", Theirs(kind), *self._checker.guess(kind, dialects.names()))

    def _options(self, entry: dict[str, Any], at: Path, kind: Any) -> BaseModel | None:
        if not isinstance(kind, str):
            return None
        for key in entry:
            other = key.removesuffix("_config")
            if key != other and other != kind and other in dialects.names():
                self._checker.warn((*at, key), f"'{key}' has no effect on a provider of type '{kind}'")
                self._checker.checked(dialects.get(other).Options, entry[key] or {}, (*at, key))
        given = entry.get(f"{kind}_config")
        return self._checker.checked(
            dialects.get(kind).Options, {} if given is None else given, (*at, f"{kind}_config")
        )

    def _built(self, entry: ProviderEntry, options: BaseModel, at: Path, settings: Settings) -> Provider | None:
        default = dialects.get(entry.type).default_base_url
        base_url = entry.base_url or default
        self._look_at_name(entry.name, (*at, "name"))
        self._checker.look_at_times(entry, at)
        if base_url is None:
            self._checker.tell(at, "missing required key 'base_url' of provider ", Theirs(entry.name))
            return None
        url, wrong = addresses.provider_url(base_url, may_have_query=entry.type == "openai")
        if is_keylike(base_url):
            url, wrong = None, MISPLACED
        if wrong:
            self._checker.tell((*at, "base_url"), wrong)
        is_local = url is not None and addresses.is_loopback(url.hostname or "")
        self._credential(entry, at, is_local=is_local)
        if entry.ca_file and entry.enabled and (wrong := paths.not_authorities(entry.ca_file)):
            self._checker.tell((*at, "ca_file"), wrong)
        if entry.proxy and (wrong := addresses.proxy_url(entry.proxy)):
            self._checker.tell((*at, "proxy"), wrong)
        headers = self._headers(entry.headers, (*at, "headers"))
        for remark in getattr(options, "remarks", ()) if entry.enabled else ():
            self._checker.warn((*at, f"{entry.type}_config"), remark)
        if url is None:
            return None
        if url.scheme == "http" and entry.auth_value and entry.enabled and not is_local:
            self._checker.warn((*at, "base_url"), "plain http sends the key readable over the network; use https")
        if odd := addresses.odd_path(url.path):
            self._checker.warn((*at, "base_url"), odd)
        tls = url.scheme == "https"
        idle_s = entry.stream_idle_timeout or settings.stream_idle_timeout
        path = url.path.rstrip("/").removesuffix("/v1").rstrip("/")
        return Provider(
            name=entry.name,
            type=entry.type,
            base_url=base_url,
            origin=Origin(
                tls, url.hostname or "", url.port or (443 if tls else 80), entry.proxy or None, entry.ca_file
            ),
            base_path=path,
            auth_type=entry.auth_type,
            secret="" if entry.auth_value in (words.PASSTHROUGH, words.NO_KEY) else (entry.auth_value or "").strip(),
            passthrough=entry.auth_value == words.PASSTHROUGH,
            enabled=entry.enabled,
            headers=headers,
            dropped=_lowered((*settings.drop_headers, *entry.drop_headers)),
            forwarded=_lowered(entry.forward_headers),
            timeouts=Timeouts(
                connect_s=entry.connect_timeout or settings.connect_timeout,
                request_s=entry.request_timeout or settings.request_timeout,
                idle_s=idle_s,
                stall_s=entry.stream_stall_timeout or settings.stream_stall_timeout or _stall_s(idle_s),
                non_streaming_s=entry.non_streaming_timeout or settings.non_streaming_timeout,
            ),
            max_in_flight=entry.max_in_flight or getattr(options, "max_concurrency", None),
            price_factor=entry.price_factor,
            error_rules=(
                *_rules(entry.error_rules, f"error_rules[{{}}] of {entry.name}"),
                *_rules(settings.error_rules, "settings.error_rules[{}]"),
            ),
            options=options,
        )

    def _look_at_name(self, name: str, at: Path) -> None:
        """A name is shown everywhere: in logs, tables, headers."""
        if is_keylike(name):
            self._checker.tell(at, MISPLACED)
        elif looks_random(name):
            self._checker.warn(
                at, "this name looks like a key; names are shown in logs and answers, so choose a plain word"
            )

    def _credential(self, entry: ProviderEntry, at: Path, *, is_local: bool) -> None:
        key = (entry.auth_value or "").strip()
        place = (*at, "auth_value")
        if entry.type == "simulated" or not entry.enabled:
            return
        if not key:
            if not is_local or place in self._checker.document.variables:
                self._no_key(entry, at)
        elif any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in key):
            self._checker.tell(place, "auth_value must not hold line breaks or other control characters")
        elif key not in (words.PASSTHROUGH, words.NO_KEY):
            self._look_at(key, place, entry, is_local=is_local)

    def _no_key(self, entry: ProviderEntry, at: Path) -> None:
        place = (*at, "auth_value")
        behind = self._checker.document.behind(place).strip()
        if place not in self._checker.document.lines:
            remedy = "; write ${NAME}, passthrough (the client's own credential), or none"
            self._checker.tell(at, "missing required key 'auth_value' of provider ", Theirs(entry.name), remedy)
        elif behind.startswith("#") and behind[1:2].strip():
            self._checker.tell(place, "auth_value is empty: what follows '#' is a comment; put the value in quotes")
        else:
            remedy = "give the provider's key, ${NAME}, passthrough (the client's own credential), or none"
            self._checker.tell(place, f"auth_value is empty; {remedy}")

    def _look_at(self, key: str, at: Path, entry: ProviderEntry, *, is_local: bool) -> None:
        """Warn of a key in a form that no key has."""
        nearly = nearest(key, (words.PASSTHROUGH,), 0.8) if len(key) < 16 else None
        odd = credentials.oddity(key, may_hold_blank=entry.type == "zed", is_local=is_local)
        span, behind = self._checker.document.spans.get(at), self._checker.document.behind(at)
        if nearly:
            self._checker.warn(at, "this is sent as a key; did you mean 'passthrough'?")
        elif span and span.is_plain and behind.lstrip().startswith("#") and behind.lstrip()[1:2].strip():
            self._checker.warn(
                at, "the key ends before '#', which begins a comment; if it goes on there, put all of it in quotes"
            )
        elif span and span.is_plain and self._checker.document.text.startswith("&", span.begin):
            self._checker.warn(
                at, "a '&' begins an anchor in YAML and is not part of the value; put the value in quotes"
            )
        elif odd:
            self._warn_of_variable(at, odd)

    def _warn_of_variable(self, at: Path, said: str) -> None:
        """Warn of a value; where it comes from `.env`, at the line there."""
        names = self._checker.document.variables.get(at, ())
        if len(names) == 1 and names[0] in self._checker.origins:
            file, line = self._checker.origins[names[0]]
            self._checker.warnings.append(Problem(file, line, self._checker.document.quoting.say(said), warning=True))
        elif len(names) == 1:
            self._checker.warn(at, "the value of ", Theirs(names[0], bare=True), f": {said}")
        else:
            self._checker.warn(at, said)

    def _headers(self, given: Mapping[str, str], at: Path) -> Headers:
        lines = []
        for name, value in given.items():
            if not name or not all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name) or not name.isascii():
                self._checker.tell((*at, name), "this is not the name of a header; it has letters, digits and -")
            elif is_keylike(name):
                self._checker.tell((*at, name), MISPLACED)
            elif name.lower() in _NOT_TO_BE_SET:
                self._checker.tell((*at, name), f"'{name}' is set by the balancer itself; remove it")
            elif any(ord(c) < 32 or ord(c) == 127 for c in value):
                self._checker.tell((*at, name), "a header's value must not hold control characters")
            else:
                lines.append((name.lower().encode(), value.encode("utf-8", "replace")))
        return tuple(lines)


def _rules(entries: Iterable[ErrorRuleEntry], named: str) -> Iterator[ErrorRule]:
    for at, entry in enumerate(entries):
        refusal = RefusalClass(entry.refusal)
        yield ErrorRule(named.format(at), refusal, entry.status, entry.type, entry.code, entry.contains.strip())


def _stall_s(idle_s: float) -> float:
    """Return the default of `stream_stall_timeout`, by what `stream_idle_timeout` is."""
    return max(idle_s, min(10 * idle_s, STALL_MAX_S))


def _is_off(enabled: Any) -> bool:
    return enabled is False or (isinstance(enabled, str) and enabled.lower() in ("false", "no", "off", "0", "n", "f"))


def names_of(entries: list[Any]) -> list[object]:
    """Return what stands as the names of the providers, whatever it is."""
    return [entry.get("name") if isinstance(entry, dict) else None for entry in entries]


def is_name(value: object) -> bool:
    """Say whether this can be the name of a provider."""
    return isinstance(value, str) and re.fullmatch(NAME, value) is not None


def _lowered(names: Iterable[str]) -> frozenset[bytes]:
    return frozenset(name.strip().lower().encode() for name in names)
