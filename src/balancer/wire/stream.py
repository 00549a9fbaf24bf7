"""Streamed answers of the Messages API: every frame is read until content has begun, then only where needed.

A stream is in one of four states:

| state | how far it is | what is read |
|---|---|---|
| `BEFORE` | no `message_start` has come | every frame |
| `STARTED` | `message_start` has come, but no content: another provider may still answer | every frame, content too |
| `FLOWING` | content came: the client gets this answer | runs of content are recognised, not decoded |
| `OVER` | it ended, well (`complete`) or in a fault | nothing; what follows is ignored |

Content before `message_start` does not make it flow: then nothing is passed over until the start has come.
"""

from __future__ import annotations

import enum
import re
from typing import Any

import msgspec

from balancer.model import Fault, Piece
from balancer.wire import sse
from balancer.wire.decoder import BaseDecoder
from balancer.wire.errors import Error, broken, sort_of, stated
from balancer.wire.whole import Message, ReportedUsage, usage_of


class _Block(msgspec.Struct):
    type: str = ""


class _Frame(msgspec.Struct):
    type: str = ""
    message: Message | None = None
    usage: ReportedUsage | None = None
    error: Error | None = None
    content_block: _Block | None = None
    input_transformations: Any = None


_FRAME = msgspec.json.Decoder(_Frame)

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

MANY_BYTES = 30_000
"""A longer run of content is counted instead of being matched byte by byte, which takes half as long again. (From
here on CPython searches for long words in leaps.)"""

FEW_BYTES = 4096
"""A read of at most this size may be an event or two that came by themselves. Larger ones hold many."""

PLAIN_BLOCKS = frozenset({"text", "tool_use"})
"""Relays send the start of such a block before they know anything: it is not content yet."""

ERROR_MAX_BYTES = 500
"""So much is kept of an error event that is no JSON."""


class State(enum.Enum):
    """How far a stream is."""

    BEFORE = "before"
    STARTED = "started"
    FLOWING = "flowing"
    OVER = "over"


_BEFORE, _STARTED, _FLOWING, _OVER = State  # a global costs a tenth of a member of the class


class StreamDecoder(BaseDecoder):
    """Reads a Messages API stream and hands it on byte for byte, frame by frame."""

    def __init__(self) -> None:
        self._state = _BEFORE
        self._splitter = sse.FrameSplitter()

    def feed(self, data: bytes) -> list[Piece]:
        if self._state is _FLOWING:
            if len(data) <= FEW_BYTES and not self._splitter.kept and _CONTENT.fullmatch(data):
                return [Piece(data)]  # so it is most of the time
        elif self._state is _OVER:
            return []
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
        """Read frames until content flows; from there on only those that may be more than content.

        All that is for the client becomes one piece, the bytes as they came. An error is a piece behind it.
        """
        at, has_content, usage = 0, False, None
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
            end = block.find(b"\n\n", at) + 2
            if end <= at:  # a line break more than ends a frame: all that is left
                end = len(block)
            piece = self._frame(block[at:end])
            if piece.error is not None:
                return [Piece(block[:at], has_content, usage=usage), piece] if at else [piece]
            has_content = has_content or piece.has_content
            if piece.usage is not None:
                usage = piece.usage if usage is None else usage.merged(piece.usage)
            at = end
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
        if self._state is _BEFORE:
            sort = sort_of(self._splitter.rest)
            return [self._fail(broken(f"{sort} where a stream of events was expected"))]
        return [self._fail(broken("the stream ended before the end of its message"))]

    def _fail(self, fault: Fault) -> Piece:
        self._state = _OVER
        return Piece(b"", error=fault)

    def _finish(self, frame: bytes) -> Piece:
        self._state = _OVER
        self.complete = True
        return Piece(frame, has_content=True)

    def _frame(self, frame: bytes) -> Piece:
        if _SILENT.fullmatch(frame):
            return Piece(frame)
        if self._state is not _BEFORE and _STOP.fullmatch(frame):
            return self._finish(frame)
        event, data = sse.fields(frame)
        if not data:
            return Piece(frame)
        try:
            decoded = _FRAME.decode(data)
        except (msgspec.MsgspecError, RecursionError):
            if event == b"error":
                return self._fail(Fault(500, "api_error", data[:ERROR_MAX_BYTES].decode(errors="replace")))
            return self._fail(broken("an event of the stream is not valid JSON"))
        return self._event(frame, event, decoded)

    def _event(self, frame: bytes, event: bytes, decoded: _Frame) -> Piece:
        match decoded.type or event.decode(errors="replace"):
            case "content_block_delta":
                self._content_began()
                return Piece(frame, has_content=True)
            case "error":
                return self._fail(stated(decoded.error, "the provider reported an error without words"))
            case "message_start":
                if self._state is not _BEFORE:
                    return self._fail(broken("a second message in one stream"))
                self._state = _STARTED
                message = decoded.message
                usage = usage_of(message.usage, message.input_transformations) if message else None
                return Piece(frame, usage=usage)
            case "content_block_start":
                block = decoded.content_block
                has_content = block is not None and block.type not in PLAIN_BLOCKS
                if has_content:
                    self._content_began()
                return Piece(frame, has_content=has_content)
            case "message_delta":
                return Piece(frame, usage=usage_of(decoded.usage, decoded.input_transformations))
            case "message_stop":
                if self._state is _BEFORE:
                    return self._fail(broken("the end of a message without its start"))
                return self._finish(frame)
            case _:
                if event == b"error" or decoded.error:
                    return self._fail(stated(decoded.error, "the provider reported an error without words"))
                return Piece(frame)

    def _content_began(self) -> None:
        if self._state is _STARTED:
            self._state = _FLOWING


def _is_readable(block: bytes, at: int) -> bool:
    """Return whether the frame of content at `at` is JSON: the first one has to be, as another provider may answer."""
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
