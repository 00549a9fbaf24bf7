"""The inventory of secrets: every one that the configuration or a client's request holds, found in every spelling.

A text may hold a secret as it is, URL-escaped, JSON-escaped, as an HTML entity, in base64, or in several of these at
once. All are found by looking at the text a second time with its escapes undone; only a text that shows a secret is
worth the search for the place.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from itertools import filterfalse
from operator import itemgetter
from urllib.parse import unquote, urlsplit

from balancer.headers import Headers
from balancer.model import Provider

BLOT = b"[redacted]"
"""What stands in the place of a secret."""

SHORTEST = 6
"""A secret that is shorter stands in too many plain words to be blotted out everywhere: it counts where it stands
alone."""

CLIENTS_SHORTEST = 8
"""The same of a client's credential, which may be a dummy. A shorter one is no secret."""

TELLING = re.compile(r"auth|key|token|secret|cookie|password|credential", re.IGNORECASE)
"""Names of headers whose values are credentials."""

_PUBLIC_HEADERS = re.compile(
    r"accept.*|content-type|user-agent|(?:http-)?referer|x-title|x-stainless-.*|[a-z]+-(?:version|beta)", re.IGNORECASE
)
"""Names of headers whose values are known to everybody."""

_RANDOM = re.compile(
    r"(?<![A-Za-z0-9])(?!20\d{6}(?![A-Za-z0-9]))(?:(?=[A-Za-z]*+\d)[A-Za-z0-9]{8,}+|[A-Za-z0-9]{20,}+)"
)
"""Letters and digits in a run that is neither a word nor a date: of such are keys."""

LONG_VALUE = 16
"""A header's value of so many characters is a secret, whatever its name and its form."""

ALIGNMENTS = 3
"""Base64 writes three bytes as four letters: a secret inside a longer text has one of three spellings."""

BASE64_MIN_CHARS = 8
"""A shorter piece of base64 could stand anywhere."""

REMEMBERED = 1024
"""So many values of headers are remembered."""

ESCAPED_TIMES = 4
"""So many layers of escapes are undone: JSON in JSON in a URL."""

_ESCAPE = re.compile(
    rb"\\(?:u00|x)([0-9A-Fa-f]{2})|%([0-9A-Fa-f]{2})|&#[xX]0{0,4}([0-9A-Fa-f]{2});|&#0{0,4}([0-9]{2,3});"
    rb"|&(amp|lt|gt|quot|apos);|\\([\"'/\\<>&=+-])"
)
_ESCAPES = (b"%", b"\\", b"&")
"""With one of these every escape begins."""

_NAMED = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}
_NAMES = {ord(char): name for name, char in _NAMED.items()}
_MAX_BYTE = 255


_VALUE = itemgetter(1)
"""Of a header line."""


