"""The words of the Messages API that we act on. Everything else is carried along unread.

Requests: the head is decoded once, `messages` is skipped over, and the body goes out as it came
or with the model's name spliced in. Answers: frames are looked into until content has begun, and
afterwards only those that may carry usage, an error or the end.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from balancer import sse
from balancer.model import Fault, Laconic, Operation, Piece, Usage
from balancer.wire.faults import (
    CONTENT_TYPE_JSON,
    KIND_OF,
    STATUS_OF,
    Error,
    broken,
    error_body,
    error_frame,
    fault_of,
    kept_headers,
    kind_of,
    retry_after,
    sort_of,
    stated,
)

__all__ = [
    "CONTENT_TYPE_JSON",
    "KIND_OF",
    "STATUS_OF",
    "BadRequest",
    "Head",
    "MessageDecoder",
    "StreamDecoder",
    "broken",
    "error_body",
    "error_frame",
    "fault_of",
    "head",
    "kept_headers",
    "kind_of",
    "retry_after",
    "spliced",
]

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The largest non-streaming answer that is taken."""

MODEL_MAX = 1024
"""Longest name of a model, in characters: names are remembered and logged."""

PING = sse.frame("ping", b'{"type": "ping"}')


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
            return int(self.max_tokens)
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
        decoded = _HEAD.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(_plainly(str(error))) from None
    except UnicodeDecodeError:
        raise BadRequest("the request body is not valid JSON: it is not UTF-8") from None
    except msgspec.DecodeError as error:
        if (whole := without_lone_surrogates(body)) != body:
            return head(whole)
        raise BadRequest(f"the request body is not valid JSON: {error}") from None
    except RecursionError:
        raise BadRequest("the request body is nested too deeply") from None
    if not 0 < len(decoded.model) <= MODEL_MAX:
        raise BadRequest(f"model: must be a name of 1 to {MODEL_MAX} characters")
    return decoded


_SURROGATES = re.compile(
    rb"(?<!\\)((?:\\\\)*)\\(?:(u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2})|u[dD][89a-fA-F][\da-fA-F]{2})"
)
"""An escape of half a pair (group 2: of a whole one), behind a backslash that is none itself (group 1)."""


def without_lone_surrogates(body: bytes) -> bytes:
    """Return JSON with U+FFFD for what no UTF-8 can carry: JavaScript cuts strings anywhere, and says so in escapes."""
    return _SURROGATES.sub(lambda half: half[0] if half[2] else half[1] + rb"\ufffd", body)


def decoded(body: bytes) -> Any:
    """Decode a body whole. Raises `msgspec.DecodeError`."""
    try:
        try:
            return msgspec.json.decode(body)
        except msgspec.DecodeError:
            return msgspec.json.decode(without_lone_surrogates(body))
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from None


def _plainly(error: str) -> str:
    if missing := _MISSING.search(error):
        return f"{missing[1]}: Field required"
    if expected := _EXPECTED.search(error):
        wanted = _JSON_NAMES.get(expected[1], expected[1])
        where = expected[3] or "the request body"
        return f"{where}: must be {wanted}"
    return error


_KEY = b'"model"'
_MODEL = re.compile(rb'"model"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")')
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]')


def spliced(body: bytes, model: str) -> tuple[bytes | memoryview, ...]:
    """Return `body` in pieces with `model` in the place of the model's name; nothing is copied.

    The key is nearly always the only `"model"` that has a string, or the first key: only where
    that is not so is the body walked to find the ones on the top level.
    """
    matches = _models(body)
    if len(matches) != 1 or body.find(b"\\u", 0, 64) >= 0:
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


def _models(body: bytes) -> list[re.Match[bytes]]:
    """Return every `"model"` that has a string, on whatever level."""
    found: list[re.Match[bytes]] = []
    at = body.find(_KEY)
    while at >= 0:
        # Inside a string the quotes are escaped, so this is a key, or the end of a string.
        if body[at - 1 : at] != b"\\" and (match := _MODEL.match(body, at)):
            found.append(match)
        at = body.find(_KEY, at + len(_KEY))
    return found


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


class _Block(msgspec.Struct):
    type: str = ""


class _Message(msgspec.Struct):
    type: str | None = None
    content: list[msgspec.Raw] | None = None
    usage: _Usage | None = None
    error: Error | None = None


