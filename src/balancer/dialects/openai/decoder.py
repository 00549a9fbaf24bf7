"""A provider's bytes to pieces for the client: stream or JSON on either side, in any combination."""

from __future__ import annotations

import enum
from typing import Protocol

from balancer.dialects.openai.arguments import Unusable
from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.writer import FrameWriter, MessageWriter, Shell, Writer
from balancer.headers import Headers
from balancer.model import Fault, Piece, Usage
from balancer.wire import sse
from balancer.wire.chat import chunk, stated_error
from balancer.wire.complaints import stream_fault
from balancer.wire.errors import MESSAGE_MAX_CHARS, broken, sort_of
from balancer.wire.whole import MAX_ANSWER_BYTES, Whole

_DATA = b"data: "
_BEFORE = b" \t\r\n\xef\xbb\xbf"
"""What may stand before an answer: white space and the mark of UTF-8."""


class Reader(Protocol):
    """Reads one API's events, or its whole answers, into a composer, which may raise `Unusable`."""

    def event(self, data: bytes) -> Fault | None:
        """Take an event's data. What is not even meant to be JSON is skipped."""
        ...

    def whole(self, body: bytes) -> Fault | None:
        """Take a whole JSON answer."""
        ...

    def end(self) -> Fault | None:
        """The body has ended: end the answer, or say why it is none."""
        ...

    def usage(self) -> Usage | None:
        """Return what the server says was used; None: nothing yet."""
        ...

    @property
    def ending(self) -> bool:
        """All that may still come is how much was used, and the end."""
        ...


class State(enum.Enum):
    """How far an answer is, and how it is read."""

    UNDECIDED = "undecided"
    EVENTS = "events"
    WHOLE = "whole"
    OVER = "over"


_UNDECIDED, _EVENTS, _WHOLE, _OVER = State


class OpenAIDecoder:
    """The decoder of `DIALECT.decoder`. What comes decides how it is read, what was asked how it is written.

    | state | what has come | what happens with what comes |
    |---|---|---|
    | `UNDECIDED` | white space at the most | the first byte decides: JSON and web pages are read whole |
    | `EVENTS` | the beginning of a stream | every event goes to the reader at once |
    | `WHOLE` | the beginning of JSON | it is collected, and read at the end |
    | `OVER` | the end (`complete`), or a fault | it is ignored |
    """

    complete = False
    headers: Headers = ()

    def __init__(
        self,
        composer: Composer,
        writer: Writer,
        reader: Reader,
        notes: tuple[str, ...],
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self.notes = notes
        self._composer = composer
        self._writer = writer
        self._reader = reader
        self._state = _UNDECIDED
        self._splitter = sse.FrameSplitter()
        self._whole = Whole(max_bytes)
        self._held = isinstance(writer, MessageWriter)
        """A stream is put together to one message: it is held, too, and counts."""

    def feed(self, data: bytes) -> list[Piece]:
        if self._state is _UNDECIDED:
            data = data.lstrip(_BEFORE)
            if not data:
                return []
            self._state = _WHOLE if data[:1] in b"{[<" else _EVENTS
        if self._state is _WHOLE:
            fault = self._whole.add(data)
            return [self._fail(fault)] if fault else []
        if self._state is _OVER:
            return []
        if self._held and (fault := self._whole.count(data)) is not None:
            return [self._fail(fault)]
        try:
            block = self._splitter.block(data)
        except sse.FrameTooLong as error:
            return [self._fail(broken(str(error)))]
        return self._events(block)

    @property
    def ending(self) -> bool:
        """The answer is there, but its server has not ended it: it is not to be waited for much longer."""
        return self._state is _EVENTS and self._reader.ending

    def _events(self, block: bytes) -> list[Piece]:
        fault: Fault | None = None
        try:
            for frame in sse.frames(block):
                fault = self._event(frame)
                if fault is not None or self._composer.ended:
                    break
        except Unusable as unusable:
            fault = unusable.fault
        return self._ready() if fault is None else [*self._ready(), self._fail(fault)]

    def _event(self, frame: bytes) -> Fault | None:
        if frame[:6] == _DATA and frame.find(b"\n", 0, -2) < 0 and frame.find(b"\r") < 0:
            return self._reader.event(frame[6:-2])
        event, data = sse.fields(frame)
        if event == b"error":
            answer = chunk(data)
            return stream_fault(stated_error(answer) if answer else data[:MESSAGE_MAX_CHARS].decode("utf-8", "replace"))
        return self._reader.event(data) if data else None

    def end(self) -> list[Piece]:
        if self._state is _OVER:
            return []
        pieces: list[Piece] = []
        if self._state is not _WHOLE and (rest := self._splitter.rest):  # an event at the end needs no blank line
            pieces = self._events(rest + b"\n\n")
            if self.complete or any(piece.error for piece in pieces):
                return pieces
        try:
            fault = self._reader.whole(self._whole.joined()) if self._state is _WHOLE else self._reader.end()
        except Unusable as unusable:
            fault = unusable.fault
        return [*pieces, self._fail(fault)] if fault is not None else pieces + self._ready()

    def _ready(self) -> list[Piece]:
        """Return what is ready for the client, as at most one piece."""
        data, has_content = self._writer.taken()
        if self._composer.ended:
            self._state, self.complete = _OVER, True
        if not data:
            return []
        return [Piece(data, has_content=has_content, usage=self._reader.usage() if self.complete else None)]

    def _fail(self, fault: Fault) -> Piece:
        self._state = _OVER
        return Piece(b"", error=fault)


def writer_for(shell: Shell, *, stream: bool) -> Writer:
    """Return what writes the answer as the client asked for it."""
    return FrameWriter(shell) if stream else MessageWriter(shell)


def not_an_answer(body: bytes) -> Fault:
    """Return the fault of a body that is no answer at all."""
    return broken(f"{sort_of(body)} where an answer was expected")


def not_an_event(words: bytes) -> Fault | None:
    """Return the fault of data that is meant to be an event, but can't be read; None: it was not meant to be one.

    It may have been any part of the answer, which is not whole without it.
    """
    return broken("an event that is no valid JSON") if words[:1] == b"{" else None