class Inventory:
    """Secrets that are known, the longest first. Immutable; adding makes another."""

    def __init__(self, secrets: Iterable[str] = (), public: Collection[str] = ()) -> None:
        """`public`: words that everybody may read, like the names of providers. What stands in one is no secret."""
        found = {secret for secret in secrets if secret and not any(secret in word for word in public)}
        self.secrets = tuple(sorted(found, key=len, reverse=True))
        spelt = {word for secret in self.secrets if len(secret) >= SHORTEST for word in _spellings(secret)}
        self._words = tuple(sorted(spelt, key=len, reverse=True))
        self._longest = max(map(len, self._words), default=0)
        self._by_length: dict[int, tuple[bytes, ...]] = {}
        self._harmless: set[bytes] = set()
        """Values of headers that show nothing: most come again and again."""
        self._short = tuple(_alone(secret) for secret in self.secrets if len(secret) < SHORTEST)

    def __contains__(self, secret: object) -> bool:
        return secret in self.secrets

    def __iter__(self) -> Iterator[str]:
        return iter(self.secrets)

    def __len__(self) -> int:
        return len(self.secrets)

    def without(self, data: bytes, *, short: bool = True) -> bytes:
        """Return `data` untouched (the very object), but for the secrets in it.

        `short`: also those that are so short that they count only where they stand alone.
        """
        for word in self._words:
            if data.find(word) >= 0:
                data = data.replace(word, BLOT)
        if self._words and _is_escaped(data):
            plain = undone(data)
            for word in self._words:
                if plain.find(word) >= 0:
                    data = _escaped(word).sub(BLOT, data)
        if short:
            for pattern in self._short:
                data = pattern.sub(BLOT, data) if pattern.search(data) else data
        return data

    def _up_to(self, length: int) -> tuple[bytes, ...]:
        """Return what is looked for in values of at most this length: those of good answers are shorter than keys."""
        length = min(length, self._longest)
        words = self._by_length.get(length)
        if words is None:
            words = (*_ESCAPES, *(word for word in self._words if len(word) <= length))
            self._by_length[length] = words
        return words

    def lines(self, lines: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return header lines without secrets in their values: the very list, where there are none.

        Every good answer comes through here, so all values are looked at in one go.
        """
        known = self._harmless
        new = [*filterfalse(known.__contains__, map(_VALUE, lines))]
        if not new:
            return lines
        if max(map(b"\n".join(new).find, self._up_to(max(map(len, new))))) < 0:
            if len(known) >= REMEMBERED:
                known.clear()
            known.update(new)
            return lines
        return [(name, self.without(value, short=False)) for name, value in lines]


EMPTY = Inventory()


def _is_escaped(data: bytes) -> bool:
    return max(map(data.find, _ESCAPES)) >= 0


def undone(data: bytes) -> bytes:
    """Return `data` with its escapes undone, as many layers as there are, up to `ESCAPED_TIMES`."""
    for _ in range(ESCAPED_TIMES):
        before, data = data, _ESCAPE.sub(_char, data)
        if data == before:
            break
    return data


def _char(match: re.Match[bytes]) -> bytes:
    in_json, in_url, in_hex, in_decimal, named, char = match.groups()
    if code := in_json or in_url or in_hex:
        return bytes((int(code, 16),))
    if in_decimal:
        return bytes((int(in_decimal),)) if int(in_decimal) <= _MAX_BYTE else match[0]
    return _NAMED[named] if named else char or b""


def _alone(secret: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?<!\w)" + re.escape(secret.encode("utf-8", "surrogatepass")) + rb"(?!\w)")


@lru_cache(maxsize=1024)
def _escaped(word: bytes) -> re.Pattern[bytes]:
    """Return what finds a word of which any character may be escaped."""
    return re.compile(b"".join(_spelt(code) for code in word))


def _spelt(code: int) -> bytes:
    as_hex, char = b"(?i:%02x)" % code, re.escape(bytes((code,)))
    ways = [rb"\\{0,8}+" + char if char != b"\\\\" else rb"\\{1,8}"] if not chr(code).isalnum() else [char]
    ways += [rb"%(?:25){0,3}" + as_hex, rb"\\{1,8}(?:u00|x)" + as_hex]
    ways += [rb"&(?:amp;){0,2}#[xX]0{0,4}" + as_hex + b";", rb"&(?:amp;){0,2}#0{0,4}%d;" % code]
    if name := _NAMES.get(code):
        ways.append(rb"&(?:amp;){0,2}" + name + b";")
    return b"(?:" + b"|".join(ways) + b")"


def _spellings(secret: str) -> Iterator[bytes]:
    """Return a secret as it is and in base64. Escapes are undone before it is looked for."""
    raw = secret.encode("utf-8", "surrogatepass")
    yield raw
    if not secret.isascii():
        yield json.dumps(secret)[1:-1].encode()
    for skipped in range(ALIGNMENTS):
        whole = len(raw) - skipped
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(raw[skipped : skipped + whole - whole % 3])
            if len(encoded) >= BASE64_MIN_CHARS:
                yield encoded


# What is a secret


def secrets_of(provider: Provider) -> tuple[str, ...]:
    """Return what of a provider's configuration must never be shown, the longest first.

    Its key, the credentials of its proxy, the values of its headers but for plain words, and what looks like a key in
    the path of its address; each also in its parts (`Bearer x`, `user token`) and as it goes over the wire.
    """
    found = {provider.secret, *_parts(provider.secret)}
    for raw_name, raw in provider.headers:
        name, value = raw_name.decode("latin-1"), raw.decode("latin-1")
        if TELLING.search(name):
            found |= {value, *_parts(value)}
        elif not _PUBLIC_HEADERS.fullmatch(name):
            found |= {text for text in (value, *_parts(value)) if _is_random(text) or len(text) >= LONG_VALUE}
    found |= set(_of_proxy(provider.origin.proxy)) | set(_in_path(provider))
    return tuple(sorted(found - {""}, key=len, reverse=True))


def _is_random(text: str) -> bool:
    return _RANDOM.search(text) is not None


def _parts(secret: str) -> Iterator[str]:
    return (part for part in secret.split() if len(part) >= SHORTEST and part.lower() not in ("bearer", "basic"))


def _of_proxy(url: str | None) -> Iterator[str]:
    """Return a proxy's credentials: one by one, as they stand in the URL, and as they go over the wire."""
    parts = urlsplit(url or "")
    name, password = parts.username or "", parts.password or ""
    for user, word in {(name, password), (unquote(name), unquote(password))}:
        if word:
            yield word
            yield f"{user}:{word}"
            yield base64.b64encode(f"{user}:{word}".encode()).decode()
        if len(user) >= SHORTEST:
            yield user


def _in_path(provider: Provider) -> Iterator[str]:
    """Return the parts of an address's path and query that look like a key."""
    url = urlsplit(provider.base_url)
    for part in re.split(r"[/?&=;,:]", f"{url.path}?{url.query}"):
        if _is_random(part):
            yield part
            yield unquote(part)


def shown_url(provider: Provider) -> str:
    """Return a provider's address fit to be shown: without what looks like a key in its path."""
    url = provider.base_url
    for part in _in_path(provider):
        url = url.replace(part, BLOT.decode())
    return url


_CLIENTS = frozenset({b"authorization", b"x-api-key", b"proxy-authorization", b"x-balancer-key", b"cookie", b"api-key"})
_NO_CREDENTIALS = (b"anthropic-", b"x-claude-", b"x-stainless-", b"idempotency-key")


def secrets_in(headers: Headers) -> Iterator[str]:
    """Return the credentials that a client has sent, whole and in parts. A short one is taken for a dummy."""
    for name, raw in headers:
        if name not in _CLIENTS and (name.startswith(_NO_CREDENTIALS) or not TELLING.search(name.decode("latin-1"))):
            continue
        value = raw.decode("latin-1")
        cookies = [part.partition("=")[2] for part in value.split(";")] if name == b"cookie" else []
        for text in (value, *_parts(value), *cookies):
            if len(text.strip()) >= CLIENTS_SHORTEST:
                yield text.strip()
        if value[:6].lower() == "basic ":
            yield from _of_basic(value[6:].strip())


def _of_basic(word: str) -> Iterator[str]:
    """Return what `Basic` credentials say: `user:password`, and the password."""
    try:
        pair = base64.b64decode(word, validate=True).decode()
    except ValueError:
        return
    for text in (pair, pair.partition(":")[2]):
        if len(text) >= CLIENTS_SHORTEST:
            yield text
