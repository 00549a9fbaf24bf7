"""Streamed answers of the Messages API: every frame is read until content has begun, then only where needed.

A stream is in one of five states:

| state | how far it is | what is read |
|---|---|---|
| `BEFORE` | no `message_start` has come | every frame |
| `WHOLE` | JSON came in the place of a stream | nothing until the end: a message is then made a stream |
| `STARTED` | `message_start` has come, but no content: another provider may still answer | every frame, content too |
| `FLOWING` | content came: the client gets this answer | runs of content are recognised, not decoded |
| `OVER` | it ended, well (`complete`) or in a fault | nothing; what follows is ignored |

Content before `message_start` does not make it flow: then nothing is passed over until the start has come.

What servers leave out although it can only mean one thing is completed: the `event:` line of a frame, or the type in
its JSON. An event without data is left out.
"""

from __future__ import annotations

import enum
import re

from balancer.model import Fault, Piece
from balancer.wire import sse
from balancer.wire.complaints import inner_fault, is_error
from balancer.wire.decoder import BaseDecoder
from balancer.wire.errors import broken, sort_of
from balancer.wire.event import KINDS, Event, completed, decoded
from balancer.wire.loose import decoded_object, parsed
from balancer.wire.turning import frames_of
from balancer.wire.whole import Whole, is_utf8, read_message, usage_of

PING = sse.frame("ping", b'{"type": "ping"}')

# How Anthropic writes its frames. What is written otherwise takes the long way, and is understood as well.

_CONTENT = re.compile(rb'(?:event: content_block_delta\ndata: \{"type": ?"content_block_delta",.*\}\n\n)++')
"""A run of whole frames that are content and nothing else: recognised in one pass, in C."""

_DELTA = re.compile(rb'event: content_block_delta\ndata: \{"type": ?"content_block_delta",')

_SILENT = re.compile(
    rb'event: (?:content_block_stop\ndata: \{"type": ?"content_block_stop"|ping\ndata: \{"type": ?"ping"'
    rb'|content_block_start\ndata: \{"type": ?"content_block_start", ?"index": ?\d+,'
    rb' ?"content_block": ?\{"type": ?"text").*\}\n\n'
)
"""A frame that holds nothing that we act on: it need not be decoded."""

_STOP = re.compile(rb'event: message_stop\ndata: \{"type": ?"message_stop" *\}\n\n')

_LINE_BREAK = 0x0A
_BREAKS = re.compile(rb"\n++")

_EVENT = re.compile(rb"(?:\A|[\r\n])(?:event|data)(?:[:\r\n]|\Z)")
"""What a frame holds that is more than a comment."""

_MARK = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n" + _MARK
"""What may stand before an answer: white space and the mark of UTF-8."""

NO_STOP = "the stream ended with a stop_reason and no message_stop"

MANY_BYTES = 30_000
"""A longer run of content is counted instead of being matched byte by byte, which takes half as long again. (From
here on CPython searches for long words in leaps.)"""

FEW_BYTES = 4096
"""A read of at most this size may be an event or two that came by themselves. Larger ones hold many."""

PLAIN_BLOCKS = frozenset({"text", "tool_use"})
"""Relays send the start of such a block before they know anything: it is not content yet."""

ERROR_MAX_BYTES = 500
"""So much is kept of an error event that is no JSON."""

_SORT_BYTES = 256
"""So much is kept of what is no event, to say what it was."""


class State(enum.Enum):
    """How far a stream is."""

    BEFORE = "before"
    WHOLE = "whole"
    STARTED = "started"
    FLOWING = "flowing"
    OVER = "over"


_BEFORE, _WHOLE, _STARTED, _FLOWING, _OVER = State  # a global costs a tenth of a member of the class


