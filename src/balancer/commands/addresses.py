"""The address by which a client on this machine reaches the balancer, or why there is none."""

from __future__ import annotations

import ipaddress
import socket

from balancer.config import Settings
from balancer.server.access import Denied, Gate


def url(host: str, port: int) -> str:
    """Return the URL of a server that listens on `host`."""
    reached = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
    if ":" in reached and not reached.startswith("["):
        reached = f"[{reached}]"
    return f"http://{reached}:{port}"


def reached(settings: Settings, port: int | None = None) -> str:
    """Return the URL that the balancer answers: by its host's name only if that name is let in, else by number."""
    host, port = settings.host, settings.port if port is None else port
    if not _is_number(host) and _refused(settings, host, "127.0.0.1") is not None:
        host = _number_of(host, port)
    return url(host, port)


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
