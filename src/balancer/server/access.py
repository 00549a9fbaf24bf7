"""Who may come in: client API keys, this machine, Host and Origin. Decided before anything is routed.

Pure but for the hashing of keys. Paths are compared raw and exactly, so that no spelling of a
path is open that is not meant to be (`//v1`, `%2e`, an absolute-form target).
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache

import msgspec

from balancer.clock import SYSTEM
from balancer.config.addresses import is_loopback
from balancer.headers import Headers
from balancer.policy.grants import KeyGrant
from balancer.server.keys import GATE_HEADER, NOTHING, Found, KeyRing, hash_of, is_for_admins, presented_in
from balancer.server.paths import OPERATIONS

OPEN_PATHS = frozenset(
    {"/", "/health", "/ready", "/api/hello", "/dashboard", "/dashboard/app.js", "/dashboard/style.css"}
)
"""Probes: they tell nothing that a key should guard."""

JSON = b"application/json"

_CREDENTIALS = frozenset({b"x-api-key", b"authorization", GATE_HEADER})

FORWARDING = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-real-ip",
        b"x-client-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"via",
    }
)
"""Headers by which a proxy tells that somebody stands behind it."""

_LOOKED_AT = FORWARDING | {b"origin", b"sec-fetch-site", GATE_HEADER}
"""A request without any of these comes from the program that opened the connection, and from no web page."""

_ANOTHER_SITE = frozenset({b"cross-site", b"same-site"})

FORWARDED_MAX = 16
"""How many proxies may stand in a row."""

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
    key: str = ""
    """Of a credential that was presented and refused: how its SHA-256 begins."""
    name: str = ""
    """Its name, where it is a named key."""


class Unseen(msgspec.Struct, frozen=True, gc=False):
    """It is not known who asks, and why."""

    words: str


PROXIED = (
    "this request came {how}, so somebody may stand behind a proxy; without settings.auth.keys only programs on this "
    "machine are served: add keys, or list the proxy in settings.trusted_proxies"
)
NO_ADMIN_KEYS = (
    "this changes the balancer, and settings.auth.admin_keys has no key for it: add one, or ask from the balancer's "
    "own machine without a key"
)


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """A request that may come in."""

    client: str
    """Short keyed hash of the credential that was presented; empty: none was."""
    headers: Headers
    """Without the headers that carried a gate key."""
    first: dict[bytes, bytes]
    """The first value of each of them; in their order, where each stands there once."""
    grant: KeyGrant | None = None
    """What the key may do that let it in, where that has a name."""


class Gate:
    """Checks one configuration's rules. `seed` keys the hashes that name clients in logs.

    `scheme` is that by which clients reach the balancer itself. `named` has the keys with names by their SHA-256;
    `wall` tells when they expire.
    """

    def __init__(
        self,
        keys: Collection[str],
        admin_keys: Collection[str],
        allowed_hosts: Collection[str],
        seed: bytes,
        *,
        allowed_origins: Collection[str] = (),
        trusted_proxies: Collection[str] = (),
        scheme: str = "http",
        named: Mapping[bytes, KeyGrant] | None = None,
        wall: Callable[[], float] = SYSTEM.wall,
    ) -> None:
        self._ring = KeyRing(keys, admin_keys, named or {}, wall)
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self._allowed_origins = frozenset(origin.lower().rstrip("/") for origin in allowed_origins)
        self._trusted = [ipaddress.ip_network(network, strict=False) for network in trusted_proxies]
        self._scheme = scheme
        self._seed = seed
        self._keyed = self._ring.any
        self._hosts: set[bytes | None] = set()
        """Host headers that were found to be ours, as they were sent."""
        self._names: dict[tuple[bytes | None, bytes | None], str] = {}
        """The names of clients, by the credentials that they present."""

    def check(
        self, path: str, method: str, client: tuple[str, int] | None, headers: Headers, *, version: str = "1.1"
    ) -> Admitted | Denied:
        """Say whether this request may come in, and as which client.

        `client` is the address that opened the connection; None: a Unix socket. `version` is HTTP's.
        """
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
            and version != "1.0"
            and path in OPERATIONS  # elsewhere the body's type is looked at
            and first.keys().isdisjoint(_LOOKED_AT)
        ):
            shown = first.get(b"x-api-key"), first.get(b"authorization")
            return Admitted(self._names.get(shown) or self._name_of(shown), headers, first)
        if denied := self._wrong_name(first) or self._of_another_site(first, method):
            return denied
        if path in OPEN_PATHS and method in ("GET", "HEAD"):
            return Admitted("", headers, first)
        presented = presented_in(headers) if not _CREDENTIALS.isdisjoint(first) else []
        found = self._ring.found(presented, path, method) if presented and self._keyed else NOTHING
        seen = self._behind(client, first, version)
        if denied := self._by_key_and_address(path, method, seen, found, bool(presented)):
            return msgspec.structs.replace(denied, key=hash_of(presented)) if presented else denied
        if denied := _wrong_type(path, method, first):
            return denied
        raw = b"\x00".join([raw for _, _, raw in presented])
        return _admitted(self._name(raw) if raw else "", headers, first, found)

    def address(self, client: tuple[str, int] | None, headers: Headers) -> str:
        """Return the address of whoever asks, for a record: behind trusted proxies, else the connection's."""
        peer = client[0] if client else ""
        told = self._forwarded_for(dict(headers)) if peer and self._is_trusted(peer) else ""
        return told[:HOST_MAX_CHARS] or peer

    def _by_key_and_address(
        self, path: str, method: str, seen: str | Unseen, found: Found, presented: bool
    ) -> Denied | None:
        """Refuse a request without a good key where one is needed; elsewhere one that is not of this machine.

        `seen` is the address of whoever asks, or why it is not known. `presented`: some credential was.
        """
        good = found.good
        if found.bad is not None and not good:
            return Denied(*self._ring.refusal(found.bad, path, method), name=found.bad.name)
        local = not isinstance(seen, Unseen) and is_loopback(seen)
        if is_for_admins(path, method) and self._keyed and not self._ring.has_admin:
            # Nobody was given this right, so it is this machine's alone; a client's key is no admin's.
            if local and not presented:
                return None
            return Denied(403, "permission_error", NO_ADMIN_KEYS) if good else _key_needed("a key of this balancer")
        if self._needs_key(path):
            if good:
                return None
            admin = self._ring.has_admin and is_for_admins(path, method)
            return _key_needed("an admin key" if admin else "a key of this balancer")
        if local:
            return None
        if isinstance(seen, Unseen):
            return Denied(403, "permission_error", seen.words)
        return Denied(
            401,
            "authentication_error",
            "this balancer has no auth.keys, so it serves only clients on its own machine; "
            "add keys to settings.auth.keys to serve others",
        )

    def _behind(self, client: tuple[str, int] | None, first: Mapping[bytes, bytes], version: str) -> str | Unseen:
        """Return the address of whoever asks, behind proxies that are trusted; or why it is not known.

        That a connection comes from this machine says nothing about whoever stands behind a proxy on it.
        """
        address = client[0] if client else "127.0.0.1"  # what opens a Unix socket is on this machine
        if self._is_trusted(address):
            return self._forwarded_for(first) or address
        if name := next((name for name in FORWARDING if name in first), None):
            return Unseen(PROXIED.format(how=f"with the header {name.decode()}"))
        return Unseen(PROXIED.format(how="as HTTP/1.0")) if version == "1.0" else address

    def _is_trusted(self, address: str) -> bool:
        if not self._trusted:
            return False
        try:
            known = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(known, "ipv4_mapped", None)
        return any((mapped or known) in network for network in self._trusted)

    def _forwarded_for(self, first: Mapping[bytes, bytes]) -> str:
        """Return the last address in `x-forwarded-for` that is no trusted proxy's; empty: there is none."""
        listed = first.get(b"x-forwarded-for", b"")[-1024:].decode("latin-1").split(",")[-FORWARDED_MAX:]
        for text in reversed(listed):
            address = text.strip().strip("[]")
            if address and not self._is_trusted(address):
                return address
        return ""

    def _needs_key(self, path: str) -> bool:
        if path.startswith("/v1/"):
            return self._ring.has_clients
        return self._keyed

    def _name_of(self, shown: tuple[bytes | None, bytes | None]) -> str:
        """Return the name of a client by its `x-api-key` and `authorization`, and remember it."""
        presented = presented_in([(b"x-api-key", shown[0] or b""), (b"authorization", shown[1] or b"")])
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
        return None

    def _of_another_site(self, first: Mapping[bytes, bytes], method: str) -> Denied | None:
        """Refuse what a web page of another origin sends. That it is on this machine too makes it no less foreign."""
        origin = first.get(b"origin")
        if origin is not None and not self._is_own_origin(origin, first.get(b"host", b"")):
            return Denied(403, "permission_error", "requests from web pages of other origins are refused")
        if first.get(b"sec-fetch-site") in _ANOTHER_SITE:
            followed = method == "GET" and first.get(b"sec-fetch-mode") == b"navigate"
            if not followed or first.get(b"sec-fetch-dest") != b"document":  # a link to here shows nothing to its page
                return Denied(403, "permission_error", "requests from web pages of other sites are refused")
        return None

    def _is_own_origin(self, origin: bytes, host: bytes) -> bool:
        """Say whether an origin is exactly the one that the client calls, or is listed. `host` was found to be ours."""
        asked = origin.strip().lower().decode("latin-1")
        if asked in self._allowed_origins:
            return True
        name = host.strip().lower().decode("latin-1")
        if asked == f"{self._scheme}://{name}":
            return bool(name)
        # TLS ends at a proxy in front, whose name is configured.
        return asked == f"https://{name}" and _host_name(name) in self._allowed_hosts

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


