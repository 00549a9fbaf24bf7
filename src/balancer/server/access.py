"""Who may come in: client API keys, loopback, Host and Origin. Decided before anything is routed.

Pure but for the hashing of keys. Paths are compared raw and exactly, so that no spelling of a
path is open that is not meant to be (`//v1`, `%2e`, an absolute-form target).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from urllib.parse import urlsplit

import msgspec

from balancer.config.addresses import is_loopback
from balancer.headers import Headers

OPEN_PATHS = frozenset({"/", "/health", "/ready", "/api/hello"})
"""Probes: they tell nothing that a key should guard."""

GATE_HEADER = b"x-balancer-key"
"""Carries a gate key beside a credential of the client's own (`passthrough`)."""

_CREDENTIALS = frozenset({b"x-api-key", b"authorization", GATE_HEADER})

NAMES_MAX = 256
"""How many names of clients are remembered."""

HOSTS_MAX = 64
"""How many spellings of our own names are remembered; clients choose them, so there must be a bound."""

HOST_MAX_CHARS = 255
"""No host name is longer."""


class Denied(msgspec.Struct, frozen=True, gc=False):
    """Why a request may not come in."""

    status: int
    kind: str
    message: str


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """A request that may come in."""

    client: str
    """Short keyed hash of the credential that was presented; empty: none was."""
    headers: Headers
    """Without the headers that carried a gate key."""
    first: dict[bytes, bytes]
    """The first value of each of them; in their order, where each stands there once."""


