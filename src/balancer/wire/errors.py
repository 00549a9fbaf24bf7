"""Errors in the Messages API's words: read from a provider's answer, written for a client."""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import compress
from typing import Any

import msgspec
from msgspec.structs import replace

from balancer.headers import API_REQUEST_ID, Headers, header, names_of
from balancer.model import Fault, Reply
from balancer.wire import sse
from balancer.wire.loose import loosely_decoded, object_of, string_of
from balancer.wire.marks import marks_in
from balancer.wire.waits import stated_wait_s

STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The Messages API's error types, each with its status: the one table of both, and every other follows from it."""

_KIND_OF = {status: kind for kind, status in STATUS_OF.items()}

SAME_AS = {408: 504, 451: 403, 503: 529}
"""Statuses of other APIs, each with the Messages API's status that says the same."""

MESSAGE_MAX_CHARS = 8192
"""No more is read of a provider's message: it may quote all of the request, or be anything. The client gets the body as
it came."""

POLICY_BLOCKED = "policy_blocked"
"""The type by which a gateway's own policy refuses a request, whatever the status: the client shows it as it is."""

PLAIN_MAX_CHARS = 300
"""A longer text that is no JSON is a page, not a message."""

CONTENT_TYPE_JSON = (b"content-type", b"application/json")
NOSNIFF = (b"x-content-type-options", b"nosniff")
"""No browser takes it for something else than it says."""


def kind_of(status: int) -> str:
    """Return the error type that stands for an HTTP status, in a server that speaks the Messages API."""
    if kind := _KIND_OF.get(status):
        return kind
    return "invalid_request_error" if 400 <= status < 500 else "api_error"


def messages_status(status: int) -> int:
    """Return the Messages API's status for a status of another API; `status` itself where none says the same."""
    return SAME_AS.get(status, status)


def broken(message: str) -> Fault:
    """Return the fault of an answer that is no message: garbage, or cut short."""
    return Fault(502, "api_error", message)


def sort_of(data: bytes) -> str:
    """Return in words what an answer is that should have been something else."""
    start = data[:256].strip().lower()
    if not start:
        return "nothing"
    if start.startswith(b"<"):
        return "an HTML page"
    return "JSON" if start[:1] in (b"{", b"[") else "text"


def error_body(kind: str, message: str, request_id: str) -> bytes:
    """Return an error in the Messages API's shape."""
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})


def error_frame(kind: str, message: str, request_id: str) -> bytes:
    """Return an error as an event of a stream."""
    return sse.frame("error", error_body(kind, message, request_id))


def fault_of(reply: Reply, wall: float) -> Fault:
    """Return the fault of an answer that is not 2xx, of a server that speaks the Messages API.

    `wall` is now, in seconds since the epoch, for limits that name a date.
    """
    value = _decoded(reply.body)
    error = object_of(value).get("error")
    said = marks_in(value)
    stated_kind = string_of(object_of(error).get("type"))
    should_retry = header(reply.headers, b"x-should-retry")
    words = _message(value, error, reply.body)[:MESSAGE_MAX_CHARS]
    wait_s = retry_after(reply.headers, wall, limited=reply.status == 429)
    return Fault(
        reply.status,
        stated_kind if stated_kind in STATUS_OF or stated_kind == POLICY_BLOCKED else kind_of(reply.status),
        words,
        retry_after_s=stated_wait_s(value, words, wall) if wait_s is None else wait_s,
        should_retry=None if should_retry is None else should_retry.strip().lower() == b"true",
        reply=Reply(reply.status, reply_headers(reply.headers), reply.body),
        type=said.type,
        code=said.code,
        marks=said.others,
        param=said.param,
        foreign=bool(reply.body) and not error,
        account_window=is_account_window(reply.headers),
    )


REDIRECTED_TO_TLS = "base_url should be https:// instead of http://"


def redirected(fault: Fault, reply: Reply, *, tls: bool) -> Fault:
    """Return the fault of an answer that may be a redirect, which is not followed: the key would go along.

    `tls`: the provider was asked with it.
    """
    location = header(reply.headers, b"location")
    if not 300 <= reply.status < 400 or location is None:
        return fault
    to_tls = not tls and location[:8].lower() == b"https://"
    return replace(fault, message=REDIRECTED_TO_TLS if to_tls else "it redirects to another address")


