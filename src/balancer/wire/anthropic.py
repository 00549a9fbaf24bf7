"""The words of the Messages API that we act on. Everything else is carried along unread.

Requests: the head is decoded once, `messages` is skipped over, and the body goes out as it came
or with the model's name spliced in. Answers: frames are looked into until content has begun, and
afterwards only those that may carry usage, an error or the end.
"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from balancer import sse
from balancer.model import Fault, Headers, Operation, Piece, Reply, Usage, header

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
"""The status that stands for an error type, where the error came inside a 200."""

KIND_OF = {status: kind for kind, status in STATUS_OF.items()} | {422: "invalid_request_error"}

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The largest non-streaming answer that is taken."""

PING = sse.frame("ping", b'{"type": "ping"}')

CONTENT_TYPE_JSON = (b"content-type", b"application/json")


def kind_of(status: int) -> str:
    """Return the error type that stands for an HTTP status."""
    if kind := KIND_OF.get(status):
        return kind
    return "invalid_request_error" if 400 <= status < 500 else "api_error"


# Requests


class BadRequest(Exception):
    """A body that no provider could take; `str(error)` says what is wrong with it."""


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class Head(msgspec.Struct):
    """What we read of a request's body."""

    model: str
    messages: list[msgspec.Raw]
    stream: bool | None = None
    max_tokens: msgspec.Raw = msgspec.Raw(b"")
    metadata: msgspec.Raw = msgspec.Raw(b"")
    system: msgspec.Raw = msgspec.Raw(b"")

    @property
    def user_id(self) -> str | None:
        """`metadata.user_id`, if there is one to be read."""
        if not len(bytes(self.metadata)):
            return None
        try:
            return _METADATA.decode(self.metadata).user_id
        except msgspec.MsgspecError:
            return None

    @property
    def token_limit(self) -> int | None:
        """`max_tokens` where it is a number."""
        try:
            return int(bytes(self.max_tokens))
        except ValueError:
            return None


_HEAD = msgspec.json.Decoder(Head)
_METADATA = msgspec.json.Decoder(_Metadata)
_MISSING = re.compile(r"missing required field `(\w+)`")
_EXPECTED = re.compile(r"Expected `(\w+)(?: \| null)?`, got `(\w+)`(?: - at `\$\.?([^`]*)`)?")
_JSON_NAMES = {
    "str": "a string",
    "array": "an array",
    "bool": "true or false",
    "object": "an object",
    "int": "a number",
}


def head(body: bytes) -> Head:
    """Decode a request's head. Raises `BadRequest` with a sentence that names the field."""
    try:
        return _HEAD.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(_plainly(str(error))) from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"the request body is not valid JSON: {error}") from None
    except RecursionError:
        raise BadRequest("the request body is nested too deeply") from None


def _plainly(error: str) -> str:
    if missing := _MISSING.search(error):
        return f"{missing[1]}: Field required"
    if expected := _EXPECTED.search(error):
        wanted = _JSON_NAMES.get(expected[1], expected[1])
        where = expected[3] or "the request body"
        return f"{where}: must be {wanted}"
    return error


_MODEL = re.compile(rb'(?<!\\)"model"\s*:\s*("(?:[^"\\]|\\.)*")')
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]')


def spliced(body: bytes, model: str) -> tuple[bytes | memoryview, ...]:
    """Return `body` in pieces with `model` in the place of the model's name; nothing is copied.

    The key is nearly always the only `"model"` that has a string, or the first key: only where
    that is not so is the body walked to find the ones on the top level.
    """
    matches = list(_MODEL.finditer(body))
    if len(matches) != 1 or b"\\u" in body[:64]:
        matches = _top_level_models(body)
    if not matches:  # the key is written with escapes: legal, seen nowhere
        decoded = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        decoded["model"] = msgspec.Raw(msgspec.json.encode(model))
        return (msgspec.json.encode(decoded),)
    view = memoryview(body)
    name = msgspec.json.encode(model)
    pieces: list[bytes | memoryview] = []
    start = 0
    for match in matches:
        pieces += [view[start : match.start(1)], name]
        start = match.end(1)
    pieces.append(view[start:])
    return tuple(pieces)


def _top_level_models(body: bytes) -> list[re.Match[bytes]]:
    depth = 0
    found: list[re.Match[bytes]] = []
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
        elif depth == 1 and (match := _MODEL.match(body, token.start())):
            found.append(match)
    return found


# Answers


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None

    def usage(self) -> Usage:
        return Usage(
            self.input_tokens, self.output_tokens, self.cache_read_input_tokens, self.cache_creation_input_tokens
        )


class _Error(msgspec.Struct):
    type: str = "api_error"
    message: str = ""


