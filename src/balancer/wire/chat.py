"""The words of OpenAI-compatible servers: answers, chunks of streams, usage, errors.

Servers differ in everything, so what is not needed is not looked at, and types are checked where
a value is used.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

from balancer.headers import header
from balancer.model import Fault, Reply, Usage
from balancer.redact import anonymous, scrub
from balancer.wire.errors import CONTENT_TYPE_JSON, STATUS_OF, error_body, kind_of, retry_after, sort_of


class Function(msgspec.Struct):
    name: Any = None
    arguments: Any = None


class Call(msgspec.Struct):
    index: Any = None
    id: Any = None
    function: Function | None = None


class ChatMessage(msgspec.Struct):
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
    delta: ChatMessage | None = None
    message: ChatMessage | None = None
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
_LONE = re.compile("[\ud800-\udfff]")


def chunk(data: bytes) -> Chunk | None:
    """Decode a chunk or a completion; None where it is no JSON object."""
    try:
        return _CHUNK.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _leniently(data)


def _leniently(data: bytes) -> Chunk | None:
    """Decode what strict types, lone surrogates or NaN kept from being decoded; members of odd types are left out."""
    try:
        value = loose_json(data)
        return msgspec.convert(_fitted(value), Chunk) if isinstance(value, dict) else None
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def loose_json(data: bytes | str) -> Any:
    """Decode JSON as servers write it: NaN is null, a lone surrogate U+FFFD. Raises `ValueError`, `RecursionError`."""
    return _mended(json.loads(data, parse_constant=lambda _: None))


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE.sub("\ufffd", value)  # pairs have become one character by now
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return [_mended(item) for item in value] if isinstance(value, list) else value


def _fitted(chunk: dict[str, Any]) -> dict[str, Any]:
    choices = _dicts(chunk.get("choices"))
    return {**chunk, "choices": None if choices is None else [_fitted_choice(choice) for choice in choices]}


def _fitted_choice(choice: dict[str, Any]) -> dict[str, Any]:
    return {**choice, **{key: _fitted_said(choice.get(key)) for key in ("delta", "message")}}


def _fitted_said(said: Any) -> dict[str, Any] | None:
    if not isinstance(said, dict):
        return None
    calls = [{**call, "function": _dict(call.get("function"))} for call in _dicts(said.get("tool_calls")) or ()]
    return {**said, "tool_calls": calls, "function_call": _dict(said.get("function_call"))}


def _dict(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _dicts(value: Any) -> list[dict[str, Any]] | None:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else None


# Usage


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and value > 0 else 0


def _first_count(usage: dict[str, Any], *names: str) -> int:
    """Return the first number that is one; `a.b` is looked for in `a`."""
    for name in names:
        outer, _, inner = name.rpartition(".")
        holder = usage.get(outer) if outer else usage
        if isinstance(holder, dict) and (found := _count(holder.get(inner))):
            return found
    return 0


_PROMPT_TOKENS = ("prompt_tokens", "input_tokens")
_OUTPUT_TOKENS = ("completion_tokens", "output_tokens")
_CACHE_READ = (
    "prompt_tokens_details.cached_tokens",
    "input_tokens_details.cached_tokens",
    "prompt_cache_hit_tokens",  # DeepSeek
    "cached_tokens",  # Moonshot
    "cache_read_input_tokens",
)
_CACHE_WRITTEN = (
    "prompt_tokens_details.cache_write_tokens",
    "input_tokens_details.cache_write_tokens",
    "cache_creation_input_tokens",
)
_REASONING = ("completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens")


def usage_of(reported: Any) -> tuple[Usage, int] | None:
    """Return usage in the Messages API's sense, and the tokens of thinking within the output.

    OpenAI counts cached tokens within the prompt, Anthropic beside it; reasoning is within the
    output, but where the total shows that a server counted it apart. Zero is what servers say that
    do not count: such a number is None. None for all: nothing was reported.
    """
    if not isinstance(reported, dict) or not reported:
        return None
    prompt, output = _first_count(reported, *_PROMPT_TOKENS), _first_count(reported, *_OUTPUT_TOKENS)
    read, written = _first_count(reported, *_CACHE_READ), _first_count(reported, *_CACHE_WRITTEN)
    reasoning = _first_count(reported, *_REASONING)
    if reasoning and _count(reported.get("total_tokens")) == prompt + output + reasoning:
        output += reasoning
    unread = max(0, prompt - read - written) if prompt else None
    return Usage(unread, output or None, read, written), reasoning


# Errors

MAX_READ_CHARS = 8192
"""No more is read of what a server complains about: it may quote all of the request, or be anything."""


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
        return Complaint(value[:MAX_READ_CHARS]) if value.strip() else None
    if isinstance(value, list):
        return complaint(value[0]) if value else None
    if not isinstance(value, dict):
        return None
    for key in ("error", "errors", "detail"):
        if value.get(key):
            found = complaint(value[key])
            whole = msgspec.json.encode(value).decode()[:MAX_READ_CHARS]
            return found if found is None or found.message else Complaint(whole)
    code, status = value.get("code"), value.get("status")
    numbers = [number for number in (code, status) if isinstance(number, int) and 400 <= number < 600]
    kind = value.get("type") if isinstance(value.get("type"), str) else status if isinstance(status, str) else ""
    message = value.get("message") or value.get("msg") or ""
    if isinstance(value.get("loc"), list):
        message = f"{'.'.join(map(str, value['loc']))}: {message}"
    return Complaint(
        (message if isinstance(message, str) else str(message))[:MAX_READ_CHARS],
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
"""What types and codes are called, without anything but their letters: `RateLimitError`, `rate_limit_exceeded`."""


def _kind_in_words(said: Complaint) -> str | None:
    named = re.sub(r"[^a-z]", "", f"{said.type}{said.code}".lower())
    return next((kind for word, kind in _KINDS if word in named), None)


def error_in(answer: Chunk) -> Any:
    """Return the error that stands where an answer should be, in whichever of its shapes; None: there is none."""
    if answer.error or answer.object == "error" or answer.type == "error":
        return stated(answer)
    return stated(answer) if answer.choices is None and answer.message and answer.code else None


def stream_fault(value: Any) -> Fault:
    """Say what an error inside a 200 means."""
    said = complaint(value) or Complaint("the provider reported an error without words")
    if (overflow := too_long(said)) is not None:
        return Fault(400, "invalid_request_error", overflow)
    kind = _kind_in_words(said)
    if kind is None:
        kind = _KIND_OF_STATUS.get(said.status or 0) or (kind_of(said.status) if said.status else "api_error")
    message = anonymous(said.message or said.code or said.type or "the provider reported an error")
    return Fault(STATUS_OF[kind], kind, message)


_KIND_OF_STATUS = {408: "timeout_error", 422: "invalid_request_error", 503: "overloaded_error", 529: "overloaded_error"}
_IMAGE = re.compile(
    r"image.{0,60}(?:not support|unsupported|only supported|invalid|could not)"
    r"|(?:not support|unsupported|unknown variant|invalid|at most 0|could not \w+).{0,60}image|not a multimodal"
)
_PDF = re.compile(
    r"(?<![a-z])(?:pdf|file).{0,60}(?:not support|unsupported|only supported)"
    r"|(?:not support|unsupported|unknown variant).{0,60}(?<![a-z])(?:pdf|file)"
)


def fault_of(reply: Reply, wall: float, request_id: str) -> Fault:
    """Say what an answer that is not 2xx means, in the Messages API's words.

    `wall` is now, in seconds since the epoch.
    """
    said = body_complaint(reply.body)
    overflow = too_long(said)
    media = _media(said)
    callers = overflow is not None or reply.status == 422 or (reply.status == 500 and media)  # 500: llama.cpp says so
    status = 400 if callers else reply.status
    message = scrub(anonymous(overflow if overflow is not None else _worded(said, media if status == 400 else "")))
    kind = _KIND_OF_STATUS.get(status) or kind_of(status)
    if status == 429 and "insufficient_quota" in said.words:
        kind = "billing_error"
    should_retry = header(reply.headers, b"x-should-retry")
    return Fault(
        status,
        kind,
        message,
        retry_after_s=_rest_s(reply, wall),
        should_retry=None if should_retry is None else should_retry.strip().lower() == b"true",
        reply=Reply(
            status,
            (CONTENT_TYPE_JSON, (b"request-id", request_id.encode())),
            error_body(kind, message, request_id),
        ),
    )


def _media(said: Complaint) -> str:
    """Return the words by which Claude Code knows which media to leave out; empty: it is not about any."""
    message = said.message.lower()
    if _IMAGE.search(message):
        return "Could not process image: "
    return "Could not process PDF: " if _PDF.search(message) else ""


def _worded(said: Complaint, about: str) -> str:
    return about + (said.message or said.code or said.type)


_OVERFLOW = re.compile(
    r"prompt is too long|context_length_exceeded|maximum context length|exceed_context_size|context length is only"
    r"|exceeds? (?:the |this )?(?:model'?s? )?(?:available )?(?:maximum )?context"
    r"|context (?:window|length|size) (?:is )?exceed|(?:greater|longer|larger) than the context"
    r"|reduce the length of the (?:messages|prompt|input)|input token count.{0,40}exceeds|string_above_max_length"
    r"|input is too long|too many (?:input )?tokens in|maximum prompt length|exceeded model token limit"
    r"|prompt token count of \d+ exceeds|range of input length should be|max_new_tokens`? must be <=",
    re.IGNORECASE,
)
_LIMIT = re.compile(
    r"maximum (?:context|prompt) length(?: is| of|:) (\d+)|maximum number of tokens allowed \(?(\d+)"
    r"|context (?:size|window|length)(?: \(| of | is )(?:only )?(\d+)|limit(?: of|:) (\d+)|tokens? > (\d+)"
    r"|(\d+) maximum context length|length should be \[\d+, ?(\d+)\]|must be <= (\d+)",
    re.IGNORECASE,
)
_SPLITS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\((?P<prompt>\d+) in the messages, (?P<output>\d+) in the completion\)",
        r"(?P<prompt>\d+) tokens? from the input messages and (?P<output>\d+) tokens? for the completion",
        r"\((?P<prompt>\d+) of text input, (?:(?P<tools>\d+) of tool input, )?(?P<output>\d+) in the output\)",
        r"too large: (?P<output>\d+).*has (?P<prompt>\d+) input tokens",
        r"passed (?P<prompt>\d+) input tokens and requested (?P<output>\d+) output tokens",
        r"requested (?P<output>\d+) output tokens and your prompt contains (?:at least )?(?P<prompt>\d+) input",
        r"given: (?P<prompt>\d+) `?inputs`? tokens and (?P<output>\d+)",
        r"exceed context limit: (?P<prompt>\d+) \+ (?P<output>\d+) > (?P<limit>\d+)",
    )
)
"""How servers say how much of what was asked is the prompt, and how much the answer."""
_PROMPT = re.compile(
    r"resulted in (\d+) tokens|requested (?:about )?(\d+) tokens|input token count \((\d+)\)"
    r"|prompt is too long[^0-9]*(\d+)|request \((\d+) tokens\)|has (\d+) (?:input )?tokens"
    r"|contains (\d+) tokens|token count of (\d+)",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")


def _number(match: re.Match[str] | None) -> int | None:
    return next((int(group) for group in match.groups() if group), None) if match else None


def too_long(said: Complaint) -> str | None:
    """Return the canonical sentence if the complaint is about the context's length, else None.

    Claude Code compacts on this wording only, and with the right size only if it holds the numbers.
    """
    text = _THOUSANDS.sub("", f"{said.code} {said.type} {said.message}")
    if not _OVERFLOW.search(text):
        return None
    limit = said.context_tokens or _number(_LIMIT.search(text))
    prompt = said.prompt_tokens or _number(_PROMPT.search(text))
    if split := next((found for pattern in _SPLITS if (found := pattern.search(text))), None):
        parts = {name: int(number) for name, number in split.groupdict().items() if number}
        prompt, limit = parts["prompt"] + parts.get("tools", 0), parts.get("limit", limit)
        if limit and prompt < limit:
            return (
                f"input length and `max_tokens` exceed context limit: {prompt} + {parts['output']} > {limit}, "
                "decrease input length or `max_tokens` and try again"
            )
    if prompt and limit and (prompt > limit or split):
        return f"prompt is too long: {prompt} tokens > {limit} maximum"
    known = said.message.lower().startswith("prompt is too long")
    return said.message if known else f"prompt is too long: {said.message or said.code}"


_DURATION = re.compile(rb"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?\Z")
_UNITS_S = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_LEAST_DATE_S = 1e8
"""A larger number of seconds is no duration but a date."""


def _rest_s(reply: Reply, wall: float) -> float | None:
    """Return how long the provider asks to be left alone: `retry-after`, or the reset of a spent limit."""
    stated = retry_after(reply.headers, wall)
    if stated is not None:
        return stated
    rests: list[float] = []
    for what in (b"", b"-requests", b"-tokens"):
        remaining = header(reply.headers, b"x-ratelimit-remaining" + what)
        spent = remaining == b"0" or (remaining is None and reply.status == 429)
        reset = header(reply.headers, b"x-ratelimit-reset" + what)
        if spent and reset and (cooldown_s := _reset_s(reset, wall)) is not None:
            rests.append(cooldown_s)
    return float(math.ceil(max(rests))) if rests else None


def _reset_s(value: bytes, wall: float) -> float | None:
    """Read `6m0s`, seconds, or a date in seconds or milliseconds since the epoch."""
    if re.fullmatch(rb"\d+(?:\.\d+)?", value):
        number = float(value)
        if number < _LEAST_DATE_S:
            return number
        return max(0.0, (number / 1000 if number > _LEAST_DATE_S * 1000 else number) - wall)
    found = _DURATION.match(value)
    return sum(float(n) * unit for n, unit in zip(found.groups(), _UNITS_S, strict=True) if n) if found else None


def stated(answer: Chunk) -> Any:
    """Return the error that an answer holds, in whichever of its shapes."""
    if answer.error:
        return answer.error
    return {"message": answer.message or "", "type": answer.type, "code": answer.code}
