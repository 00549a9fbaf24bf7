"""What must never be written down or shown: keys, addresses with credentials, control characters.

Texts come from providers and clients, so every pattern takes time in proportion to a text's length: repeats are bounded
or possessive, and a text is cut before it is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import lru_cache

from balancer.redact.inventory import BLOT, Inventory

LONGEST = 2048
"""Longer messages are cut: nobody reads them, and they may be anything."""

LOOKED_AT = 4096
"""So many characters are looked at: what is shown of a longer text stands in them."""

PARTIAL = 512
"""A cut may go through a secret; so much before it, back to a blank, is not shown either."""

_BLOT = BLOT.decode()

_PAGE = re.compile(r"<!doctype html|<html[\s>]", re.IGNORECASE)
_URL = re.compile(r"\b([a-z][a-z0-9+.-]{1,15})://(?!\[redacted\])[^\s\"'<>)\]]+", re.IGNORECASE)
_KEYS = re.compile(
    r"\bsk-[A-Za-z0-9_-]{4,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]++){0,2}"  # a JWT, or its beginning
    r"|\b(?:gh[pousr]|xox[abprs]|AKIA|AIza)[A-Za-z0-9_-]{8,}"
)
_NAMED = re.compile(
    r"(?P<name>\b(?:bearer|basic|(?:x-)?api[ _-]?key|authorization|(?:auth|access)[ _-]?token|secret|password)"
    r"\b[\"']?(?:\s{0,8}[:=]\s{0,8}|\s{1,8})(?:bearer\s{1,8}|basic\s{1,8})?[\"']?)"
    r"(?P<value>(?=[^\s\"',;0-9_-]{0,256}+[0-9_-])[^\s\"',;]{8,}+)",
    re.IGNORECASE,
)
_TRACE = re.compile(
    r"Traceback \(most recent call last\).*"
    r"|(?<!\s)\s{1,64}at (?:[\w.$<>]{1,128}+ )?\(?[^\s()/\\]{0,128}+[/\\][^\s():]{0,256}+:\d{1,9}+:\d{1,9}+\)?.*",
    re.DOTALL,
)
_ACCOUNT = re.compile(
    r"(?<![\w-])(?:org|proj|project|acct|account|user|team|tenant)[-_](?=[A-Za-z0-9]*\d)[A-Za-z0-9]{6,}\b"
    r"|(?<![\w-])org-[A-Za-z0-9]{16,}\b|\breq[-_][0-9a-f]{8,}\b"
)
_REQUEST_ID = re.compile(r"req[-_][0-9A-Za-z]+")
_HOST = re.compile(
    r"(?<![\w.-])(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+"
    r"(?:com|net|org|io|ai|dev|app|cloud|co|cn|eu|us|uk|de|fr|jp|internal|local|localdomain|lan|corp|intra|svc)"
    r"(?::\d+)?(?![\w-]|\.\w)"
    r"|\blocalhost:\d+|(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?(?![\w.])",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+")


def scrub(text: str, secrets: Collection[str] = ()) -> str:
    """Return `text` fit to be shown and logged.

    `secrets` are known ones; what looks like a key goes as well, URLs shrink to their scheme, a
    web page to its mention, control characters to a space, and the rest to `LONGEST` characters.
    """
    text = without(_begun(text).encode("utf-8", "surrogatepass"), secrets).decode("utf-8", "surrogatepass")
    if _PAGE.search(text):
        return "an HTML page"
    text = _CONTROL.sub(" ", text)
    text = _URL.sub(r"\1://[redacted]", text)
    text = _KEYS.sub("[redacted]", text)
    text = _NAMED.sub(r"\g<name>[redacted]", text)
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."


def _begun(text: str) -> str:
    """Return the beginning of a text, as much as is looked at."""
    if len(text) <= LOOKED_AT:
        return text
    end = max(text.rfind(" ", LOOKED_AT - PARTIAL, LOOKED_AT), text.rfind("\n", LOOKED_AT - PARTIAL, LOOKED_AT))
    return text[: end if end > 0 else LOOKED_AT - PARTIAL]


def without(body: bytes, secrets: Collection[str]) -> bytes:
    """Return `body` untouched, but for the secrets that it quotes, in whatever spelling."""
    known = secrets if isinstance(secrets, Inventory) else _inventory(tuple(secrets))
    return known.without(body)


@lru_cache(maxsize=64)
def _inventory(secrets: tuple[str, ...]) -> Inventory:
    return Inventory(secrets)


def anonymous(text: str) -> str:
    """Return a provider's words without what tells its insides: accounts, machines, stack traces.

    They reach the client of a request, who is not always whose account it is. Field paths
    (`messages.0.content`) and version numbers stay: clients repair their requests by them.
    """
    text = _TRACE.sub("", text).rstrip()
    text = _URL.sub(r"\1://[redacted]", text)
    text = _ACCOUNT.sub("[redacted]", text)
    return _HOST.sub("[redacted]", text)


_PUBLISHED = re.compile(
    r"(?:https?://)?(?:[a-z0-9-]{1,63}\.){0,4}(?:anthropic|claude)\.(?:com|ai)(?![a-z0-9-]|\.\w)", re.IGNORECASE
)
"""The API's own pages, which its errors name for people."""


def closed(text: str, is_clients: Callable[[str], bool]) -> str:
    """Return a provider's words to a client, without what they tell of its insides or of unknown keys.

    Unlike `anonymous` it leaves what the client's own tools act on: ids of requests, the API's own pages, and what
    the client has sent itself (`is_clients`), as the address of an image.
    """

    def blotted(match: re.Match[str]) -> str:
        found = match[0]
        if _PUBLISHED.match(found) or _REQUEST_ID.fullmatch(found) or is_clients(found):
            return found
        return f"{match[1]}://{_BLOT}" if match.re is _URL else _BLOT

    text = _TRACE.sub("", text)
    for pattern in (_URL, _KEYS, _ACCOUNT, _HOST):
        text = pattern.sub(blotted, text)
    return _NAMED.sub(lambda match: match[0] if is_clients(match["value"]) else f"{match['name']}{_BLOT}", text)