class _Block(msgspec.Struct):
    type: str = ""


class _Message(msgspec.Struct):
    type: str | None = None
    content: list[msgspec.Raw] | None = None
    usage: _Usage | None = None
    error: _Error | None = None


class _Frame(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    usage: _Usage | None = None
    error: _Error | None = None
    content_block: _Block | None = None


_FRAME = msgspec.json.Decoder(_Frame)
_MESSAGE = msgspec.json.Decoder(_Message)
_PLAIN_BLOCKS = frozenset({"text", "tool_use"})
"""Relays send the start of such a block before they know anything: it says nothing yet."""


def _fault(error: _Error | None, message: str = "") -> Fault:
    kind = error.type if error else "api_error"
    return Fault(STATUS_OF.get(kind, 500), kind, (error.message if error else "") or message)


def broken(message: str) -> Fault:
    """Return the fault of an answer that is none: not a message, cut short, garbage."""
    return Fault(502, "api_error", message)


class StreamDecoder:
    """Reads a Messages API stream and hands it on byte for byte, frame by frame."""

    def __init__(self) -> None:
        self.complete = False
        self._splitter = sse.Splitter()
        self._begun = False
        self._flowing = False
        self._failed = False

    def feed(self, data: bytes) -> list[Piece]:
        if self.complete or self._failed:
            return []
        try:
            block = self._splitter.block(data)
        except sse.FrameTooLong as error:
            return [self._fail(broken(str(error)))]
        if not block:
            return []
        if self._flowing and b"message_" not in block and b"error" not in block and _whole(block):
            return [Piece(block)]
        return self._look(sse.frames(block))

    def end(self) -> list[Piece]:
        if self.complete or self._failed:
            return []
        if not self._begun:
            sort = _sort(self._splitter.rest)
            return [self._fail(broken(f"{sort} where a stream of events was expected"))]
        return [self._fail(broken("the stream ended before its message_stop"))]

    def _fail(self, fault: Fault) -> Piece:
        self._failed = True
        return Piece(b"", error=fault)

    def _look(self, frames: list[bytes]) -> list[Piece]:
        pieces: list[Piece] = []
        for frame in frames:
            piece = self._frame(frame)
            pieces.append(piece)
            if piece.error or self.complete:
                break
        return pieces

    def _frame(self, frame: bytes) -> Piece:
        event, data = sse.fields(frame)
        if not data:
            return Piece(frame)
        try:
            decoded = _FRAME.decode(data)
        except (msgspec.MsgspecError, RecursionError):
            if event == b"error":
                return self._fail(Fault(500, "api_error", data.decode(errors="replace")[:500]))
            return self._fail(broken("an event of the stream is not valid JSON"))
        return self._event(frame, event, decoded)

    def _event(self, frame: bytes, event: bytes, decoded: _Frame) -> Piece:
        match decoded.type or event.decode(errors="replace"):
            case "content_block_delta":
                self._flowing = True
                return Piece(frame, substance=True)
            case "error":
                return self._fail(_fault(decoded.error, "the provider reported an error without words"))
            case "message_start":
                if self._begun:
                    return self._fail(broken("a second message_start in one stream"))
                self._begun = True
                usage = decoded.message.usage if decoded.message else None
                return Piece(frame, usage=usage.usage() if usage else None)
            case "content_block_start":
                block = decoded.content_block
                told = block is not None and block.type not in _PLAIN_BLOCKS
                self._flowing = self._flowing or told
                return Piece(frame, substance=told)
            case "message_delta":
                return Piece(frame, usage=decoded.usage.usage() if decoded.usage else None)
            case "message_stop":
                if not self._begun:
                    return self._fail(broken("a message_stop without a message_start"))
                self.complete = True
                return Piece(frame, substance=True)
            case _:
                if event == b"error" or decoded.error:
                    return self._fail(_fault(decoded.error, "the provider reported an error without words"))
                return Piece(frame)


def _whole(block: bytes) -> bool:
    """Say whether every frame of `block` ends as one JSON object ends: cheap, finds cut ones."""
    return block.count(b"}\n\n") == block.count(b"\n\n") or (
        b"\r" in block and block.endswith((b"}\r\n\r\n", b"}\r\r"))
    )


def _sort(data: bytes) -> str:
    """Say what sort of thing an answer is that should have been something else."""
    start = data[:256].strip().lower()
    if not start:
        return "nothing"
    if start.startswith(b"<"):
        return "an HTML page"
    return "JSON" if start[:1] in (b"{", b"[") else "text"


class MessageDecoder:
    """Reads a whole JSON answer, and hands it on as it came if it is what was asked for."""

    def __init__(self, operation: Operation) -> None:
        self.complete = False
        self._operation = operation
        self._parts: list[bytes] = []
        self._bytes = 0
        self._failed = False

    def feed(self, data: bytes) -> list[Piece]:
        self._bytes += len(data)
        if self._failed:
            return []
        if self._bytes > MAX_ANSWER_BYTES:
            self._failed = True
            self._parts.clear()
            return [Piece(b"", error=broken(f"an answer of more than {MAX_ANSWER_BYTES} bytes"))]
        self._parts.append(data)
        return []

    def end(self) -> list[Piece]:
        if self._failed or self.complete:
            return []
        body = b"".join(self._parts)
        fault, usage = _READERS[self._operation](body)
        if fault:
            self._failed = True
            return [Piece(b"", error=fault)]
        self.complete = True
        return [Piece(body, substance=True, usage=usage)]


def _read_message(body: bytes) -> tuple[Fault | None, Usage | None]:
    try:
        message = _MESSAGE.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return broken(f"{_sort(body)} where a message was expected"), None
    if message.type == "error" or message.error:
        return _fault(message.error), None
    if message.type != "message" or message.content is None:
        return broken("JSON that is not a message"), None
    return None, message.usage.usage() if message.usage else None


class _Count(msgspec.Struct):
    input_tokens: int


def _read_count(body: bytes) -> tuple[Fault | None, Usage | None]:
    try:
        count = msgspec.json.decode(body, type=_Count)
    except (msgspec.MsgspecError, RecursionError):
        return broken(f"{_sort(body)} where a token count was expected"), None
    return (broken("a negative token count"), None) if count.input_tokens < 0 else (None, None)


class _Listing(msgspec.Struct):
    data: list[dict[str, Any]]


def _read_models(body: bytes) -> tuple[Fault | None, Usage | None]:
    try:
        msgspec.json.decode(body, type=_Listing)
    except (msgspec.MsgspecError, RecursionError):
        return broken(f"{_sort(body)} where a list of models was expected"), None
    return None, None


_READERS = {
    Operation.MESSAGES: _read_message,
    Operation.COUNT_TOKENS: _read_count,
    Operation.MODELS: _read_models,
}


# Errors


def error_body(kind: str, message: str, request_id: str) -> bytes:
    """Return an error in the Messages API's shape."""
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})


