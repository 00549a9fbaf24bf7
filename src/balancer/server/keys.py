"""The keys of the balancer: which of them a request presents, and what each may do.

A named key's models, providers and limits are looked at here too (`check`), before any provider is asked.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from balancer.model import Operation, Route
from balancer.policy.grants import RIGHTS, KeyGrant
from balancer.server.rejected import Rejected

GATE_HEADER = b"x-balancer-key"
"""Carries a gate key beside a credential of the client's own (`passthrough`)."""

KEY_HASH_CHARS = 8
"""So much of a refused credential's hash is told: enough to tell keys apart, too little to find one by."""


class Found(msgspec.Struct, gc=False):
    """Which keys of the balancer's a request presents."""

    ours: list[tuple[bytes, bytes]] = []
    """The headers that carry one, whether it is good for this request or not."""
    good: bool = False
    """One of them is good for it."""
    grant: KeyGrant | None = None
    """The named one that is."""
    bad: KeyGrant | None = None
    """A named one that is not."""


NOTHING = Found()


class KeyRing:
    """The keys of one configuration. `named` has those with names by their SHA-256; `wall` tells when they expire."""

    def __init__(
        self,
        keys: Collection[str],
        admin_keys: Collection[str],
        named: Mapping[bytes, KeyGrant],
        wall: Callable[[], float],
    ) -> None:
        self._keys = [_digest(key.encode()) for key in keys]
        self._admin_keys = [_digest(key.encode()) for key in admin_keys]
        self._named = list(named.items())
        self._wall = wall
        self.any = bool(keys or admin_keys or named)
        self.has_clients = bool(keys or named)
        self.has_admin = bool(admin_keys) or any("admin" in grant.rights for grant in named.values())

    def found(self, presented: list[tuple[bytes, bytes, bytes]], path: str, method: str) -> Found:
        """Compare with every key, in constant time, without leaving early."""
        found = Found()
        same = hmac.compare_digest
        for header, value, raw in presented:
            digest = _digest(raw)
            client = admin = False
            grant: KeyGrant | None = None
            for key in self._admin_keys:
                admin |= same(digest, key)
            for key in self._keys:
                client |= same(digest, key)
            for key, named in self._named:
                if same(digest, key):
                    grant = named
            if admin or client or grant is not None:
                found.ours.append((header, value))
            found.good |= admin or (client and not (self.has_admin and is_for_admins(path, method)))
            if grant is not None:
                if (grant.expires is not None and self._wall() > grant.expires) or not _may(grant, path, method):
                    found.bad = grant
                else:
                    found.good, found.grant = True, grant
        return found

    def refusal(self, grant: KeyGrant, path: str, method: str) -> tuple[int, str, str]:
        """Return status, kind and words of why a named key is not good for this. Only who has the key learns that."""
        if grant.expires is not None and self._wall() > grant.expires:
            when = datetime.fromtimestamp(grant.expires, UTC).isoformat(" ", "seconds").removesuffix("+00:00")
            words = f"the key '{grant.name}' has expired ({when} UTC); ask for a new one"
            return 401, "authentication_error", words
        has = ", ".join(right for right in RIGHTS if right in grant.rights)
        words = f"the key '{grant.name}' may not do this: it needs the right {_right(path, method)}, and has {has}"
        return 403, "permission_error", words


def presented_in(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes, bytes]]:
    """Return every credential that a request presents: header, its value, and the bare key."""
    found = []
    for name, value in headers:
        if name in (b"x-api-key", GATE_HEADER):
            found.append((name, value, value.strip()))
        elif name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            found.append((name, value, rest.strip() if scheme.lower() == b"bearer" else value.strip()))
    return found


def is_for_admins(path: str, method: str) -> bool:
    """Say whether a request changes something in the balancer."""
    return not path.startswith(("/v1/", "/api/")) and method not in ("GET", "HEAD")


def _right(path: str, method: str) -> str:
    """Return the right that a request needs."""
    if path.startswith("/v1/"):
        return "messages"
    return "admin" if is_for_admins(path, method) else "read"


def _may(grant: KeyGrant, path: str, method: str) -> bool:
    rights = grant.rights
    if path.startswith("/v1/"):
        return "messages" in rights or ("read" in rights and path.startswith("/v1/models"))
    return path.startswith("/api/") or _right(path, method) in rights


def hash_of(presented: list[tuple[bytes, bytes, bytes]]) -> str:
    """Return how the SHA-256 of the first credential begins that was presented; nothing: none was."""
    return hashlib.sha256(presented[0][2]).hexdigest()[:KEY_HASH_CHARS] if presented else ""


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def check(
    grant: KeyGrant,
    operation: Operation,
    now: float,
    model: str | None,
    route: Callable[[str], Route | None] | None = None,
) -> None:
    """Count a request of this key, or refuse it. Raises `Rejected`.

    `model` is the one asked for; None: the request names none. `route` finds a model's route.
    """
    if grant.may_ask is not None and model is not None and not grant.may_ask(model):
        raise _forbidden(f"the key '{grant.name}' may not ask for the model '{model[:200]}'")
    if grant.may_ask is not None and operation is Operation.BATCHES:  # their models stand inside
        raise _forbidden(f"the key '{grant.name}' may ask for some models only, and so not for batches")
    found = route(model) if grant.providers and model is not None and route is not None else None
    if found is not None and all(target.provider not in grant.providers for target in found.targets):
        raise _forbidden(f"no provider that the key '{grant.name}' may use has the model '{(model or '')[:200]}'")
    if (exceeded := grant.exceeded(now, counts=operation.counts)) is not None:
        limit, wait_s = exceeded
        words = f"the key '{grant.name}' has reached its limit of {limit}; try again in {wait_s} s"
        raise Rejected(429, "rate_limit_error", words, retry_after_s=wait_s)
    if grant.rpm is not None and not operation.counts:
        grant.use.requests.add(1, now)


def _forbidden(words: str) -> Rejected:
    return Rejected(403, "permission_error", words)