def _decoded(body: bytes) -> Any:
    """Return what a body says in JSON; None: it is none. Bytes that are not UTF-8 are no reason to lose the rest."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        pass
    try:
        return loosely_decoded(body.decode(errors="replace"))
    except (RecursionError, ValueError):
        return None


def _message(value: Any, error: Any, body: bytes) -> str:
    """Return the words of an error: those of the API's own shape, or what stands where other servers put theirs."""
    if isinstance(error, str):
        return error
    if isinstance(error, dict):
        return string_of(error.get("message"))
    if isinstance(value, dict):
        return next((words for key in ("message", "detail", "msg") if (words := string_of(value.get(key)))), "")
    if not body:
        return ""
    sort = sort_of(body)
    return body.decode("utf-8", "replace").strip() if sort == "text" and len(body) < PLAIN_MAX_CHARS else sort


_WINDOW = re.compile(rb"\d{1,4}[a-z]-status")
"""`5h-status`; that of one model's allowance has more in it (`7d_oi-status`)."""
_ACCOUNT_CLAIM = re.compile(rb"[a-z0-9]{1,20}_(?:minute|hour|day|week|month)s?")
"""`five_hour`; that of one model's allowance has more behind it (`seven_day_opus`)."""
_UNIFIED = b"anthropic-ratelimit-unified-"


def is_account_window(headers: Headers) -> bool:
    """Say whether the limit that was met is a window of a whole account (five hours, seven days), not one model's.

    The windows that are rejected say it; where none says so, the claim that the provider calls decisive.
    """
    limits = {name[len(_UNIFIED) :]: value for name, value in headers if name.startswith(_UNIFIED)}
    rejected = {
        name for name, value in limits.items() if value == b"rejected" and name not in (b"status", b"overage-status")
    }
    if rejected:
        return any(_WINDOW.fullmatch(name) for name in rejected)
    claim = limits.get(b"representative-claim", b"")
    return limits.get(b"status") != b"allowed" and _ACCOUNT_CLAIM.fullmatch(claim) is not None


def retry_after(headers: Headers, wall: float, *, limited: bool = False) -> float | None:
    """Return how long the provider asks to be left alone, in seconds.

    `retry-after-ms`, then `retry-after` as seconds or a date, then the latest reset among the
    limits of `anthropic-ratelimit-*` that have nothing remaining; where it was said that a limit
    was met (`limited`), a limit that does not say what remains counts too.
    """
    for name, unit_s in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        value = header(headers, name)
        if value is None:
            continue
        seconds = _number(value)
        if seconds is not None:
            return max(0.0, seconds * unit_s)
        date = _http_date(value)
        if date is not None:
            return max(0.0, date - wall)
    return _ratelimit_reset(headers, wall, limited)


def _ratelimit_reset(headers: Headers, wall: float, limited: bool) -> float | None:
    limits = {name: value for name, value in headers if name.startswith(b"anthropic-ratelimit-")}
    latest: float | None = None
    for name, value in limits.items():
        if not name.endswith(b"-reset"):
            continue
        remaining = limits.get(name[: -len(b"reset")] + b"remaining")
        status = limits.get(name[: -len(b"reset")] + b"status")
        untold = limited and remaining is None and status is None
        if remaining != b"0" and status != b"rejected" and not untold:
            continue
        reset = _number(value)
        if reset is None:
            reset = _rfc3339(value)
        if reset is not None:
            latest = max(latest or 0.0, reset - wall)
    return None if latest is None else max(0.0, latest)


def _number(value: bytes) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if number == number and abs(number) < 1e12 else None


def _http_date(value: bytes) -> float | None:
    try:
        return parsedate_to_datetime(value.decode("ascii")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _rfc3339(value: bytes) -> float | None:
    try:
        return datetime.fromisoformat(value.decode("ascii")).timestamp()
    except (ValueError, OverflowError):
        return None


_KEPT = frozenset({API_REQUEST_ID, b"retry-after", b"retry-after-ms", b"x-should-retry"})


def _is_kept(name: bytes) -> bool:
    return name in _KEPT or name.startswith(b"anthropic-")


@lru_cache(maxsize=256)
def _kept(names: tuple[bytes, ...]) -> tuple[bool, ...]:
    """Return which of these headers are kept. Remembered: a provider sends the same names again and again."""
    return tuple(map(_is_kept, names))


def kept_headers(reply: Reply) -> list[tuple[bytes, bytes]]:
    """Return the headers of a provider's answer that a client may see, without those that describe its body."""
    return list(compress(reply.headers, _kept(reply.names or names_of(reply.headers))))


def reply_headers(headers: Headers) -> Headers:
    """Return the headers of a provider's answer that a client may see, with the content type."""
    return tuple([pair for pair in headers if _is_kept(pair[0]) or pair[0] == b"content-type"])
