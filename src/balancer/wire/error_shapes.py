"""The balancer's own errors, in the words of the API that was asked: the Messages API's, or OpenAI's.

Both are told the same sentence. What differs is the shape of a body, of an event in a stream, the names of types, and
the header that carries the request's id.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from balancer.headers import API_REQUEST_ID
from balancer.model import Operation
from balancer.wire import errors, sse

OPENAI_REQUEST_ID = b"x-request-id"
"""What OpenAI's API calls the id of a request, and its SDKs show."""

OPENAI_PING = b": ping\n\n"
"""A comment: it keeps a connection alive, and readers of server-sent events pass over it."""


class ErrorShape(Protocol):
    """How an API writes its errors."""

    id_header: bytes
    """The header that carries the request's id."""

    def body(self, kind: str, message: str, request_id: str) -> bytes:
        """Return the body of an error. `kind` is the Messages API's error type."""
        ...

    def frame(self, kind: str, message: str, request_id: str) -> bytes:
        """Return an error as an event of a stream."""
        ...


class _Messages:
    """The Messages API's."""

    id_header = API_REQUEST_ID

    def body(self, kind: str, message: str, request_id: str) -> bytes:
        return errors.error_body(kind, message, request_id)

    def frame(self, kind: str, message: str, request_id: str) -> bytes:
        return errors.error_frame(kind, message, request_id)


_SERVER_ERROR = ("server_error", "server_error")

_OPENAI_KINDS: dict[str, tuple[str, str | None]] = {
    "invalid_request_error": ("invalid_request_error", None),
    "authentication_error": ("invalid_request_error", "invalid_api_key"),
    "billing_error": ("insufficient_quota", "insufficient_quota"),
    "permission_error": ("permission_error", None),
    "not_found_error": ("invalid_request_error", "model_not_found"),
    "conflict_error": ("invalid_request_error", "conflict"),
    "request_too_large": ("invalid_request_error", "request_too_large"),
    "rate_limit_error": ("rate_limit_error", "rate_limit_exceeded"),
    "not_supported": ("invalid_request_error", "not_supported"),
}
"""The Messages API's error types as OpenAI's `type` and `code`; all others are errors of the server."""


def openai_error(kind: str, message: str) -> dict[str, str | None]:
    """Return the member `error` of OpenAI's errors. `kind` is the Messages API's error type."""
    sort, code = _OPENAI_KINDS.get(kind, _SERVER_ERROR)
    param = "model" if code == "model_not_found" else None
    return {"message": message, "type": sort, "param": param, "code": code}


class _ChatCompletions:
    """OpenAI's, in streams as Chat Completions has it: an event with the body of an error."""

    id_header = OPENAI_REQUEST_ID

    def body(self, kind: str, message: str, request_id: str) -> bytes:
        return msgspec.json.encode({"error": openai_error(kind, message)})

    def frame(self, kind: str, message: str, request_id: str) -> bytes:
        return b"data: %b\n\n" % self.body(kind, message, request_id)


class _Responses(_ChatCompletions):
    """OpenAI's, in streams as Responses has it: an event `error`.

    The members of such an event stand in it directly; under `error` they stand once more, where SDKs look for them.
    """

    def frame(self, kind: str, message: str, request_id: str) -> bytes:
        error = openai_error(kind, message)
        told = {"code": error["code"], "message": message, "param": error["param"]}
        # The number is not known here, and strict readers want one.
        return sse.frame("error", msgspec.json.encode({"type": "error", "sequence_number": 0, **told, "error": error}))


MESSAGES: ErrorShape = _Messages()
CHAT_COMPLETIONS: ErrorShape = _ChatCompletions()
RESPONSES: ErrorShape = _Responses()


def shape_of(operation: Operation | None) -> ErrorShape:
    """Return the shape of errors for whoever asked for `operation`; None: for whoever asked for nothing known."""
    if operation is None or not operation.openai:
        return MESSAGES
    return RESPONSES if operation is Operation.RESPONSES else CHAT_COMPLETIONS
