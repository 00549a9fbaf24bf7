"""Errors for requests that no provider gets to see, and the ids of requests."""

from __future__ import annotations

import random

from balancer.headers import Headers, request_id_lines
from balancer.relay.writer import ResponseWriter
from balancer.transport.decompress import ENCODINGS
from balancer.wire.errors import CONTENT_TYPE_JSON, error_body

RETRY_AFTER_S = 1
"""When to come back, for a client that is told 503: by then another process may listen."""

_CLOSING = frozenset({408, 413, 503})
"""Statuses after which the connection is closed: a rest of the body would follow, or the balancer is stopping."""


class Rejected(Exception):
    """A request that is answered with an error before any provider is asked."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


_ids = random.Random()


def new_id() -> str:
    """Return an id for a request: `req_` and 24 hexadecimal digits."""
    return "req_" + _ids.getrandbits(96).to_bytes(12, "big").hex()


def error_reply(error: Rejected, request_id: str, *, close: bool = False) -> tuple[Headers, bytes]:
    """Return the headers and the body of an error in the Messages API's shape; `close`: it is the connection's last."""
    body = error_body(error.kind, error.message, request_id)
    headers: list[tuple[bytes, bytes]] = [
        CONTENT_TYPE_JSON,
        (b"content-length", b"%d" % len(body)),
        *request_id_lines(request_id),
    ]
    if error.status == 405:
        headers.append((b"allow", b"POST"))
    if error.status == 415:  # RFC 9110, section 12.5.3
        headers.append((b"accept-encoding", b", ".join(ENCODINGS)))
    if error.status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_S))
    if close or error.status in _CLOSING:
        headers.append((b"connection", b"close"))
    return tuple(headers), body


async def reject(writer: ResponseWriter, error: Rejected, request_id: str) -> None:
    """Answer with an error in the Messages API's shape."""
    headers, body = error_reply(error, request_id)
    writer.start(error.status, headers)
    await writer.write(body, last=True)
