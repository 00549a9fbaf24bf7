"""What OpenAI-compatible servers say when they refuse or fail, in the Messages API's words.

Every server has a shape of its own for errors; what is in none of the known ones is kept as it was written.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from balancer import claude_code
from balancer.headers import API_REQUEST_ID, header
from balancer.model import Fault, Reply
from balancer.redact import anonymous, scrub
from balancer.wire import overflow
from balancer.wire.errors import (
    CONTENT_TYPE_JSON,
    MESSAGE_MAX_CHARS,
    STATUS_OF,
    error_body,
    kind_of,
    messages_status,
    retry_after,
    sort_of,
)
from balancer.wire.marks import marks_of

NESTED_MAX = 8
"""How many objects and lists may stand around an error."""

PLAIN_MAX_CHARS = 300
"""A longer body that is no JSON is a page, not a message."""


class Complaint(msgspec.Struct, frozen=True):
    """An error in whichever shape it came."""

    message: str
    type: str = ""
    code: str = ""
    param: str = ""
    status: int | None = None
    prompt_tokens: int | None = None
    context_tokens: int | None = None

    @property
    def words(self) -> str:
        """Type, code and message in lower case: what is looked for keywords."""
        return f"{self.type} {self.code} {self.message}".lower()


def complaint(value: Any, nested: int = 0) -> Complaint | None:
    """Read an error object, or a string, or a body that holds one; None if there is none."""
    if isinstance(value, str):
        return Complaint(value[:MESSAGE_MAX_CHARS]) if value.strip() else None
    if nested >= NESTED_MAX:
        return None
    if isinstance(value, list):
        return complaint(value[0], nested + 1) if value else None
    if not isinstance(value, dict):
        return None
    for key in ("error", "errors", "detail"):
        if value.get(key):
            found = complaint(value[key], nested + 1)
            if found is None or found.message:
                return found
            return Complaint(msgspec.json.encode(value).decode()[:MESSAGE_MAX_CHARS])
    return _stated(value)


def _stated(error: dict[str, Any]) -> Complaint:
    """Read an error object that is the error itself."""
    code, status = error.get("code"), error.get("status")
    numbers = [number for number in (code, status) if isinstance(number, int) and 400 <= number < 600]
    kind = error.get("type") if isinstance(error.get("type"), str) else status if isinstance(status, str) else ""
    message = error.get("message") or error.get("msg") or ""
    if isinstance(error.get("loc"), list):
        message = f"{'.'.join(map(str, error['loc']))}: {message}"
    return Complaint(
        (message if isinstance(message, str) else str(message))[:MESSAGE_MAX_CHARS],
        str(kind or ""),
        code if isinstance(code, str) else "",
        param if isinstance(param := error.get("param"), str) else "",
        numbers[0] if numbers else None,
        error.get("n_prompt_tokens") if isinstance(error.get("n_prompt_tokens"), int) else None,
        error.get("n_ctx") if isinstance(error.get("n_ctx"), int) else None,
    )


def body_complaint(body: bytes) -> Complaint:
    """Read the body of a refusal, whatever it is."""
    try:
        found = complaint(msgspec.json.decode(body))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        text = body.decode("utf-8", "replace").strip()
        plain = sort_of(body) == "text" and len(text) < PLAIN_MAX_CHARS
        return Complaint(text if plain else "upstream returned a non-JSON error" if text else "")
    return found or Complaint("")


KINDS = (
    ("insufficientquota", "billing_error"),
    ("ratelimit", "rate_limit_error"),
    ("toomanyrequests", "rate_limit_error"),
    ("throttling", "rate_limit_error"),
    ("overloaded", "overloaded_error"),
    ("unavailable", "overloaded_error"),
    ("invalidapikey", "authentication_error"),
    ("authentication", "authentication_error"),
    ("permission", "permission_error"),
    ("contextlength", "invalid_request_error"),
    ("contentpolicy", "invalid_request_error"),
    ("contentfilter", "invalid_request_error"),
    ("invalidrequest", "invalid_request_error"),
    ("badrequest", "invalid_request_error"),
    ("timeout", "timeout_error"),
)
"""What types and codes are called, without anything but their letters: `RateLimitError`, `rate_limit_exceeded`.
The first that fits counts: OpenAI calls a wrong key an `invalid_request_error` with the code `invalid_api_key`."""


def _kind_in_words(said: Complaint) -> str | None:
    named = re.sub(r"[^a-z]", "", f"{said.type}{said.code}"[:MESSAGE_MAX_CHARS].lower())
    return next((kind for word, kind in KINDS if word in named), None)


def stream_fault(value: Any) -> Fault:
    """Return the fault that an error inside a 200 stands for."""
    said = complaint(value) or Complaint("the provider reported an error without words")
    if (too_long := overflow_message(said)) is not None:
        return Fault(400, "invalid_request_error", too_long)
    kind = _kind_in_words(said) or (kind_of(messages_status(said.status)) if said.status else "api_error")
    message = anonymous(said.message or said.code or said.type or "the provider reported an error")
    return Fault(STATUS_OF[kind], kind, message)


_IMAGE = re.compile(
    r"image.{0,60}(?:not support|unsupported|only supported|invalid|could not)"
    r"|(?:not support|unsupported|unknown variant|invalid|at most 0|could not \w+).{0,60}image|not a multimodal"
)
_PDF = re.compile(
    r"(?<![a-z])(?:pdf|file).{0,60}(?:not support|unsupported|only supported)"
    r"|(?:not support|unsupported|unknown variant).{0,60}(?<![a-z])(?:pdf|file)"
)


def fault_of(reply: Reply, wall: float, request_id: str) -> Fault:
    """Return the fault that an answer that is not 2xx stands for. `wall` is now, in seconds since the epoch."""
    said = body_complaint(reply.body)
    too_long = overflow_message(said)
    media = _media(said)
    callers = too_long is not None or reply.status == 422 or (reply.status == 500 and media)  # 500: llama.cpp says so
    status = 400 if callers else reply.status
    message = scrub(anonymous(too_long if too_long is not None else _worded(said, media if status == 400 else "")))
    kind = kind_of(messages_status(status))
    if status == 429 and "insufficient_quota" in said.words:
        kind = "billing_error"
    should_retry = header(reply.headers, b"x-should-retry")
    marks = marks_of(reply.body)
    return Fault(
        status,
        kind,
        message,
        retry_after_s=_cooldown_s(reply, wall),
        should_retry=None if should_retry is None else should_retry.strip().lower() == b"true",
        reply=Reply(
            status,
            (CONTENT_TYPE_JSON, (API_REQUEST_ID, request_id.encode())),
            error_body(kind, message, request_id),
        ),
        type=marks.type,
        code=marks.code,
        marks=marks.others,
        param=marks.param,
        foreign=sort_of(reply.body) == "an HTML page",
    )


def _media(said: Complaint) -> str:
    """Return the words by which Claude Code knows which media to leave out; empty: it is not about any."""
    message = said.message.lower()
    if _IMAGE.search(message):
        return claude_code.could_not_process("image")
    return claude_code.could_not_process("PDF") if _PDF.search(message) else ""


def _worded(said: Complaint, about: str) -> str:
    return about + (said.message or said.code or said.type)


def overflow_message(said: Complaint) -> str | None:
    """Return what to tell the client of a complaint about the prompt's length; None if it is about something else."""
    words = f"{said.code} {said.type} {said.message}"
    return overflow.canonical(words, said.message or said.code, said.prompt_tokens, said.context_tokens)


