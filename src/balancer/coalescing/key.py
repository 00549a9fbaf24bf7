"""What makes two requests identical.

Claude Code sends a request twice within milliseconds, and its user would pay twice. Identical requests have the same
client, path, query, body and headers. All headers go along to a provider, so any may change the answer; left out are
those that only describe the connection or the single call. A retry is byte-identical too, and parallel agents may be:
so only requests that are in flight at the same time are joined, and an error reaches only those that waited for it.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import compress

import msgspec
import xxhash

from balancer.headers import Headers, names_of
from balancer.model import Request

_IGNORED = frozenset(
    {
        # of the connection
        b"host",
        b"connection",
        b"keep-alive",
        b"content-length",
        b"transfer-encoding",
        b"te",
        b"expect",
        b"accept-encoding",
        b"user-agent",
        b"via",
        b"forwarded",
        b"x-real-ip",
        # of the single call
        b"traceparent",
        b"tracestate",
        b"baggage",
        b"sentry-trace",
        b"x-request-id",
        b"x-correlation-id",
        b"idempotency-key",
        # of the client, which `Request.client` names already
        b"authorization",
        b"x-api-key",
    }
)
_IGNORED_PREFIXES = (b"x-stainless-", b"x-forwarded-")


class Key(msgspec.Struct, frozen=True, cache_hash=True, gc=False):
    """What identical requests have in common. It is looked up four times, and hashed once."""

    generation: int
    client: str
    claude_code: bool
    operation: str
    query: bytes
    headers: Headers
    digest: bytes


def key(request: Request, seed: int, generation: int) -> Key:
    """Return what `request` has in common with identical requests. The body is hashed, never kept.

    `seed` is this process's own, so that nobody outside can make bodies that collide. The hash is XXH3 with 128 bits:
    a body of 400 KB has to cost microseconds. `generation` is the configuration's: a request that comes after a
    reload is answered by what is in force then.
    """
    return Key(
        generation,
        request.client,
        request.claude_code,
        request.operation.word,
        request.query,
        tuple(compress(request.headers, _compared(request.names or names_of(request.headers)))),
        xxhash.xxh3_128_digest(request.body, seed),
    )


@lru_cache(maxsize=256)
def _compared(names: tuple[bytes, ...]) -> tuple[bool, ...]:
    return tuple(name not in _IGNORED and not name.startswith(_IGNORED_PREFIXES) for name in names)
