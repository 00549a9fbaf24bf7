"""HTTP header lines: their type, names that are interned, and the form in which they go over the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Header lines in wire order. Names are lower case; values are as they came."""

REQUEST_ID = b"x-balancer-request-id"
"""Names the request in every answer of the balancer, in its log and in its errors."""

API_REQUEST_ID = b"request-id"
"""What the Messages API calls it, and SDKs show. In a provider's answer it is the provider's own."""

NO_CREDENTIALS = (b"anthropic-", b"x-claude-", b"x-stainless-", b"idempotency-key")
"""How headers of clients begin that carry no credential, whatever else is in their names."""

NAMES_MAX = 1000
"""How many header names are interned at the most."""

NAME_MAX_BYTES = 64
"""The longest header name that is interned."""

_names: dict[bytes, bytes] = {}
"""Names of headers in lower case, by how they were spelt. The usual ones come with every request: always the
same object, whose hash is known, and which is equal to itself without a look at its bytes."""


def _lowered(name: bytes) -> bytes:
    lower = name.lower()
    if len(name) <= NAME_MAX_BYTES:
        if len(_names) >= NAMES_MAX:  # clients name headers as they like; the usual ones are soon back
            _names.clear()
        lower = _names[name] = _names.setdefault(lower, lower)
    return lower


def collector(into: list[tuple[bytes, bytes]]) -> Callable[[bytes, bytes], None]:
    """Return what a parser calls with each header: the fewest steps that there can be, as there are dozens."""
    append, known = into.append, _names.get

    def on_header(name: bytes, value: bytes) -> None:
        append((known(name) or _lowered(name), value))

    return on_header


def header(headers: Headers, name: bytes) -> bytes | None:
    """Return the first value of `name` (lower case) in `headers`, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def request_id_lines(request_id: str) -> Headers:
    """Return the headers of an answer that the balancer gives by itself: both names of the request's id."""
    value = request_id.encode()
    return (REQUEST_ID, value), (API_REQUEST_ID, value)


def names_of(headers: Headers) -> tuple[bytes, ...]:
    """Return the names of `headers`, in their order: what is the same for all requests of a client."""
    names = tuple(dict(headers))
    return names if len(names) == len(headers) else tuple([name for name, _ in headers])


def written(headers: Headers) -> bytes:
    """Return `headers` as they go over the wire, each with its line's end.

    Raises `ValueError` for one that would break out of its line. (To look for line ends before there are
    any costs half of what counting them costs. And `in` takes ten times as long as `find`: Python first tries
    whether what is sought is a number.)
    """
    lines = b"\0".join((*map(b": ".join, headers), b""))
    if lines.find(b"\n") >= 0 or lines.find(b"\r") >= 0 or lines.count(b"\0") != len(headers):
        raise ValueError("a line break or a control character inside a header")
    return lines.replace(b"\0", b"\r\n")
