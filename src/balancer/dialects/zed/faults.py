"""What Zed's service means by an error: as a status, or as a `failed` line inside a 200."""

from __future__ import annotations

import re
from typing import Any

from msgspec.structs import replace

from balancer import claude_code
from balancer.model import Fault, Reply
from balancer.wire.errors import STATUS_OF, kind_of, messages_status, retry_after, sort_of
from balancer.wire.loose import decoded_object
from balancer.wire.overflow import is_overflow

CODES = {
    "rate_limit_exceeded": 429,
    "request_timed_out": 504,
    "internal_server_error": 500,
    "payment_required_error": 402,
    "payment_required": 402,
    "token_spend_limit_reached": 402,
    "context_length_exceeded": 413,
}
"""The service's own words for errors, each with its status."""
_UNREAD = re.compile(r"failed to parse \w+ request", re.IGNORECASE)
"""The service's own parser, not the provider behind it, had no place for something: others may take it."""
PERMANENT_S = 3600.0
"""A rest for what stays until somebody changes the configuration; `judge` has the longest that there is."""
_MESSAGE_LIMIT = 500
"""In characters."""


def of_reply(reply: Reply, wall: float) -> Fault:
    """Return the fault of an answer that is not 2xx."""
    body = decoded_object(reply.body)
    code = str(body.get("code") or "")
    message = _words(body, reply.body)
    status = reply.status
    if code.startswith("upstream_http_"):
        status = _upstream(code, body.get("upstream_status"), status)
    fault = fault_of(status, message, _seconds(body.get("retry_after")), code)
    names = {name for name, _ in reply.headers}
    if reply.status == 403 and b"x-zed-subscription-limit-resource" in names:
        fault = fault_of(402, message, None)
    if b"x-zed-minimum-required-version" in names:
        asked = f"the service asks for a newer client (zed_config.client_version): {message}"
        return fault_of(502, asked, PERMANENT_S)
    if fault.retry_after_s is None:
        fault = replace(fault, retry_after_s=retry_after(reply.headers, wall))
    return fault


def of_failed(failed: Any) -> Fault:
    """Return the fault that a `failed` line reports."""
    line = failed if isinstance(failed, dict) else {}
    code, message = str(line.get("code") or ""), str(line.get("message") or "the service failed without words")
    status = STATUS_OF.get(code) or CODES.get(code) or 500
    if code == "upstream_http_error":
        inner = decoded_object(message)
        status = _upstream(code, inner.get("upstream_status"), 500)
        message = str(inner.get("message") or message)
    elif match := re.fullmatch(r"(?:upstream_)?http_(\d{3})", code):
        status = int(match[1])
    elif code and code not in STATUS_OF and code not in CODES:
        message = f"{code}: {message}"
    return fault_of(status if status >= 400 else 500, message, _seconds(line.get("retry_after")), code)


def _words(body: dict[str, Any], raw: bytes) -> str:
    """Return what an answer says in words: its message, whoever's shape that has, or its text."""
    inner = body.get("error")
    for told in (body.get("message"), inner.get("message") if isinstance(inner, dict) else inner):
        if isinstance(told, str):
            return told
    return "an HTML page" if sort_of(raw) == "an HTML page" else raw.decode(errors="replace")


def fault_of(status: int, message: str, retry_after_s: float | None, code: str = "") -> Fault:
    """Return the fault in the Messages API's words."""
    too_long = status == 413 or is_overflow(f"{code} {message}")
    if too_long:
        status = 400
        if claude_code.PROMPT_TOO_LONG not in message[:_MESSAGE_LIMIT].lower():
            message = f"{claude_code.PROMPT_TOO_LONG}: {message}"
    status = messages_status(status)
    elsewhere = too_long or (status == 400 and _UNREAD.search(message) is not None)
    return Fault(status, kind_of(status), message[:_MESSAGE_LIMIT], retry_after_s, elsewhere=elsewhere)


def is_too_long(fault: Fault) -> bool:
    """Say whether a fault is about the length of the prompt."""
    return fault.status == 400 and claude_code.PROMPT_TOO_LONG in fault.message.lower()


def _upstream(code: str, upstream: Any, status: int) -> int:
    if isinstance(upstream, int) and 400 <= upstream < 600:
        return upstream
    match = re.fullmatch(r"upstream_http_(\d{3})", code)
    return int(match[1]) if match else status


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