class Gate:
    """Checks one configuration's rules. `seed` keys the hashes that name clients in logs."""

    def __init__(
        self, keys: Collection[str], admin_keys: Collection[str], allowed_hosts: Collection[str], seed: bytes
    ) -> None:
        self._keys = [_digest(key.encode()) for key in keys]
        self._admin_keys = [_digest(key.encode()) for key in admin_keys]
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self._seed = seed
        self._keyed = bool(keys or admin_keys)
        self._hosts: set[bytes | None] = set()
        """Host headers that were found to be ours, as they were sent."""
        self._names: dict[tuple[bytes | None, bytes | None], str] = {}
        """The names of clients, by the credentials that they present."""

    def check(self, path: str, method: str, client: tuple[str, int] | None, headers: Headers) -> Admitted | Denied:
        """Say whether this request may come in, and as which client. `client`: its address; None: a Unix socket."""
        first = dict(headers)
        if len(first) != len(headers):  # a header stands there twice, and the first value counts
            first = dict(headers[::-1])
            if sum(name == b"host" for name, _ in headers) > 1:
                return Denied(400, "invalid_request_error", "a request has one Host header")
        elif (  # nearly all are: no keys are asked for, and a client on this machine asks as one does
            not self._keyed
            and client is not None
            and is_loopback(client[0])
            and first.get(b"host") in self._hosts
            and b"origin" not in first
            and GATE_HEADER not in first
        ):
            shown = first.get(b"x-api-key"), first.get(b"authorization")
            return Admitted(self._names.get(shown) or self._name_of(shown), headers, first)
        if denied := self._wrong_name(first):
            return denied
        if path in OPEN_PATHS and method in ("GET", "HEAD"):
            return Admitted("", headers, first)
        presented = _presented(headers) if not _CREDENTIALS.isdisjoint(first) else []
        good = [(name, value) for name, value, raw in presented if self._keyed and self._fits(raw, path, method)]
        if denied := self._by_key_and_address(path, method, client, bool(good)):
            return denied
        raw = b"\x00".join([raw for _, _, raw in presented])
        return _admitted(self._name(raw) if raw else "", headers, first, good)

    def _by_key_and_address(self, path: str, method: str, client: tuple[str, int] | None, good: bool) -> Denied | None:
        """Refuse a request without a good key where one is needed; elsewhere one from another machine."""
        if self._needs_key(path):
            if good:
                return None
            wanted = "an admin key" if self._admin_keys and _is_for_admins(path, method) else "a key of this balancer"
            return Denied(
                401,
                "authentication_error",
                f"{wanted} is needed: send it as x-api-key, as Authorization: Bearer, or as {GATE_HEADER.decode()}",
            )
        if client and not is_loopback(client[0]):  # None: what opens a Unix socket is on this machine
            return Denied(
                401,
                "authentication_error",
                "this balancer has no auth.keys, so it serves only clients on its own machine; "
                "add keys to settings.auth.keys to serve others",
            )
        return None

    def _needs_key(self, path: str) -> bool:
        if path.startswith("/v1/"):
            return bool(self._keys)
        return bool(self._keys or self._admin_keys)

    def _fits(self, raw: bytes, path: str, method: str) -> bool:
        """Compare with every key, in constant time, without leaving early."""
        digest = _digest(raw)
        known = list(self._admin_keys)
        if not (self._admin_keys and _is_for_admins(path, method)):
            known += self._keys
        fits = False
        for key in known:
            fits |= hmac.compare_digest(digest, key)
        return fits

    def _name_of(self, shown: tuple[bytes | None, bytes | None]) -> str:
        """Return the name of a client by its `x-api-key` and `authorization`, and remember it."""
        presented = _presented([(b"x-api-key", shown[0] or b""), (b"authorization", shown[1] or b"")])
        raw = b"\x00".join([raw for _, _, raw in presented if raw])
        name = self._name(raw) if raw else ""
        if len(self._names) < NAMES_MAX:
            self._names[shown] = name
        return name

    def _name(self, raw: bytes) -> str:
        return hashlib.blake2b(raw, digest_size=8, key=self._seed).hexdigest()

    def _wrong_name(self, first: Mapping[bytes, bytes]) -> Denied | None:
        """Refuse names of this balancer that only a rebound DNS record or a foreign page would use."""
        host = first.get(b"host")
        if host is not None and not self._answers_for(host):
            return Denied(
                421,
                "invalid_request_error",
                "the Host header names a host that this balancer does not answer for; "
                "add it to settings.allowed_hosts if it should",
            )
        origin = first.get(b"origin")
        if origin is not None and not self._is_ours(_origin_name(origin.decode("latin-1"))):
            return Denied(403, "permission_error", "requests from web pages of other origins are refused")
        return None

    def _answers_for(self, host: bytes) -> bool:
        if host in self._hosts:
            return True
        if not self._is_ours(_host_name(host.decode("latin-1"))):
            return False
        if len(self._hosts) < HOSTS_MAX:
            self._hosts.add(host)
        return True

    def _is_ours(self, name: str) -> bool:
        if not 0 < len(name) <= HOST_MAX_CHARS:
            return False
        # A foreign page can rebind a name to this address, but not a number.
        return name in self._allowed_hosts or is_loopback(name) or _is_number(name)


def _is_for_admins(path: str, method: str) -> bool:
    return not path.startswith("/v1/") and method not in ("GET", "HEAD")


def _admitted(client: str, headers: Headers, first: dict[bytes, bytes], good: list[tuple[bytes, bytes]]) -> Admitted:
    """Return the request without its gate keys, `good` among them, which no provider may see."""
    if good or GATE_HEADER in first:
        headers = tuple([pair for pair in headers if pair not in good and pair[0] != GATE_HEADER])
        first = dict(headers)
        if len(first) != len(headers):
            first = dict(headers[::-1])
    return Admitted(client, headers, first)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _presented(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes, bytes]]:
    """Return every credential that a request presents: header, its value, and the bare key."""
    found = []
    for name, value in headers:
        if name in (b"x-api-key", GATE_HEADER):
            found.append((name, value, value.strip()))
        elif name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            found.append((name, value, rest.strip() if scheme.lower() == b"bearer" else value.strip()))
    return found


def _host_name(host: str) -> str:
    """Return the name in a Host header, without port and brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _origin_name(origin: str) -> str:
    """Return the name of the host in an Origin header; empty: there is none."""
    try:
        return (urlsplit(origin).hostname or "").lower()
    except ValueError:
        return ""


@lru_cache(maxsize=1024)
def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
