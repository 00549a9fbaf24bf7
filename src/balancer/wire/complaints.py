"""What OpenAI-compatible servers say when they refuse or fail, in the Messages API's words.

Every server has a shape of its own for errors; what is in none of the known ones is kept as it was written.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec
from msgspec.structs import replace

from balancer import claude_code
from balancer.headers import API_REQUEST_ID, header
from balancer.model import Fault, Reply
from balancer.redact import anonymous, scrub
from balancer.wire import overflow
from balancer.wire.errors import (
    CONTENT_TYPE_JSON,
    MESSAGE_MAX_CHARS,
    POLICY_BLOCKED,
    STATUS_OF,
    error_body,
    kind_of,
    messages_status,
    retry_after,
    sort_of,
)
from balancer.wire.loose import count_of, loosely_decoded, object_of, string_of
from balancer.wire.marks import marks_in
from balancer.wire.waits import stated_wait_s

NESTED_MAX = 8
"""How many objects and lists may stand around an error."""

MAX_CODE = 10**9
"""A larger number is no code."""

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
                return _with_code(found, value) if isinstance(value[key], str) else found
            return Complaint(msgspec.json.encode(value).decode()[:MESSAGE_MAX_CHARS])
    return _stated(value, nested)


_MESSAGES = (
    "message",
    "msg",
    "Message",
    "error_msg",
    "error_message",
    "errorMessage",
    "status_msg",
    "error_description",
)


def _stated(error: dict[str, Any], nested: int = 0) -> Complaint:
    """Read an error object that is the error itself. What another provider said, and it quotes, is what counts."""
    code, status = error.get("code"), error.get("status")
    numbers = [number for number in (code, status) if isinstance(number, int) and 400 <= number < 600]
    kind = error.get("type") if isinstance(error.get("type"), str) else status if isinstance(status, str) else ""
    message = next((said for key in _MESSAGES if (said := error.get(key))), "")
    quoted = _quoted(error, message, nested)
    if isinstance(error.get("loc"), list):
        message = f"{'.'.join(map(str, error['loc']))}: {message}"
    stated = Complaint(
        (message if isinstance(message, str) else str(message))[:MESSAGE_MAX_CHARS],
        str(kind or ""),
        _code(code),
        param if isinstance(param := error.get("param"), str) else "",
        numbers[0] if numbers else None,
        error.get("n_prompt_tokens") if isinstance(error.get("n_prompt_tokens"), int) else None,
        error.get("n_ctx") if isinstance(error.get("n_ctx"), int) else None,
    )
    if quoted is None or not quoted.message:
        return stated
    return replace(
        quoted,
        type=quoted.type or stated.type,
        code=quoted.code or stated.code,
        param=quoted.param or stated.param,
        status=stated.status or quoted.status,
    )


def _code(code: Any) -> str:
    """Return an error's own code; an HTTP status is none."""
    if isinstance(code, int) and not isinstance(code, bool) and not 100 <= code < 600:
        return str(code) if abs(code) < MAX_CODE else ""
    return code if isinstance(code, str) else ""


def _quoted(error: dict[str, Any], message: Any, nested: int) -> Complaint | None:
    """Return another provider's error that stands in this one: in `metadata.raw` (OpenRouter), or as its message."""
    raw = object_of(error.get("metadata")).get("raw")
    if isinstance(raw, dict | list):
        return complaint(raw, nested + 1)
    for text in (raw, message):
        if not isinstance(text, str) or not (text := text.strip()):
            continue
        if text[0] in "{[":
            try:
                found = complaint(msgspec.json.decode(text), nested + 1)
            except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
                continue
            if found is not None and found.message:
                return found
        elif text is not message and len(text) < PLAIN_MAX_CHARS and not text.startswith("<"):
            return Complaint(text)
    return None


def _with_code(found: Complaint | None, around: dict[str, Any]) -> Complaint | None:
    """Return an error that is a string, with the type and code that stand beside it."""
    if found is None:
        return None
    return replace(found, type=string_of(around.get("type")), code=string_of(around.get("code")))


def body_complaint(body: bytes) -> Complaint:
    """Read the body of a refusal, whatever it is."""
    return _read(body)[0]


def _read(body: bytes) -> tuple[Complaint, Any]:
    """Return what the body of a refusal says, and the body as JSON; None: it is no JSON."""
    try:
        value = _decoded(body)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        text = body.decode("utf-8", "replace").strip()
        plain = sort_of(body) == "text" and len(text) < PLAIN_MAX_CHARS
        return Complaint(text if plain else "upstream returned a non-JSON error" if text else ""), None
    return complaint(value) or Complaint(""), value


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return loosely_decoded(body)  # bytes that are no UTF-8, NaN and the like


