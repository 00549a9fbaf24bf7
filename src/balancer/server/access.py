"""Who may come in: gate keys, loopback, Host and Origin. Decided before anything is routed.

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

from balancer.headers import Headers

OPEN_PATHS = frozenset({"/", "/health", "/ready", "/api/hello"})
"""Probes: they tell nothing that a key should guard."""

GATE_HEADER = b"x-balancer-key"
"""Carries a gate key beside a credential of the client's own (`passthrough`)."""

_CREDENTIALS = frozenset({b"x-api-key", b"authorization", GATE_HEADER})

NAMES_MAX = 256
HOSTS_MAX = 64
"""How many spellings of our own names are remembered; clients choose them, so there must be a bound."""


class Denied(msgspec.Struct, frozen=True, gc=False):
    """Why a request may not come in."""

    status: int
    kind: str
    message: str


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """A request that may come in."""

    client: str
    """Short keyed hash of whatever credential was presented; empty: none was."""
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
        """What clients are called, by the credentials that they show."""

    def check(self, path: str, method: str, client: tuple[str, int] | None, headers: Headers) -> Admitted | Denied:
        """Say whether this request may come in, and as whom. `client`: its address; None: a Unix socket."""
        first = dict(headers)
        if len(first) != len(headers):  # a header stands there twice, and the first value counts
            first = dict(headers[::-1])
            if sum(name == b"host" for name, _ in headers) > 1:
                return Denied(400, "invalid_request_error", "a request has one Host header")
        elif (  # nearly all are: no keys are asked for, and somebody on this machine asks as one does
            not self._keyed
            and client is not None
            and _is_loopback(client[0])
            and first.get(b"host") in self._hosts
            and b"origin" not in first
            and GATE_HEADER not in first
        ):
            shown = first.get(b"x-api-key"), first.get(b"authorization")
            return Admitted(self._names.get(shown) or self._name_of(shown), headers, first)
        if denied := self._strange(first):
            return denied
        if path in OPEN_PATHS and method in ("GET", "HEAD"):
            return Admitted("", headers, first)
        presented = _presented(headers) if not _CREDENTIALS.isdisjoint(first) else []
        good = [(name, value) for name, value, raw in presented if self._keyed and self._fits(raw, path, method)]
        if not self._locked(path):
            if client and not _is_loopback(client[0]):  # without: a Unix socket, whoever opens it is on this machine
                return Denied(
                    401,
                    "authentication_error",
                    "this balancer has no auth.keys, so it serves only clients on its own machine; "
                    "add keys to settings.auth.keys to serve others",
                )
        elif not good:
            wanted = "an admin key" if self._for_admins(path, method) and self._admin_keys else "a key of this balancer"
            return Denied(
                401,
                "authentication_error",
                f"{wanted} is needed: send it as x-api-key, as Authorization: Bearer, or as {GATE_HEADER.decode()}",
            )
        kept = headers
        if good or any(name == GATE_HEADER for name, _, _ in presented):
            kept = tuple(pair for pair in headers if pair not in good and pair[0] != GATE_HEADER)
            first = dict(kept)
            if len(first) != len(kept):
                first = dict(kept[::-1])
        who = b"\x00".join([raw for _, _, raw in presented])
        return Admitted(self._name(who) if who else "", kept, first)

    def _name_of(self, who: tuple[bytes | None, bytes | None]) -> str:
        """Return the name of a client by its credentials, and remember it."""
        raw = [
            raw for _, _, raw in _presented([(b"x-api-key", who[0] or b""), (b"authorization", who[1] or b"")]) if raw
        ]
        name = self._name(b"\x00".join(raw)) if raw else ""
        if len(self._names) < NAMES_MAX:
            self._names[who] = name
        return name

    def _locked(self, path: str) -> bool:
        if path.startswith("/v1/"):
            return bool(self._keys)
        return bool(self._keys or self._admin_keys)

    def _for_admins(self, path: str, method: str) -> bool:
        return not path.startswith("/v1/") and method not in ("GET", "HEAD")

    def _fits(self, raw: bytes, path: str, method: str) -> bool:
        """Compare with every key, in constant time, without leaving early."""
        digest = _digest(raw)
        known = list(self._admin_keys)
        if not (self._for_admins(path, method) and self._admin_keys):
            known += self._keys
        fits = False
        for key in known:
            fits |= hmac.compare_digest(digest, key)
        return fits

    def _name(self, who: bytes) -> str:
        return hashlib.blake2b(who, digest_size=8, key=self._seed).hexdigest()

    def _strange(self, first: Mapping[bytes, bytes]) -> Denied | None:
        """Refuse names that only a rebound DNS record or a foreign page would use."""
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
        if name in ("localhost", "") or name in self._allowed_hosts:
            return bool(name)
        return name.endswith(".localhost") or _is_number(name)  # a page can rebind a name to us, but not a number


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _presented(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes, bytes]]:
    """Return every credential that a request shows: header, its value, and the bare key."""
    found = []
    for name, value in headers:
        if name in (b"x-api-key", GATE_HEADER):
            found.append((name, value, value.strip()))
        elif name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            found.append((name, value, rest.strip() if scheme.lower() == b"bearer" else value.strip()))
    return found


def _host_name(host: str) -> str:
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _origin_name(origin: str) -> str:
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


@lru_cache(maxsize=1024)
def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