_NUMBER = re.compile(rb"\d+(?:\.\d+)?")
_DURATION = re.compile(rb"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?\Z")
_UNITS_S = (86400.0, 3600.0, 60.0, 1.0, 0.001)
RESET_MAX_CHARS = 40
"""The value of a header is not read any further: no duration or date is as long."""
LEAST_DATE_S = 1e8
"""A larger number of seconds is no duration but a date."""


def _cooldown_s(reply: Reply, wall: float) -> float | None:
    """Return how long the provider asks to be left alone: `retry-after`, or the reset of a spent limit."""
    stated = retry_after(reply.headers, wall)
    if stated is not None:
        return stated
    resets: list[float] = []
    for what in (b"", b"-requests", b"-tokens"):
        remaining = header(reply.headers, b"x-ratelimit-remaining" + what)
        spent = remaining == b"0" or (remaining is None and reply.status == 429)
        reset = header(reply.headers, b"x-ratelimit-reset" + what)
        if spent and reset and (reset_s := _reset_s(reset, wall)) is not None:
            resets.append(reset_s)
    return float(math.ceil(max(resets))) if resets else None


def _reset_s(value: bytes, wall: float) -> float | None:
    """Read `6m0s`, seconds, or a date in seconds or milliseconds since the epoch."""
    if len(value) > RESET_MAX_CHARS:
        return None
    if _NUMBER.fullmatch(value):
        number = float(value)
        if number < LEAST_DATE_S:
            return number
        return max(0.0, (number / 1000 if number > LEAST_DATE_S * 1000 else number) - wall)
    found = _DURATION.match(value)
    return sum(float(n) * unit for n, unit in zip(found.groups(), _UNITS_S, strict=True) if n) if found else None
