"""The border for what providers say: what they tell of a failure is cleaned here before anybody else gets to see it.

Every outcome passes it once, before it is judged. So what follows from one (an error for a client, an event, a line of
the log, `GET /providers`) holds no secret: neither of the configuration nor of the client whose request it was. Good
answers pass untouched, but for the values of their headers (`Inventory.lines`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from balancer.headers import Headers
from balancer.model import Broken, Fault, Outcome, Refused, Reply, Request, Stage
from balancer.redact import Inventory, anonymous, closed, scrub, secrets_in
from balancer.wire.complaints import NO_WORDS
from balancer.wire.error_shapes import shape_of
from balancer.wire.errors import CONTENT_TYPE_JSON, POLICY_BLOCKED, STATUS_OF

BODY_MAX_BYTES = 64 * 1024
"""A longer body of an error becomes its message: the API's own are a hundredth of that."""

NESTED_MAX = 32
"""A body that is nested deeper becomes its message."""

LOOKED_UP = 16
"""So many words of an error, at most, are looked for in the request, which may be large."""

_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")
"""What an error's type, code or field looks like; anything else is no word for machines."""

_API_TYPES = frozenset({*STATUS_OF, POLICY_BLOCKED})


def cleaned(outcome: Outcome, known: Inventory, request: Request) -> Outcome:
    """Return how an attempt for `request` ended, without any secret."""
    if isinstance(outcome, Refused):
        return Refused(cleaned_fault(outcome, known, request), outcome.stage)
    if isinstance(outcome, Broken) and outcome.detail:
        detail = scrub(scrub(outcome.detail, known), Inventory(secrets_in(request.headers)))
        return Broken(outcome.stage, outcome.cause, detail)
    return outcome


def cleaned_fault(outcome: Refused, known: Inventory, request: Request) -> Fault:
    """Return what a provider refused an attempt with, without any secret, and its reply as a client may have it."""
    fault, theirs = outcome.fault, Inventory(secrets_in(request.headers))

    def without(data: bytes) -> bytes:
        return theirs.without(known.without(data))

    def words(text: str) -> str:
        return without(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    message = words(fault.message)
    kind = fault.kind
    if kind not in _API_TYPES and (not _TYPE.fullmatch(kind) or words(kind) != kind):
        kind = "api_error"
    reply = fault.reply
    if reply is not None:
        if outcome.stage is Stage.STREAM:  # an event of a stream that the client has open
            reply = Reply(reply.status, reply.headers, without(reply.body))
        else:
            reply = _reply(replace(fault, kind=kind, message=message), reply, without, request)
    return replace(
        fault,
        kind=kind,
        message=message,
        type=words(fault.type),
        code=words(fault.code),
        marks=tuple(map(words, fault.marks)),
        param=words(fault.param),
        reply=reply,
    )


def _reply(fault: Fault, reply: Reply, without: Callable[[bytes], bytes], request: Request) -> Reply:
    """Return the answer for the client: JSON, of a bounded size, and byte for byte where there is nothing to hide."""
    headers: Headers = tuple((name, without(value)) for name, value in reply.headers if name != CONTENT_TYPE_JSON[0])
    if len(reply.body) <= BODY_MAX_BYTES:
        body = without(reply.body)
        try:
            value = msgspec.json.decode(body)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            value = None
        if isinstance(value, dict | list):
            try:
                open_value = _closed(value, Lookup(request), 0)
            except RecursionError:
                open_value = None
            if open_value is not None:
                body = body if open_value == value else msgspec.json.encode(open_value)
                return Reply(reply.status, (CONTENT_TYPE_JSON, *headers), body)
    message = scrub(anonymous(fault.message)) or NO_WORDS
    body = shape_of(request.operation).body(fault.kind, message, request.id)
    return Reply(reply.status, (CONTENT_TYPE_JSON, *headers), body)


class Lookup:
    """Says what of a provider's words the client has sent itself."""

    def __init__(self, request: Request) -> None:
        self._body = request.body
        self._left = LOOKED_UP

    def __call__(self, text: str) -> bool:
        self._left -= 1
        return self._left >= 0 and self._body.find(text.encode("utf-8", "surrogatepass")) >= 0


def _closed(value: Any, is_clients: Lookup, nested: int) -> Any:
    """Return a value of JSON with every text in it fit for a client. Raises `RecursionError` where it is too deep."""
    if nested > NESTED_MAX:
        raise RecursionError
    if isinstance(value, str):
        return closed(value, is_clients)
    if isinstance(value, list):
        return [_closed(one, is_clients, nested + 1) for one in value]
    if isinstance(value, dict):
        return {key: one if key == "request_id" else _closed(one, is_clients, nested + 1) for key, one in value.items()}
    return value