KINDS = (
    ("insufficientquota", "billing_error"),
    ("insufficientbalance", "billing_error"),
    ("arrearage", "billing_error"),
    ("usagelimitreached", "rate_limit_error"),
    ("resourceexhausted", "rate_limit_error"),
    ("limitrequests", "rate_limit_error"),
    ("insufficientsystemresource", "overloaded_error"),
    ("serverbusy", "overloaded_error"),
    ("overcapacity", "overloaded_error"),
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


NO_WORDS = "the provider reported an error without words"

_WELL = frozenset({"0", "200", "ok", "success"})
_FAILED = frozenset({"error", "failed", "fail", "failure"})


def is_error(value: dict[str, Any], *, alone: bool) -> bool:
    """Say whether a JSON object that is no event and no answer reports an error, in whichever API's shape.

    `alone`: nothing of an answer has come. Then words beside a code or a failed status are an error, too.
    """
    if value.get("type") == "error" or value.get("object") == "error":
        return True
    if (error := value.get("error")) and isinstance(error, dict | list | str):
        return True
    if not alone or value.get("type"):
        return False
    if any(isinstance(value.get(key), dict | list | str) and value[key] for key in ("errors", "detail")):
        return True
    if not any(isinstance(value.get(key), str) and value[key] for key in ("message", "msg")):
        return False
    code, status = value.get("code"), value.get("status")
    if value.get("success") is False or string_of(status).lower() in _FAILED:
        return True
    return _is_code(code) or 400 <= (count_of(status) or 0) < 600


def _is_code(code: Any) -> bool:
    """Say whether a code stands for an error. Servers number theirs as they like; 0, 200 and OK are none."""
    if isinstance(code, str):
        return bool(code) and code.lower() not in _WELL
    return (count_of(code) or 0) not in (0, 200)


def inner_fault(value: Any) -> Fault:
    """Return the fault that an error inside a 200 stands for, at a server that speaks the Messages API.

    `value` is the error, or what holds it: in the Messages API's shape, or in another's. It is the fault that the same
    words with a status would be. Its words are kept, as clients may act on them.
    """
    error = value
    if isinstance(value, dict) and isinstance(value.get("error"), dict | list | str):
        error = value["error"] or value
    kind = string_of(object_of(error).get("type"))
    said = complaint(error) or Complaint("")
    status = said.status or _stated(object_of(value)).status  # beside the error, or within it
    if kind not in STATUS_OF or said.code or status:
        named = _kind_in_words(said) or (kind_of(messages_status(status)) if status else None)
        kind = named or ("api_error" if kind in ("", "error") else kind)
    message = said.message or said.code or NO_WORDS
    if (too_long := overflow_message(said)) is not None:
        if too_long in message:  # in the words that the client knows already
            too_long = message
        elif message not in too_long:
            too_long = f"{too_long} ({message})"
        return Fault(400, "invalid_request_error", too_long)
    status = 400 if kind == POLICY_BLOCKED else STATUS_OF.get(kind, 500)
    wait_s = stated_wait_s(value, said.message, 0.0)
    return Fault(status, kind, message, retry_after_s=wait_s, type=said.type, code=said.code)


def stream_fault(value: Any) -> Fault:
    """Return the fault that an error inside a 200 stands for."""
    said = complaint(value) or Complaint("the provider reported an error without words")
    marks = marks_in(value)
    if not _is_rate(said) and (too_long := overflow_message(said)) is not None:
        return Fault(400, "invalid_request_error", too_long)
    kind = _kind_in_words(said) or (kind_of(messages_status(said.status)) if said.status else "api_error")
    message = anonymous(said.message or said.code or said.type or "the provider reported an error")
    return Fault(
        STATUS_OF[kind],
        kind,
        message,
        retry_after_s=stated_wait_s(value, said.message, 0.0),
        type=marks.type,
        code=marks.code,
        marks=marks.others,
        param=marks.param,
    )


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
    said, body = _read(reply.body)
    too_long = None if _is_rate(said) else overflow_message(said)
    media = _media(said)
    callers = too_long is not None or reply.status == 422 or (reply.status == 500 and media)  # 500: llama.cpp says so
    status = 400 if callers else 429 if reply.status == 413 and _is_rate(said) else reply.status
    message = scrub(anonymous(too_long if too_long is not None else _worded(said, media if status == 400 else "")))
    kind = kind_of(messages_status(status))
    if status == 429 and "insufficient_quota" in said.words:
        kind = "billing_error"
    should_retry = header(reply.headers, b"x-should-retry")
    marks = marks_in(body)
    return Fault(
        status,
        kind,
        message,
        retry_after_s=_cooldown_s(reply, status, said, body, wall),
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


_RATE = re.compile(
    r"(?:tokens|requests)[ -]per[ -](?:second|minute|hour|day)|\((?:tp|rp)[smhd]\)|rate[ _-]limit|too many requests"
)


def _is_rate(said: Complaint) -> bool:
    """Say whether an error is about so much in so little time: one request alone can be too long for that."""
    return "context" not in said.code and _RATE.search(said.words) is not None


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
    if said.code in overflow.CODES:
        words = f"{claude_code.PROMPT_TOO_LONG} {words}"
    return overflow.canonical(words, said.message or said.code, said.prompt_tokens, said.context_tokens)


_NUMBER = re.compile(rb"\d+(?:\.\d+)?")
_DURATION = re.compile(rb"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?\Z")
_UNITS_S = (86400.0, 3600.0, 60.0, 1.0, 0.001)
RESET_MAX_CHARS = 40
"""The value of a header is not read any further: no duration or date is as long."""
LEAST_DATE_S = 1e8
"""A larger number of seconds is no duration but a date."""


def _cooldown_s(reply: Reply, status: int, said: Complaint, body: Any, wall: float) -> float | None:
    """Return how long the provider asks to be left alone: `retry-after`, the reset of a spent limit, or its words."""
    stated = retry_after(reply.headers, wall)
    if stated is not None:
        return stated
    resets: list[float] = []
    for what in (b"", b"-requests", b"-tokens"):
        remaining = header(reply.headers, b"x-ratelimit-remaining" + what)
        spent = remaining == b"0" or (remaining is None and status == 429)
        reset = header(reply.headers, b"x-ratelimit-reset" + what)
        if spent and reset and (reset_s := _reset_s(reset, wall)) is not None:
            resets.append(reset_s)
    return float(math.ceil(max(resets))) if resets else stated_wait_s(body, said.message, wall)


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