def _key_needed(wanted: str) -> Denied:
    words = f"{wanted} is needed: send it as x-api-key, as Authorization: Bearer, or as {GATE_HEADER.decode()}"
    return Denied(401, "authentication_error", words)


def _wrong_type(path: str, method: str, first: Mapping[bytes, bytes]) -> Denied | None:
    """Refuse a body that is not declared as JSON: only such a one makes browsers ask first (a preflight request)."""
    if path.startswith("/v1/") or method in ("GET", "HEAD"):  # the hot paths look by themselves
        return None
    if not has_body(first) or is_json(first.get(b"content-type", b"")):
        return None
    return Denied(415, "invalid_request_error", "a body needs the header content-type: application/json")


def has_body(first: Mapping[bytes, bytes]) -> bool:
    """Say whether a request with these headers has a body."""
    return first.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in first


def is_json(kind: bytes) -> bool:
    """Say whether `kind`, a content-type, is JSON's."""
    media = kind.partition(b";")[0].strip().lower()
    return media == JSON or media.endswith(b"+json")


def _admitted(client: str, headers: Headers, first: dict[bytes, bytes], found: Found) -> Admitted:
    """Return the request without its gate keys, which no provider may see."""
    ours = found.ours
    if ours or GATE_HEADER in first:
        headers = tuple([pair for pair in headers if pair not in ours and pair[0] != GATE_HEADER])
        first = dict(headers)
        if len(first) != len(headers):
            first = dict(headers[::-1])
    return Admitted(client, headers, first, found.grant)


def _host_name(host: str) -> str:
    """Return the name in a Host header, without port and brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


@lru_cache(maxsize=1024)
def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
