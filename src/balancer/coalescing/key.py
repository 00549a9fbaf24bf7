"""What makes two requests identical.

Claude Code sends a request twice within milliseconds, and its user would pay twice. Identical requests have the same
client, path, query, body and headers. All headers go along to a provider, so any may change the answer; left out are
those that only describe the connection or the single call. A retry is byte-identical too, and parallel agents may be:
so only requests that are in flight at the same time are joined, and an error reaches only those that waited for it.

Who samples (asks the same several times, for several answers) says so, and is joined with nobody: by `x-balancer-dedup:
off`, by `cache-control: no-cache` or `no-store`, or by an `idempotency-key` of its own for each request.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import compress

import msgspec
import xxhash

from balancer.headers import Headers, names_of
from balancer.model import Request

OPT_OUT = b"x-balancer-dedup"
"""The header by which a request says, with `off`, that it is not to be joined with others."""

_OFF = frozenset({b"off", b"no", b"false", b"0"})
_CACHE_CONTROL = b"cache-control"
_FRESH = frozenset({b"no-cache", b"no-store"})

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
        # of the balancer's own
        OPT_OUT,
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


def key(request: Request, seed: int, generation: int) -> Key | None:
    """Return what `request` has in common with identical requests; None: it is to be joined with none.

    The body is hashed, never kept.

    `seed` is this process's own, so that nobody outside can make bodies that collide. The hash is XXH3 with 128 bits:
    a body of 400 KB has to cost microseconds. `generation` is the configuration's: a request that comes after a
    reload is answered by what is in force then.
    """
    mask, asking_at = _sorted_out(request.names or names_of(request.headers))
    if asking_at and any(_stays_alone(*request.headers[at]) for at in asking_at):
        return None
    return Key(
        generation,
        request.client,
        request.claude_code,
        request.operation.word,
        request.query,
        tuple(compress(request.headers, mask)),
        xxhash.xxh3_128_digest(request.body, seed),
    )


def _stays_alone(name: bytes, value: bytes) -> bool:
    """Say whether this header asks for an answer of the request's own."""
    words = {word.strip() for word in value.lower().split(b",")}
    return not words.isdisjoint(_OFF if name == OPT_OUT else _FRESH)


@lru_cache(maxsize=256)
def _sorted_out(names: tuple[bytes, ...]) -> tuple[tuple[bool, ...], tuple[int, ...]]:
    """Say which headers are compared, and where those are that may ask not to be joined."""
    mask = tuple(name not in _IGNORED and not name.startswith(_IGNORED_PREFIXES) for name in names)
    return mask, tuple(at for at, name in enumerate(names) if name in (OPT_OUT, _CACHE_CONTROL))
