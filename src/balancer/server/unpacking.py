"""Bodies of requests that clients have compressed: read within the limit for bodies, sent on as they were before."""

from __future__ import annotations

import asyncio

from balancer.redact import scrub
from balancer.server.access import Admitted
from balancer.server.rejected import Rejected
from balancer.transport.decompress import ENCODINGS, Damaged, Inflater

_CODINGS = {coding: coding for coding in ENCODINGS} | {b"x-gzip": b"gzip"}
_OF_THE_PACKED = frozenset({b"content-encoding", b"content-length"})
"""Headers that say nothing of the body that was packed."""


def coding_of(encoding: bytes) -> bytes | None:
    """Return by what a `content-encoding` says that a body is compressed; None: by nothing.

    Raises `Rejected` for what can't be undone.
    """
    plain = encoding.strip().lower()
    if plain in (b"", b"identity"):
        return None
    if (coding := _CODINGS.get(plain)) is None:
        quoted = scrub(encoding[:80].decode("ascii", "replace"))
        remedy = "send the body as it is, or compressed by one of gzip, deflate and br"
        raise Rejected(415, "invalid_request_error", f"content-encoding '{quoted}' is not supported; {remedy}")
    return coding


async def unpacked(coding: bytes, body: bytes, max_bytes: int) -> bytes:
    """Return a body as it was before it was compressed. Raises `Rejected`: it is too large, or damaged.

    It is done in small pieces, and others have their turns between them.
    """
    inflater = Inflater(coding)
    parts: list[bytes] = []
    size = 0
    try:
        for part in inflater.pieces(body):
            size += len(part)
            if size > max_bytes:
                raise Rejected(
                    413, "request_too_large", f"the request body is larger than {max_bytes} bytes when decompressed"
                )
            parts.append(part)
            await asyncio.sleep(0)
    except Damaged:
        raise _damaged(coding) from None
    if not inflater.whole() or inflater.more():
        raise _damaged(coding)
    return b"".join(parts)


def _damaged(coding: bytes) -> Rejected:
    message = f"the body is not what its content-encoding says: whole data of {coding.decode()}, and nothing behind it"
    return Rejected(400, "invalid_request_error", message)


def as_plain(admitted: Admitted) -> Admitted:
    """Return a request's head as it is without compression."""
    headers = tuple(pair for pair in admitted.headers if pair[0] not in _OF_THE_PACKED)
    first = {name: value for name, value in admitted.first.items() if name not in _OF_THE_PACKED}
    return Admitted(admitted.client, headers, first, admitted.grant)
