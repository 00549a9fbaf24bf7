"""The words of OpenAI-compatible servers: answers, chunks of streams, usage, errors.

Servers differ in everything, so what is not needed is not looked at, and types are checked where
a value is used.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from balancer.model import Fault, Headers, Reply, Usage, header
from balancer.redact import scrub
from balancer.wire.faults import (
    CONTENT_TYPE_JSON,
    STATUS_OF,
    error_body,
    kind_of,
    retry_after,
    sort_of,
)


class Function(msgspec.Struct):
    name: Any = None
    arguments: Any = None


class Call(msgspec.Struct):
    index: Any = None
    id: Any = None
    function: Function | None = None


class Said(msgspec.Struct):
    """A message, or what a chunk adds to one."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: Any = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None


class Choice(msgspec.Struct):
    index: Any = 0
    delta: Said | None = None
    message: Said | None = None
    finish_reason: Any = None
    stop_reason: Any = None
    """vLLM: the stop sequence that was met."""
    error: Any = None


class Chunk(msgspec.Struct):
    """A chunk of a stream, a whole completion, or an error in the place of either."""

    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    object: Any = None
    message: Any = None
    code: Any = None
    type: Any = None


_CHUNK = msgspec.json.Decoder(Chunk)


def chunk(data: bytes) -> Chunk | None:
    """Decode a chunk or a completion; None where it is no JSON object."""
    try:
        return _CHUNK.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _leniently(data)


def _leniently(data: bytes) -> Chunk | None:
    """Decode what strict types or lone surrogates kept from being decoded."""
    try:
        value = msgspec.json.decode(re.sub(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}", rb"\\ufffd", data))
        return msgspec.convert(_without_nulls(value), Chunk)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items()}
    return [_without_nulls(item) for item in value if item is not None] if isinstance(value, list) else value


