"""Errors for requests that no provider gets to see, and the ids of requests."""

from __future__ import annotations

import random

from balancer.relay.writer import ResponseWriter
from balancer.wire.errors import CONTENT_TYPE_JSON, error_body


class Rejected(Exception):
    """A request that no provider is to see."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


_ids = random.Random()


def new_id() -> str:
    """Return an id for a request."""
    return "req_" + _ids.getrandbits(96).to_bytes(12, "big").hex()


async def reject(writer: ResponseWriter, error: Rejected, request_id: str) -> None:
    """Answer with an error in the Messages API's shape."""
    body = error_body(error.kind, error.message, request_id)
    headers: list[tuple[bytes, bytes]] = [
        CONTENT_TYPE_JSON,
        (b"content-length", b"%d" % len(body)),
        (b"x-balancer-request-id", request_id.encode()),
        (b"request-id", request_id.encode()),
    ]
    if error.status == 405:
        headers.append((b"allow", b"POST"))
    if error.status == 503:
        headers.append((b"retry-after", b"1"))
    if error.status in (408, 413, 503):
        headers.append((b"connection", b"close"))
    writer.start(error.status, tuple(headers))
    await writer.write(body, last=True)
