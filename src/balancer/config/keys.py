"""The named keys of `settings.auth.keys`, each checked, as the rest of the program sees them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time

from balancer.config import addresses, credentials, words
from balancer.config.checking import MISPLACED, Checker
from balancer.config.document import Path
from balancer.config.model import KeyEntry, Settings
from balancer.config.quoting import Theirs, is_keylike
from balancer.config.secret_files import Unusable

KEY_MIN_CHARS = 8
"""No key of the balancer is shorter."""

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_SOURCES = ("key", "key_sha256", "key_file")


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A key of the balancer that has a name."""

    name: str
    digest: bytes = field(repr=False)
    """SHA-256 of the key."""
    rights: frozenset[str]
    models: tuple[str, ...] = ()
    """Patterns, as in `model_routes`; none: every model."""
    providers: frozenset[str] = frozenset()
    rpm: int | None = None
    tokens_per_minute: int | None = None
    max_in_flight: int | None = None
    expires: float | None = None
    """Seconds since the epoch."""
    secret: str = field(default="", repr=False)
    """The key itself; empty where only its hash is known."""


class NamedKeys:
    """Reads the entries of `settings.auth.keys` that have names."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    def read(self, settings: Settings, providers: Collection[object]) -> tuple[NamedKey, ...]:
        """Return them. `providers` are the names that there are."""
        found: list[NamedKey] = []
        names: dict[str, Path] = {}
        digests: dict[bytes, Path] = {}
        plain = {hashlib.sha256(key.encode()).digest() for key in settings.auth.plain_keys}
        for index, entry in enumerate(settings.auth.keys):
            if isinstance(entry, str):
                continue
            at: Path = ("settings", "auth", "keys", index)
            if entry.name in names:
                first = self._checker.document.line(names[entry.name])
                said = f" stands on line {first} already; give each its own name"
                self._checker.tell((*at, "name"), "a key named ", Theirs(entry.name), said)
            names.setdefault(entry.name, (*at, "name"))
            key = self._key(entry, at, settings, providers)
            if key is None:
                continue
            if key.digest in digests or key.digest in plain:
                where = f" on line {self._checker.document.line(digests[key.digest])}" if key.digest in digests else ""
                self._checker.tell(at, f"the same key stands in another entry{where}; give each its own key")
            digests.setdefault(key.digest, at)
            found.append(key)
        return tuple(found)

    def _key(self, entry: KeyEntry, at: Path, settings: Settings, providers: Collection[object]) -> NamedKey | None:
        for index, pattern in enumerate(entry.models):
            if is_keylike(pattern):
                self._checker.tell((*at, "models", index), MISPLACED)
            elif not pattern.strip():
                self._checker.tell((*at, "models", index), "a pattern must not be empty")
        for index, name in enumerate(entry.providers):
            if name not in providers:
                guess = self._checker.guess(name, providers)
                self._checker.tell((*at, "providers", index), "there is no provider ", Theirs(name), *guess)
        if not entry.rights:
            self._checker.tell((*at, "rights"), "rights must not be empty: rights: [messages, read]")
        if is_keylike(entry.name):
            self._checker.tell((*at, "name"), MISPLACED)
        digest, secret = self._digest(entry, at, settings)
        if not digest:
            return None
        return NamedKey(
            entry.name,
            digest,
            frozenset(entry.rights),
            models=tuple(words.TIERS.get(pattern) or pattern for pattern in entry.models),
            providers=frozenset(entry.providers),
            rpm=entry.rpm,
            tokens_per_minute=entry.tokens_per_minute,
            max_in_flight=entry.max_in_flight,
            expires=self._expires(entry, at),
            secret=secret,
        )

    def _digest(self, entry: KeyEntry, at: Path, settings: Settings) -> tuple[bytes, str]:
        """Return the key's hash, and the key where it is known; nothing where it can't be used."""
        given = [source for source in _SOURCES if getattr(entry, source) is not None]
        if len(given) != 1:
            which = f"it has {' and '.join(given)}" if given else "it has none of them"
            self._checker.tell(at, f"a named key needs exactly one of key, key_sha256 and key_file; {which}")
            return b"", ""
        if entry.key_sha256 is not None:
            if not _SHA256.fullmatch(entry.key_sha256):
                said = "key_sha256 must be the SHA-256 of the key, 64 hexadecimal digits: balancer key new --hash"
                self._checker.tell((*at, "key_sha256"), said)
                return b"", ""
            return bytes.fromhex(entry.key_sha256), ""
        if entry.key_file is not None:
            place: Path = (*at, "key_file")
            secret = self._from_file(entry.key_file, place)
        else:
            place = (*at, "key")
            secret = (entry.key or "").strip()
        if secret is None or not self._is_good(secret, place, settings):
            return b"", ""
        return hashlib.sha256(secret.encode()).digest(), secret

    def _is_good(self, key: str, at: Path, settings: Settings) -> bool:
        if len(key) < KEY_MIN_CHARS:
            self._checker.tell(at, f"every key needs at least {KEY_MIN_CHARS} characters; balancer key new prints one")
            return False
        if credentials.is_guessable(key) and not addresses.is_loopback(settings.host):
            self._checker.tell(at, credentials.GUESSABLE)
            return False
        if odd := credentials.gate_oddity(key):
            self._checker.warn(at, odd)
        return True

    def _from_file(self, name: str, at: Path) -> str | None:
        """Return the key in a file; None: it can't be read."""
        try:
            key = self._checker.secret_in(name, at)
        except Unusable as error:
            self._checker.tell(at, f"key_file {error}")
            return None
        if len(key.split()) != 1:
            self._checker.tell(at, "key_file must hold the key, and nothing else, on one line")
            return None
        return key

    def _expires(self, entry: KeyEntry, at: Path) -> float | None:
        if entry.expires is None:
            return None
        try:
            return _instant(entry.expires.strip())
        except (ValueError, OverflowError):
            said = "expires must be a date or a time, of UTC where it names no zone: 2027-01-31 or 2027-01-31T18:00:00Z"
            self._checker.tell((*at, "expires"), said)
            return None


def _instant(text: str) -> float:
    """Return a time in seconds since the epoch; a date's is the end of that day. Raises `ValueError`."""
    if len(text) <= len("2027-01-31"):
        return datetime.combine(date.fromisoformat(text), time.max, UTC).timestamp()
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def changed(old: Sequence[NamedKey], new: Sequence[NamedKey]) -> list[tuple[str, str]]:
    """Return the names of keys that are different, each with a word: added, removed, changed."""
    before, after = {key.name: key for key in old}, {key.name: key for key in new}
    found = [(name, "removed") for name in before if name not in after]
    found += [(name, "added") for name in after if name not in before]
    return found + [(name, "changed") for name in after if name in before and before[name] != after[name]]