# Usage


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _details(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    return next((found for name in names if isinstance(found := usage.get(name), dict)), {})


def usage_of(reported: Any) -> tuple[Usage, int] | None:
    """Return usage in the Messages API's sense, and the tokens of thinking within the output.

    OpenAI counts cached tokens within the prompt, Anthropic beside it. None: nothing was reported.
    """
    if not isinstance(reported, dict) or not reported:
        return None
    prompt = _count(reported.get("prompt_tokens")) or _count(reported.get("input_tokens"))
    output = _count(reported.get("completion_tokens")) or _count(reported.get("output_tokens"))
    seen = _details(reported, "prompt_tokens_details", "input_tokens_details")
    read = _count(seen.get("cached_tokens")) or _count(reported.get("prompt_cache_hit_tokens"))
    written = _count(seen.get("cache_write_tokens"))
    made = _details(reported, "completion_tokens_details", "output_tokens_details")
    return Usage(max(0, prompt - read - written), output, read, written), _count(made.get("reasoning_tokens"))


# Errors


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
        return f"{self.type} {self.code} {self.message}".lower()


def complaint(value: Any) -> Complaint | None:
    """Read an error object, or a string, or a body that holds one; None if there is none."""
    if isinstance(value, str):
        return Complaint(value) if value.strip() else None
    if isinstance(value, list):
        return complaint(value[0]) if value else None
    if not isinstance(value, dict):
        return None
    for key in ("error", "errors", "detail"):
        if value.get(key):
            found = complaint(value[key])
            return found if found is None or found.message else Complaint(msgspec.json.encode(value).decode())
    code, status = value.get("code"), value.get("status")
    numbers = [number for number in (code, status) if isinstance(number, int) and 400 <= number < 600]
    kind = value.get("type") if isinstance(value.get("type"), str) else status if isinstance(status, str) else ""
    message = value.get("message") or value.get("msg") or ""
    if isinstance(value.get("loc"), list):
        message = f"{'.'.join(map(str, value['loc']))}: {message}"
    return Complaint(
        message if isinstance(message, str) else str(message),
        str(kind or ""),
        code if isinstance(code, str) else "",
        param if isinstance(param := value.get("param"), str) else "",
        numbers[0] if numbers else None,
        value.get("n_prompt_tokens") if isinstance(value.get("n_prompt_tokens"), int) else None,
        value.get("n_ctx") if isinstance(value.get("n_ctx"), int) else None,
    )


def body_complaint(body: bytes) -> Complaint:
    """Read the body of a refusal, whatever it is."""
    try:
        found = complaint(msgspec.json.decode(body))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        text = body.decode("utf-8", "replace").strip()
        plain = sort_of(body) == "text" and len(text) < 300
        return Complaint(text if plain else "upstream returned a non-JSON error" if text else "")
    return found or Complaint("")


_KINDS = (
    ("insufficient_quota", "billing_error"),
    ("rate_limit", "rate_limit_error"),
    ("too many requests", "rate_limit_error"),
    ("overloaded", "overloaded_error"),
    ("unavailable", "overloaded_error"),
    ("context_length", "invalid_request_error"),
    ("invalid_request", "invalid_request_error"),
    ("timeout", "timeout_error"),
    ("authentication", "authentication_error"),
    ("permission", "permission_error"),
)


def _kind_in_words(said: Complaint) -> str | None:
    named = f"{said.type} {said.code}".lower()
    return next((kind for word, kind in _KINDS if word in named), None)


def stream_fault(value: Any) -> Fault:
    """Say what an error inside a 200 means."""
    said = complaint(value) or Complaint("the provider reported an error without words")
    if (overflow := too_long(said)) is not None:
        return Fault(400, "invalid_request_error", overflow)
    kind = _kind_in_words(said)
    if kind is None:
        kind = _KIND_OF_STATUS.get(said.status or 0) or (kind_of(said.status) if said.status else "api_error")
    return Fault(STATUS_OF[kind], kind, said.message or said.code or said.type or "the provider reported an error")


_KIND_OF_STATUS = {408: "timeout_error", 422: "invalid_request_error", 503: "overloaded_error", 529: "overloaded_error"}
_CALLERS = frozenset({400, 413, 422})
_IMAGE = re.compile(
    r"image.{0,60}(?:not support|unsupported|invalid|could not)|(?:not support|unsupported).{0,60}image"
)
_PDF = re.compile(r"(?:pdf|file).{0,60}(?:not support|unsupported)|(?:not support|unsupported).{0,60}(?:pdf|file)")


def fault_of(reply: Reply, wall: float, request_id: str) -> Fault:
    """Say what an answer that is not 2xx means, in the Messages API's words.

    `wall` is now, in seconds since the epoch. `Fault.reply` is set where the fault is the caller's.
    """
    said = body_complaint(reply.body)
    overflow = too_long(said)
    status = 400 if overflow is not None or reply.status == 422 else reply.status
    message = scrub(overflow if overflow is not None else _worded(said, status))
    kind = _KIND_OF_STATUS.get(status) or kind_of(status)
    if status == 429 and "insufficient_quota" in said.words:
        kind = "billing_error"
    should_retry = header(reply.headers, b"x-should-retry")
    return Fault(
        status,
        kind,
        message,
        retry_after_s=_rest_s(reply.headers, wall),
        should_retry=None if should_retry is None else should_retry.strip().lower() == b"true",
        reply=Reply(status, (CONTENT_TYPE_JSON,), error_body(kind, message, request_id))
        if status in _CALLERS
        else None,
    )


def _worded(said: Complaint, status: int) -> str:
    """Return the message; about media in the words by which Claude Code knows to leave them out."""
    message = said.message or said.code or said.type
    if status == 400 and _IMAGE.search(message.lower()):
        return f"Could not process image: {message}"
    if status == 400 and _PDF.search(message.lower()):
        return f"Could not process PDF: {message}"
    return message


_OVERFLOW = re.compile(
    r"prompt is too long|context_length_exceeded|maximum context length|exceed_context_size"
    r"|exceeds? (?:the |this )?(?:model'?s? )?(?:available )?(?:maximum )?context"
    r"|context (?:window|length|size) (?:is )?exceeded"
    r"|reduce the length of the (?:messages|prompt|input)|input token count.{0,40}exceeds|string_above_max_length"
    r"|input is too long|too many (?:input )?tokens in",
    re.IGNORECASE,
)
_LIMIT = re.compile(
    r"maximum context length (?:is|of) (\d+)|maximum number of tokens allowed \(?(\d+)|context (?:size|window|length)"
    r"(?: \(| of | is )(\d+)|limit of (\d+) tokens|tokens? > (\d+)",
    re.IGNORECASE,
)
_SPLIT = re.compile(
    r"\((\d+) in the messages, (\d+) in the completion\)"
    r"|(\d+) tokens? from the input messages and (\d+) tokens? for the completion",
    re.IGNORECASE,
)
_PROMPT = re.compile(
    r"resulted in (\d+) tokens|requested (\d+) tokens|input token count \((\d+)\)|prompt is too long[^0-9]*(\d+)"
    r"|request \((\d+) tokens\)|has (\d+) (?:input )?tokens",
    re.IGNORECASE,
)


def _number(match: re.Match[str] | None) -> int | None:
    return next((int(group) for group in match.groups() if group), None) if match else None


def too_long(said: Complaint) -> str | None:
    """Return the canonical sentence if the complaint is about the context's length, else None.

    Claude Code compacts on this wording only, and with the right size only if it holds the numbers.
    """
    text = f"{said.code} {said.type} {said.message}"
    if not _OVERFLOW.search(text):
        return None
    limit = said.context_tokens or _number(_LIMIT.search(text))
    split = _SPLIT.search(text)
    if split and limit:
        prompt, completion = (int(group) for group in split.groups() if group)
        if prompt < limit:
            return (
                f"input length and `max_tokens` exceed context limit: {prompt} + {completion} > {limit}, "
                "decrease input length or `max_tokens` and try again"
            )
        return f"prompt is too long: {prompt} tokens > {limit} maximum"
    prompt_tokens = said.prompt_tokens or _number(_PROMPT.search(text))
    if prompt_tokens and limit and prompt_tokens > limit:
        return f"prompt is too long: {prompt_tokens} tokens > {limit} maximum"
    return f"prompt is too long: {said.message or said.code}"


_DURATION = re.compile(rb"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?\Z")
_UNITS_S = (86400.0, 3600.0, 60.0, 1.0, 0.001)


def _rest_s(headers: Headers, wall: float) -> float | None:
    """Return how long the provider asks to be left alone: `retry-after`, or the reset of a spent limit."""
    stated = retry_after(headers, wall)
    if stated is not None:
        return stated
    rests: list[float] = []
    for what in (b"requests", b"tokens"):
        reset = header(headers, b"x-ratelimit-reset-" + what)
        if reset and header(headers, b"x-ratelimit-remaining-" + what) == b"0" and (found := _DURATION.match(reset)):
            rests.append(sum(float(n) * unit for n, unit in zip(found.groups(), _UNITS_S, strict=True) if n))
    return float(math.ceil(max(rests))) if rests else None


def stated(answer: Chunk) -> Any:
    """Return the error that an answer holds, in whichever of its shapes."""
    if answer.error:
        return answer.error
    return {"message": answer.message or "", "type": answer.type, "code": answer.code}
