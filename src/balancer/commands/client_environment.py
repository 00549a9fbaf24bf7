"""The variables by which Claude Code finds the balancer, and comes in.

`ANTHROPIC_BASE_URL` alone is not enough: without a login or a token the client asks for a login
before it sends anything. Which token it sends is decided here:

* one that the user has set stays;
* where a provider gets the client's own credential (`auth_value: passthrough`), none is set: a token
  would take the place of the client's own login;
* else it is a key of the balancer, where `settings.auth.keys` asks for one, or any word where it does not.

Where the token is not ours to set and the balancer asks for a key, the key goes along in a header of
its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from balancer.claude_code import BASE_URL, CLIENT_CERT, CLIENT_KEY, CUSTOM_HEADERS, EXTRA_AUTHORITIES, TOKEN
from balancer.commands import reading
from balancer.commands.calling import CA
from balancer.commands.calling import CLIENT_CERT as CLIENT_CERT_OF_COMMANDS
from balancer.config import Config
from balancer.config.addresses import is_loopback
from balancer.server.keys import GATE_HEADER

ANY_TOKEN = "balancer"  # noqa: S105 - any word does where no key is asked for

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_NO_PROXY = ("NO_PROXY", "no_proxy")


def variables(url: str, config: Config | None, env: Mapping[str, str]) -> dict[str, str]:
    """Return what to set for a client of the balancer at `url`. `config`: the balancer's, where it is known."""
    given = {BASE_URL: url}
    key = env.get("BALANCER_KEY") or (None if config is None else reading.client_key(config))
    if not sets_token(config, env):
        if key and key != env.get(TOKEN):
            given[CUSTOM_HEADERS] = _with_key(env.get(CUSTOM_HEADERS, ""), key)
    else:
        given[TOKEN] = key or ANY_TOKEN
    return given | _certificates(url, config, env) | _without_proxy(url, env)


def _certificates(url: str, config: Config | None, env: Mapping[str, str]) -> dict[str, str]:
    """Return what a client needs to know the balancer's certificate, and to show one of its own."""
    if not url.startswith("https://"):
        return {}
    own = None if config is None or config.tls is None else str(config.tls.cert.absolute())
    shown = env.get(CLIENT_CERT_OF_COMMANDS)
    found = {EXTRA_AUTHORITIES: env.get(CA) or own, CLIENT_CERT: shown, CLIENT_KEY: shown}
    return {name: value for name, value in found.items() if value and not env.get(name)}


def sets_token(config: Config | None, env: Mapping[str, str]) -> bool:
    """Say whether the client's token is ours to set."""
    if env.get(TOKEN, ANY_TOKEN) not in ("", ANY_TOKEN):
        return False
    return config is None or not reading.takes_clients_login(config)


def lacking(config: Config | None, env: Mapping[str, str]) -> str:
    """Say that the balancer asks for a key that is not known here; nothing: it does not, or one is known."""
    if config is None or not config.settings.auth.keys or env.get("BALANCER_KEY") or reading.client_key(config):
        return ""
    return "settings.auth.keys holds no client's key itself, only hashes; set BALANCER_KEY to yours first"


def _with_key(headers: str, key: str) -> str:
    """Return the client's extra headers, one a line, with the balancer's key among them."""
    name = GATE_HEADER.decode()
    others = [line for line in headers.splitlines() if line.strip() and not line.lower().startswith(f"{name}:")]
    return "\n".join([*others, f"{name}: {key}"])


def _without_proxy(url: str, env: Mapping[str, str]) -> dict[str, str]:
    """Return what keeps the client from asking a proxy for an address of this machine: it would, unless told."""
    host = urlsplit(url).hostname or ""
    if not is_loopback(host) or not any(env.get(name) or env.get(name.lower()) for name in _PROXIES):
        return {}
    known = next((env[name] for name in _NO_PROXY if env.get(name)), "")
    if host in (entry.strip() for entry in known.split(",")):
        return {}
    return dict.fromkeys(_NO_PROXY, f"{known},{host}".lstrip(","))


# Exports in the language of a shell.


def _fish(name: str, value: str) -> str:
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{quoted}'"


def _powershell(name: str, value: str) -> str:
    quoted = value.replace("'", "''")
    return f"$env:{name} = '{quoted}'"


EXPORTS: dict[str, Callable[[str, str], str]] = {
    "sh": lambda name, value: f"export {name}={shlex.quote(value)}",
    "fish": _fish,
    "powershell": _powershell,
}
