"""Whole answers of the Messages API: handed on as they came, or made of a stream that came in their place."""

from __future__ import annotations

import re

from balancer.model import Fault, Operation, Piece, Usage
from balancer.wire import sse
from balancer.wire.decoder import BaseDecoder
from balancer.wire.errors import broken
from balancer.wire.loose import decoded_object
from balancer.wire.stream import StreamDecoder
from balancer.wire.turning import Assembly
from balancer.wire.whole import MAX_ANSWER_BYTES, READERS, Whole, plain_count

_EVENTS = re.compile(rb"(?:event|data|id|retry)?:")
"""How a stream of events begins."""

_LONGEST = 6
"""In so many bytes the beginning of a stream is known."""

_BLANK = b" \t\r\n\xef\xbb\xbf"
"""What may stand before an answer: white space and the mark of UTF-8."""


class MessageDecoder(BaseDecoder):
    """Reads a whole JSON answer, and hands it on as it came if it is what was asked for.

    A stream in the place of a message is put together to one: to ask again would cost as much, and bring the same.
    """

    def __init__(self, operation: Operation, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._operation = operation
        self._whole: Whole | None = Whole(max_bytes)
        """None: the answer is over."""
        self._begun = not operation.answers
        """It is known in which form it comes."""
        self._start = b""
        """How it begins, as long as that is not known."""
        self._stream: StreamedMessage | None = None

    def feed(self, data: bytes) -> list[Piece]:
        whole = self._whole
        if whole is None:
            return []
        if self._stream is not None:
            fault = whole.count(data)
            return [self._fail(fault)] if fault else self._taken(self._stream.feed(data))
        fault = whole.add(data)
        if fault:
            return [self._fail(fault)]
        return [] if self._begun else self._begin(whole, data)

    def _begin(self, whole: Whole, data: bytes) -> list[Piece]:
        """See in which form the answer comes."""
        start = self._start = (self._start + data).lstrip(_BLANK)[:_LONGEST]
        if start[:1] != b"{" and _EVENTS.match(start):
            begun = whole.joined()
            self._whole = Whole(whole.max_bytes)
            self._whole.count(begun)
            self._stream = StreamedMessage()
            return self._taken(self._stream.feed(begun))
        self._begun = start[:1] == b"{" or len(start) == _LONGEST
        return []

    def end(self) -> list[Piece]:
        if self._whole is None:
            return []
        if self._stream is not None:
            return self._taken(self._stream.end())
        body = self._whole.joined()
        fault, usage = READERS[self._operation](body)
        if fault:
            return [self._fail(fault)]
        return [self._finish(plain_count(body) if self._operation.counts else body, usage)]

    def _taken(self, answer: Fault | bytes | None) -> list[Piece]:
        """Return what is for the client of what a stream has become; None: it goes on."""
        if answer is None or self._stream is None:
            return []
        if isinstance(answer, Fault):
            return [self._fail(answer)]
        return [self._finish(answer, self._stream.usage)]

    def _finish(self, body: bytes, usage: Usage | None) -> Piece:
        self._whole, self.complete = None, True
        return Piece(body, has_content=True, usage=usage)

    def _fail(self, fault: Fault) -> Piece:
        self._whole = None
        return Piece(b"", error=fault)


class StreamedMessage:
    """Puts the stream of a message together, as it comes."""

    def __init__(self) -> None:
        self._decoder = StreamDecoder()
        self._assembly = Assembly()
        self.usage = Usage()

    def feed(self, data: bytes) -> Fault | bytes | None:
        """Return the message once it is whole, or why it is none; None: more is to come."""
        return self._take(self._decoder.feed(data))

    def end(self) -> Fault | bytes | None:
        """The stream is over: return the message, or why it is none."""
        said = self._take(self._decoder.end())
        # A JSON message has no other end than its stop reason: where that was said, nothing is missing.
        return self._message() if isinstance(said, Fault) and self._decoder.stopped else said

    def _take(self, pieces: list[Piece]) -> Fault | bytes | None:
        for piece in pieces:
            if piece.error is not None:
                return piece.error
            if piece.usage is not None:
                self.usage = self.usage.merged(piece.usage)
            for frame in sse.frames(piece.data):
                self._assembly.take(decoded_object(sse.fields(frame)[1]))
        return self._message() if self._decoder.complete else None

    def _message(self) -> Fault | bytes:
        message = self._assembly.message()
        return broken("the input of a tool call is not JSON") if message is None else message