def error_frame(kind: str, message: str, request_id: str) -> bytes:
    """Return an error as an event of a stream."""
    return sse.frame("error", error_body(kind, message, request_id))


class _ErrorBody(msgspec.Struct):
    error: _Error | str | None = None


def fault_of(reply: Reply, wall: float) -> Fault:
    """Say what an answer that is not 2xx means, in a server that speaks the Messages API.

    `wall` is now, in seconds since the epoch, for limits that name a date.
    """
    kind, message = kind_of(reply.status), ""
    try:
        error = msgspec.json.decode(reply.body, type=_ErrorBody).error
    except (msgspec.MsgspecError, RecursionError):
        message = _sort(reply.body) if reply.body else ""
    else:
        if isinstance(error, str):
            message = error
        elif error is not None:
            message = error.message
            kind = error.type if error.type in STATUS_OF else kind
    should_retry = header(reply.headers, b"x-should-retry")
    return Fault(
        reply.status,
        kind,
        message,
        retry_after_s=retry_after(reply.headers, wall),
        should_retry=None if should_retry is None else should_retry.strip().lower() == b"true",
        reply=Reply(reply.status, reply_headers(reply.headers), reply.body),
    )


def retry_after(headers: Headers, wall: float) -> float | None:
    """Return how long the provider asks to be left alone, in seconds.

    `retry-after-ms`, then `retry-after` as seconds or a date, then the latest reset among the
    limits of `anthropic-ratelimit-*` that have nothing remaining.
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
    return _ratelimit_reset(headers, wall)


def _ratelimit_reset(headers: Headers, wall: float) -> float | None:
    limits = {name: value for name, value in headers if name.startswith(b"anthropic-ratelimit-")}
    latest: float | None = None
    for name, value in limits.items():
        if not name.endswith(b"-reset"):
            continue
        remaining = limits.get(name[: -len(b"reset")] + b"remaining")
        status = limits.get(name[: -len(b"reset")] + b"status")
        if remaining != b"0" and status != b"rejected":
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


_KEPT = frozenset({b"content-type", b"request-id", b"retry-after", b"retry-after-ms", b"x-should-retry"})


def reply_headers(headers: Headers) -> Headers:
    """Return the headers of a provider's answer that a client may see."""
    return tuple((name, value) for name, value in headers if name in _KEPT or name.startswith(b"anthropic-"))
