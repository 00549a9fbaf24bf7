"""A provider's bytes to pieces for the client: stream or JSON on either side, in any combination."""

from __future__ import annotations

from typing import Any, Protocol

from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.writer import Frames, Shell, Whole, Writer
from balancer.headers import Headers
from balancer.model import Fault, Piece
from balancer.wire import chat as wire
from balancer.wire import sse
from balancer.wire.errors import broken, sort_of

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The largest answer that is held as a whole."""

_DATA = b"data: "
_BEFORE = b" \t\r\n\xef\xbb\xbf"
"""What may stand before an answer: white space and the mark of UTF-8."""


class Reader(Protocol):
    """Reads one API's events, or its whole answers, into a composer."""

    def event(self, data: bytes) -> Fault | None:
        """Take an event's data. Non-JSON is skipped."""
        ...

    def whole(self, body: bytes) -> Fault | None:
        """Take a whole JSON answer."""
        ...

    def end(self) -> Fault | None:
        """The body has ended: end the answer, or say why it is none."""
        ...

    def usage(self) -> Any: ...

    @property
    def ending(self) -> bool:
        """All that may still come is how much was used, and the end."""
        ...


class OpenAIDecoder:
    """The decoder of `DIALECT.decoder`. What comes decides how it is read, what was asked how it is written."""

    headers: Headers = ()

    def __init__(self, composer: Composer, writer: Writer, reader: Reader, notes: tuple[str, ...]) -> None:
        self.complete = False
        self.notes = notes
        self._composer = composer
        self._writer = writer
        self._reader = reader
        self._splitter = sse.FrameSplitter()
        self._whole: list[bytes] | None = None
        self._bytes = 0
        self._bounded = isinstance(writer, Whole)
        self._failed = False
        self._streams = False

    def feed(self, data: bytes) -> list[Piece]:
        if self.complete or self._failed:
            return []
        if not self._streams and self._whole is None:
            data = data.lstrip(_BEFORE)
            if not data:
                return []
            self._decide(data)
        if self._bounded or self._whole is not None:
            self._bytes += len(data)
            if self._bytes > MAX_ANSWER_BYTES:
                return [self._fail(broken(f"an answer of more than {MAX_ANSWER_BYTES} bytes"))]
        if self._whole is not None:
            self._whole.append(data)
            return []
        try:
            block = self._splitter.block(data)
        except sse.FrameTooLong as error:
            return [self._fail(broken(str(error)))]
        return self._events(block)

    @property
    def ending(self) -> bool:
        """The answer is there, but its server has not ended it: it is not to be waited for much longer."""
        return self._streams and self._reader.ending

    def _decide(self, data: bytes) -> None:
        """Look at the first byte: JSON and web pages are read whole."""
        if data[:1] in b"{[<":
            self._whole = []
        else:
            self._streams = True

    def _events(self, block: bytes) -> list[Piece]:
        pieces: list[Piece] = []
        for frame in sse.frames(block):
            fault = self._event(frame)
            if fault is not None:
                return [*self._taken(), self._fail(fault)]
            if self._composer.ended:
                break
        pieces += self._taken()
        return pieces

    def _event(self, frame: bytes) -> Fault | None:
        if frame[:6] == _DATA and frame.find(b"\n", 0, -2) < 0 and frame.find(b"\r") < 0:
            return self._reader.event(frame[6:-2])
        event, data = sse.fields(frame)
        if event == b"error":
            answer = wire.chunk(data)
            return wire.stream_fault(wire.stated(answer) if answer else data.decode("utf-8", "replace"))
        return self._reader.event(data) if data else None

    def end(self) -> list[Piece]:
        if self.complete or self._failed:
            return []
        fault: Fault | None
        pieces: list[Piece] = []
        if self._whole is not None:
            body = b"".join(self._whole)
            fault = self._reader.whole(body)
        else:
            if rest := self._splitter.rest:  # an event at the end needs no blank line
                pieces = self._events(rest + b"\n\n")
                if self._composer.ended or any(piece.error for piece in pieces):
                    return pieces
            fault = self._reader.end()
        if fault is not None:
            return [*pieces, self._fail(fault)]
        return pieces + self._taken()

    def _taken(self) -> list[Piece]:
        data, substance = self._writer.taken()
        self.complete = self._composer.ended
        if not data:
            return []
        counted = self._reader.usage() if self.complete else None
        return [Piece(data, has_content=substance, usage=counted)]

    def _fail(self, fault: Fault) -> Piece:
        self._failed = True
        return Piece(b"", error=fault)


def writer_for(shell: Shell, *, stream: bool) -> Writer:
    """Return what writes the answer as the client asked for it."""
    return Frames(shell) if stream else Whole(shell)


def not_an_answer(body: bytes) -> Fault:
    """Return the fault of a body that is no answer at all."""
    return broken(f"{sort_of(body)} where an answer was expected")
