"""What makes two requests the same.

Claude Code does send a request twice within milliseconds, and its user pays twice. The same is: the
same client, path, query, body, and those headers that change the answer or say who asks
(`anthropic-*`, `x-claude-code-*`). A retry is byte-identical too, and parallel agents may be: so
only requests that are in flight at the same time are joined, and an error is nobody's but theirs
who waited for it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import xxhash

from balancer.model import Headers, Request

Key: TypeAlias = tuple[str, str, bytes, Headers, bytes]


def key(request: Request, seed: int) -> Key:
    """Return what `request` has in common with its twins. The body is hashed, never kept.

    `seed` is this process's own: nobody outside can make bodies that collide. 128 bits of XXH3,
    because a body of 400 KB has to cost microseconds.
    """
    headers = tuple([pair for pair in request.headers if _tells(pair[0])])
    digest = xxhash.xxh3_128_digest(request.body, seed)
    return request.client, request.operation.value, request.query, headers, digest


@lru_cache(maxsize=1024)
def _tells(name: bytes) -> bool:
    return name.startswith((b"anthropic-", b"x-claude-code-"))