class StreamDecoder(BaseDecoder):
    """Reads a Messages API stream and hands it on byte for byte, frame by frame, but for what has to be completed."""

    stopped = False
    """The reason was given why the message stops."""
    _stray = b""
    """What came before `message_start` and is no event."""

    def __init__(self) -> None:
        self._state = _BEFORE
        self._splitter = sse.FrameSplitter()
        self._whole: Whole | None = None

    def feed(self, data: bytes) -> list[Piece]:
        if self._state is _FLOWING:
            if len(data) <= FEW_BYTES and not self._splitter.kept and _CONTENT.fullmatch(data):
                return [Piece(data)]  # so it is most of the time
        elif self._state is _OVER:
            return []
        elif self._whole is not None:
            return self._collect(self._whole, data)
        try:
            block = self._splitter.block(data)
        except sse.FrameTooLong as error:
            return [self._fail(broken(str(error)))]
        if not block:
            return []
        if self._state is _BEFORE and block[:1] != b"e":
            block = block.removeprefix(_MARK)
            if _is_json(block):
                return self._begin_whole(block + self._splitter.rest)
        if block.find(b"\r") >= 0:
            return self._look(sse.frames(block))
        return self._look_where_it_matters(block)

    def _look_where_it_matters(self, block: bytes) -> list[Piece]:
        """Read frames until content flows; from there on only those that may be more than content.

        All that is for the client becomes one piece, the bytes as they came but for frames that had to be changed. An
        error is a piece behind it.
        """
        at, has_content, usage = 0, False, None
        changed: list[bytes] | None = None
        since = 0  # where what is not in `changed` begins
        while at < len(block) and self._state is not _OVER:
            state = self._state
            if (
                state is not _BEFORE
                and (end := _content_end(block, at))
                and (state is _FLOWING or _is_readable(block, at))
            ):
                self._state = _FLOWING
                at, has_content = end, True
                continue
            if block[at] == _LINE_BREAK:  # more of them than end a frame
                breaks = _BREAKS.match(block, at)
                at = breaks.end() if breaks else len(block)
                continue
            end = block.find(b"\n\n", at) + 2
            frame = block[at:end]
            piece = self._frame(frame)
            if piece.error is not None:
                before = b"".join((*(changed or ()), block[since:at]))
                return [Piece(before, has_content, usage=usage), piece] if before else [piece]
            has_content = has_content or piece.has_content
            if piece.usage is not None:
                usage = piece.usage if usage is None else usage.merged(piece.usage)
            if piece.data is not frame:
                changed = changed or []
                changed += (block[since:at], piece.data)
                since = end
            at = end
        if changed is not None:
            whole = b"".join((*changed, block[since:at]))
            return [Piece(whole, has_content, usage=usage)] if whole else []
        return [Piece(block if at == len(block) else block[:at], has_content, usage=usage)]

    def _look(self, frames: list[bytes]) -> list[Piece]:
        """Read every frame."""
        pieces: list[Piece] = []
        for frame in frames:
            pieces.append(self._frame(frame))
            if self._state is _OVER:
                break
        return pieces

    def end(self) -> list[Piece]:
        if self._state is _OVER:
            return []
        rest = self._splitter.rest
        if self._whole is not None:
            return [self._turned(self._whole.joined())]
        if self._state is _BEFORE and _is_json(rest):
            return [self._turned(rest)]
        pieces = self._last(rest)
        if self._state is _OVER:
            return pieces
        if self._state is _BEFORE:
            sort = sort_of(self._stray or rest)
            return [self._fail(broken(f"{sort} where a stream of events was expected"))]
        if self.stopped:  # nothing of the message is missing: that is no reason to rest the provider
            return [*pieces, self._fail(Fault(502, "api_error", NO_STOP, elsewhere=True))]
        return [*pieces, self._fail(broken("the stream ended before the end of its message"))]

    def _last(self, rest: bytes) -> list[Piece]:
        """Read what is left at the end, if it is a frame that lacks nothing but the blank line behind it."""
        if not rest or decoded(sse.fields(rest)[1].strip()) is None:
            return []
        return [self._frame(rest.rstrip(b"\r\n") + b"\n\n")]

    def _fail(self, fault: Fault) -> Piece:
        self._state = _OVER
        return Piece(b"", error=fault)

    def _finish(self, frame: bytes) -> Piece:
        self._state = _OVER
        self.complete = True
        return Piece(frame, has_content=True)

    # JSON in the place of a stream

    def _begin_whole(self, data: bytes) -> list[Piece]:
        self._state, self._whole = _WHOLE, Whole()
        self._splitter = sse.FrameSplitter()
        return self._collect(self._whole, data)

    def _collect(self, whole: Whole, data: bytes) -> list[Piece]:
        fault = whole.add(data)
        return [self._fail(fault)] if fault else []

    def _turned(self, body: bytes) -> Piece:
        """Return a whole message as the stream that was asked for."""
        body = body.strip(_BLANK)
        fault, usage = read_message(body)
        if fault is not None:
            return self._fail(fault)
        piece = self._finish(frames_of(decoded_object(body)))
        piece.usage = usage
        return piece

    # Events

    def _frame(self, frame: bytes) -> Piece:
        if _SILENT.fullmatch(frame):
            return Piece(frame)
        if self._state is not _BEFORE and _STOP.fullmatch(frame):
            return self._finish(frame)
        event, data = sse.fields(frame)
        read = decoded(data) if data else None
        if read is None:
            return self._not_an_event(frame, event, data)
        if not data.isascii() and self._state is not _FLOWING and not is_utf8(data):
            return self._fail(broken("an event of the stream is not UTF-8"))
        name, kind = event.decode(errors="replace"), read.type
        if name != kind:
            if name == "error" and kind not in KINDS:
                kind = name
            else:
                frame = completed(frame, event, data, kind)
        return self._event(frame, kind or name, data, read)

    def _without_data(self, frame: bytes) -> Piece:
        """An event without data is nothing that a client could read; a comment is for nobody, and does no harm."""
        if _EVENT.search(frame):
            return Piece(b"")
        if self._state is _BEFORE and not self._stray and frame[:1] != b":":
            self._stray = frame[:_SORT_BYTES].strip()
        return Piece(frame)

    def _not_an_event(self, frame: bytes, event: bytes, data: bytes) -> Piece:
        """Data that is no JSON object: none, words of an error, an end in OpenAI's manner, or damage."""
        if not data or data.isspace():
            return self._without_data(frame)
        if event == b"error":
            return self._fail(Fault(500, "api_error", data[:ERROR_MAX_BYTES].decode(errors="replace")))
        if data.strip() == b"[DONE]":
            if self._state is not _BEFORE:
                self.ending = True
            return Piece(b"")
        try:
            parsed(data)
        except (ValueError, RecursionError):
            wrong = "not valid JSON" if is_utf8(data) else "not UTF-8"
            return self._fail(broken(f"an event of the stream is {wrong}"))
        return Piece(b"")  # a number, a string, a list: no event has such data

    def _event(self, frame: bytes, kind: str, data: bytes, read: Event) -> Piece:
        match kind:
            case "content_block_delta":
                return self._content(frame)
            case "error":
                return self._fail(inner_fault(decoded_object(data)))
            case "message_start":
                if self._state is not _BEFORE:
                    return self._fail(broken("a second message in one stream"))
                self._state = _STARTED
                message = read.message
                usage = usage_of(message.usage, message.input_transformations) if message else None
                return Piece(frame, usage=usage)
            case "content_block_start":
                block = read.content_block
                return Piece(frame) if block is None or block.type in PLAIN_BLOCKS else self._content(frame)
            case "message_delta":
                if read.delta and read.delta.stop_reason:
                    self.stopped = True
                return Piece(frame, usage=usage_of(read.usage, read.input_transformations))
            case "message_stop":
                if self._state is _BEFORE:
                    return self._fail(broken("the end of a message without its start"))
                return self._finish(frame)
            case "ping" | "content_block_stop":
                return Piece(frame)
            case "message" if self._state is _BEFORE:
                return self._turned(data)
            case _:
                return self._unknown(frame, data)

    def _unknown(self, frame: bytes, data: bytes) -> Piece:
        """An event of a type that is not known: an error in another API's shape, or something new."""
        if is_error(decoded_object(data), alone=self._state is _BEFORE):
            return self._fail(inner_fault(decoded_object(data)))
        if self._state is _BEFORE and not frame and not self._stray:
            self._stray = data[:_SORT_BYTES]
        return Piece(frame)

    def _content(self, frame: bytes) -> Piece:
        if self._state is _BEFORE:  # no client can read it, and another provider may do better
            return self._fail(broken("content before the start of its message"))
        self._state = _FLOWING
        return Piece(frame, has_content=True)


def _is_json(data: bytes) -> bool:
    """Say whether `data` begins as JSON does, and no stream of events."""
    return data.lstrip(_BLANK)[:1] in (b"{", b"[")


def _is_readable(block: bytes, at: int) -> bool:
    """Return whether the frame of content at `at` is JSON: the first one has to be, as another provider may answer."""
    start = block.find(b"\n", at) + 7
    data = block[start : block.find(b"\n", start)]
    return decoded(data) is not None and (data.isascii() or is_utf8(data))


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
