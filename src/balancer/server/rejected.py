"""Errors for requests that no provider gets to see, and the ids of requests."""

from __future__ import annotations

import random
from collections.abc import Collection

from balancer.headers import REQUEST_ID, Headers
from balancer.model import Operation
from balancer.relay.writer import ResponseWriter
from balancer.transport.decompress import ENCODINGS
from balancer.wire.error_shapes import shape_of
from balancer.wire.errors import CONTENT_TYPE_JSON, NOSNIFF

RETRY_AFTER_S = 1
"""When to come back, for a client that is told 503: by then another process may listen."""

_CLOSING = frozenset({408, 413, 503})
"""Statuses after which the connection is closed: a rest of the body would follow, or the balancer is stopping."""


class Rejected(Exception):
    """A request that is answered with an error before any provider is asked."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        retry_after_s: int | None = None,
        allow: Collection[str] = ("POST",),
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """When to come back, where that is known."""
        self.allow = allow
        """What may be asked in place of a method that is not allowed."""
        self.status = status
        self.kind = kind
        self.message = message


_ids = random.Random()


def new_id() -> str:
    """Return an id for a request: `req_` and 24 hexadecimal digits."""
    return "req_" + _ids.getrandbits(96).to_bytes(12, "big").hex()


def error_reply(
    error: Rejected, request_id: str, *, close: bool = False, operation: Operation | None = None
) -> tuple[Headers, bytes]:
    """Return the headers and the body of an error in the shape of the API that was asked.

    `close`: it is the connection's last. `operation`: what was asked; None: the Messages API's shape.
    """
    shape = shape_of(operation)
    body = shape.body(error.kind, error.message, request_id)
    headers: list[tuple[bytes, bytes]] = [
        CONTENT_TYPE_JSON,
        NOSNIFF,
        (b"content-length", b"%d" % len(body)),
        (REQUEST_ID, request_id.encode()),
        (shape.id_header, request_id.encode()),
    ]
    if error.status == 405:
        headers.append((b"allow", ", ".join(sorted(error.allow)).encode()))
    if error.status == 415:  # RFC 9110, section 12.5.3
        headers.append((b"accept-encoding", b", ".join(ENCODINGS)))
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    elif error.status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_S))
    if close or error.status in _CLOSING:
        headers.append((b"connection", b"close"))
    return tuple(headers), body


async def reject(writer: ResponseWriter, error: Rejected, request_id: str, operation: Operation | None = None) -> None:
    """Answer with an error in the shape of the API that was asked (`error_reply`)."""
    headers, body = error_reply(error, request_id, operation=operation)
    writer.start(error.status, headers)
    await writer.write(body, last=True)
