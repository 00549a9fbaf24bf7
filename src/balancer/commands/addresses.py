"""The address by which a client on this machine reaches the balancer, or why there is none."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from balancer.config import Config, Settings
from balancer.server.access import Denied, Gate


def url(host: str, port: int, scheme: str = "http") -> str:
    """Return the URL of a server that listens on `host`."""
    reached = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
    if ":" in reached and not reached.startswith("["):
        reached = f"[{reached}]"
    return f"{scheme}://{reached}:{port}"


def reached(settings: Settings, port: int | None = None) -> str:
    """Return the URL that the balancer answers: by its host's name only if that name is let in, else by number."""
    host, port = settings.host, settings.port if port is None else port
    if not _is_number(host) and _refused(settings, host, "127.0.0.1") is not None:
        host = _number_of(host, port)
    return url(host, port, "http" if settings.tls is None else "https")


def for_clients(config: Config, port: int | None = None) -> str:
    """Return the URL for clients on this machine, which compare the host with those of the certificate.

    If that is not for the address itself, it is the first name that the certificate has.
    """
    found = reached(config.settings, port)
    names = () if config.tls is None else config.tls.names
    host = urlsplit(found).hostname or ""
    if not names or any(_is_same(name, host) for name in names):
        return found
    known = [name for name in names if name == "localhost"] or [name for name in names if "*" not in name]
    return url(known[0], urlsplit(found).port or 443, "https") if known else found


def _is_same(name: str, host: str) -> bool:
    if not _is_number(name) or not _is_number(host):
        return name.lower() == host.lower()
    return ipaddress.ip_address(name) == ipaddress.ip_address(host)


def unusable(settings: Settings) -> str | None:
    """Say why no client at all is let in, if that is so: on an address of the network, and without keys."""
    number = settings.host if _is_number(settings.host) else _number_of(settings.host, settings.port)
    if settings.auth.keys or number in ("0.0.0.0", "::"):  # noqa: S104
        return None
    if _refused(settings, "localhost", number) is None:
        return None
    return (
        f"nobody can use it on {settings.host}: without settings.auth.keys only clients on 127.0.0.1 are served; "
        "set settings.host to 127.0.0.1 or 0.0.0.0, or add keys"
    )


def _refused(settings: Settings, host: str, client: str) -> Denied | None:
    """Return why a client that calls the balancer `host` is not let in. It is asked whoever decides it."""
    keys = settings.auth.plain_keys
    shown = ((b"host", host.encode()), *((b"x-api-key", key.encode()) for key in keys[:1]))
    checked = Gate(keys, (), settings.allowed_hosts, b"").check("/v1/messages", "POST", (client, 1), shown)
    return checked if isinstance(checked, Denied) else None


def _number_of(host: str, port: int) -> str:
    try:
        return str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError):
        return host


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
