"""What makes two requests the same.

Claude Code does send a request twice within milliseconds, and its user pays twice. The same is: the
same client, path, query, body, and headers: all of them go along to a provider, so any may change
the answer, but for those that only tell of the connection or of the single call. A retry is
byte-identical too, and parallel agents may be: so only requests that are in flight at the same time
are joined, and an error is nobody's but theirs who waited for it.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import compress

import msgspec
import xxhash

from balancer.headers import Headers, names_of
from balancer.model import Request

_UNTELLING = frozenset(
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
        # of the client, whom `Request.client` names already
        b"authorization",
        b"x-api-key",
    }
)
_UNTELLING_PREFIXES = (b"x-stainless-", b"x-forwarded-")


class Key(msgspec.Struct, frozen=True, cache_hash=True, gc=False):
    """What a request has in common with its twins. It is looked up four times, and hashed once."""

    generation: int
    client: str
    claude_code: bool
    operation: str
    query: bytes
    headers: Headers
    digest: bytes


def key(request: Request, seed: int, generation: int) -> Key:
    """Return what `request` has in common with its twins. The body is hashed, never kept.

    `seed` is this process's own: nobody outside can make bodies that collide. 128 bits of XXH3,
    because a body of 400 KB has to cost microseconds. `generation` is the configuration's: who asks
    after a reload is answered by what is in force then.
    """
    return Key(
        generation,
        request.client,
        request.claude_code,
        request.operation.word,
        request.query,
        tuple(compress(request.headers, _telling(request.names or names_of(request.headers)))),
        xxhash.xxh3_128_digest(request.body, seed),
    )


@lru_cache(maxsize=256)
def _telling(names: tuple[bytes, ...]) -> tuple[bool, ...]:
    return tuple(name not in _UNTELLING and not name.startswith(_UNTELLING_PREFIXES) for name in names)
