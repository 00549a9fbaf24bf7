"""Streamed answers of the Messages API: every frame is read until content has begun, then only where needed."""

from __future__ import annotations

import re

import msgspec

from balancer.model import BaseDecoder, Fault, Piece
from balancer.wire import sse
from balancer.wire.errors import (
    Error,
    broken,
    sort_of,
    stated,
)
from balancer.wire.whole import Message, ReportedUsage


class _Block(msgspec.Struct):
    type: str = ""


class _Frame(msgspec.Struct):
    type: str = ""
    message: Message | None = None
    usage: ReportedUsage | None = None
    error: Error | None = None
    content_block: _Block | None = None


_FRAME = msgspec.json.Decoder(_Frame)

PING = sse.frame("ping", b'{"type": "ping"}')

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


class StreamDecoder(BaseDecoder):
    """Reads a Messages API stream and hands it on byte for byte, frame by frame."""

    def __init__(self) -> None:
        self.complete = False
        self._splitter = sse.FrameSplitter()
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
            substance = substance or piece.has_content
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
            return Piece(frame, has_content=True)
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
                return Piece(frame, has_content=True)
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
                return Piece(frame, has_content=told)
            case "message_delta":
                return Piece(frame, usage=decoded.usage.usage() if decoded.usage else None)
            case "message_stop":
                if not self._begun:
                    return self._fail(broken("the end of a message without its start"))
                self.complete = True
                return Piece(frame, has_content=True)
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