class _Frame(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    usage: _Usage | None = None
    error: Error | None = None
    content_block: _Block | None = None


_FRAME = msgspec.json.Decoder(_Frame)
_MESSAGE = msgspec.json.Decoder(_Message)
_CONTENT = re.compile(rb'(?:event: content_block_delta\ndata: \{"type": ?"content_block_delta",.*\}\n\n)++')
"""A run of whole frames that are content and nothing else, as Anthropic writes them: one pass, in C, says so."""
_DELTA = re.compile(rb'event: content_block_delta\ndata: \{"type": ?"content_block_delta",')
MANY_BYTES = 30_000
"""More than this is counted instead of being looked at byte by byte, which takes half as long again. (From here on
CPython searches for long words in leaps.)"""

FEW_BYTES = 4096
"""What comes by itself is not more than this."""

_SILENT = re.compile(
    rb'event: (?:content_block_stop\ndata: \{"type": ?"content_block_stop"|ping\ndata: \{"type": ?"ping"'
    rb'|content_block_start\ndata: \{"type": ?"content_block_start", ?"index": ?\d+,'
    rb' ?"content_block": ?\{"type": ?"text").*\}\n\n'
)
"""A frame that says nothing that we act on, as Anthropic writes it: it need not be decoded."""

_STOP = re.compile(rb'event: message_stop\ndata: \{"type": ?"message_stop" *\}\n\n')

_PLAIN_BLOCKS = frozenset({"text", "tool_use"})
"""Relays send the start of such a block before they know anything: it says nothing yet."""


class StreamDecoder(Laconic):
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
        if self._flowing and len(data) <= FEW_BYTES and not self._splitter.kept and _CONTENT.fullmatch(data):
            return [Piece(data)]  # an event or two that came by themselves: so it is most of the time
        try:
            block = self._splitter.block(data)
        except sse.FrameTooLong as error:
            return [self._fail(broken(str(error)))]
        if not block:
            return []
        if block.find(b"\r") >= 0:
            return self._look(sse.frames(block))
        return self._look_where_it_matters(block)

    def _look_where_it_matters(self, block: bytes) -> list[Piece]:
        """Look at frames until content flows; from there on only at those that may say more than content.

        All that is for the client is one piece, the bytes as they came, and so is an error behind it.
        """
        at, substance, usage = 0, False, None
        while at < len(block) and not self.complete:
            if self._begun and (end := _content_end(block, at)) and (self._flowing or _readable(block, at)):
                at, substance = end, True
                self._flowing = True
                continue
            end = block.find(b"\n\n", at) + 2
            if end <= at:  # a line break more than ends a frame: all that is left
                end = len(block)
            piece = self._frame(block[at:end])
            if piece.error is not None:
                return [Piece(block[:at], substance, usage=usage), piece] if at else [piece]
            substance = substance or piece.substance
            if piece.usage is not None:
                usage = piece.usage if usage is None else usage.merged(piece.usage)
            at = end
        return [Piece(block if at == len(block) else block[:at], substance, usage=usage)]

    def end(self) -> list[Piece]:
        if self.complete or self._failed:
            return []
        if not self._begun:
            sort = sort_of(self._splitter.rest)
            return [self._fail(broken(f"{sort} where a stream of events was expected"))]
        return [self._fail(broken("the stream ended before the end of its message"))]

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
        if _SILENT.fullmatch(frame):
            return Piece(frame)
        if self._begun and _STOP.fullmatch(frame):
            self.complete = True
            return Piece(frame, substance=True)
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
                return self._fail(stated(decoded.error, "the provider reported an error without words"))
            case "message_start":
                if self._begun:
                    return self._fail(broken("a second message in one stream"))
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
                    return self._fail(broken("the end of a message without its start"))
                self.complete = True
                return Piece(frame, substance=True)
            case _:
                if event == b"error" or decoded.error:
                    return self._fail(stated(decoded.error, "the provider reported an error without words"))
                return Piece(frame)


def _readable(block: bytes, at: int) -> bool:
    """Say whether the frame of content at `at` is JSON. Asked of the first: until then another provider may answer."""
    start = block.find(b"\n", at) + 7
    try:
        _FRAME.decode(block[start : block.find(b"\n", start)])
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _content_end(block: bytes, at: int) -> int:
    """Return where a run of frames that are content and nothing else ends; 0: there is none at `at`."""
    if len(block) - at > MANY_BYTES and (end := _counted_end(block, at)):
        return end
    run = _CONTENT.match(block, at)
    return run.end() if run else 0


def _counted_end(block: bytes, at: int) -> int:
    """Return where the last frame of content ends, if every frame before it is content too; else 0.

    A frame of content has three line breaks, and no string of JSON holds one. So where there are three for
    every beginning of such a frame there is nothing else.
    """
    begin = _DELTA.match(block, at)
    if begin is None:
        return 0
    start = begin[0]
    end = block.find(b"\n\n", block.rfind(start)) + 2
    frames = block.count(b"}\n\n" + start, at, end) + 1
    return end if block.count(b"\n", at, end) == 3 * frames and block[end - 3] == 0x7D else 0


class MessageDecoder(Laconic):
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
        return broken(f"{sort_of(body)} where a message was expected"), None
    if message.type == "error" or message.error:
        return stated(message.error), None
    if message.type != "message" or message.content is None:
        return broken("JSON that is not a message"), None
    return None, message.usage.usage() if message.usage else None


class _Count(msgspec.Struct):
    input_tokens: int


def _read_count(body: bytes) -> tuple[Fault | None, Usage | None]:
    try:
        count = msgspec.json.decode(body, type=_Count)
    except (msgspec.MsgspecError, RecursionError):
        return broken(f"{sort_of(body)} where a token count was expected"), None
    return (broken("a negative token count"), None) if count.input_tokens < 0 else (None, None)


class _Listing(msgspec.Struct):
    data: list[dict[str, Any]]


def _read_models(body: bytes) -> tuple[Fault | None, Usage | None]:
    try:
        msgspec.json.decode(body, type=_Listing)
    except (msgspec.MsgspecError, RecursionError):
        return broken(f"{sort_of(body)} where a list of models was expected"), None
    return None, None


_READERS = {
    Operation.MESSAGES: _read_message,
    Operation.COUNT_TOKENS: _read_count,
    Operation.MODELS: _read_models,
}
