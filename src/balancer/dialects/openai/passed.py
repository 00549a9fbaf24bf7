"""Answers of OpenAI's own API, handed on byte for byte: read only as far as failover, usage and the end ask for.

A stream is in one of three states:

| state | how far it is | what is read |
|---|---|---|
| `BEFORE` | no content has come: another provider may still answer | every event |
| `FLOWING` | content came: the client gets this answer | events that may hold an error, usage, or the end |
| `OVER` | it ended, well (`complete`) or in a fault | nothing; what follows is ignored |
"""

from __future__ import annotations

import enum
from typing import Any, Protocol

import msgspec

from balancer.dialect import Ask, Decoder, Stored, TypedState
from balancer.dialects.openai.passthrough import kept_headers
from balancer.headers import Headers
from balancer.model import Fault, Operation, Piece, Reply, Usage
from balancer.wire import sse
from balancer.wire.chat import Choice, chunk, error_in, stated_error, usage_of
from balancer.wire.complaints import stream_fault
from balancer.wire.decoder import BaseDecoder
from balancer.wire.errors import broken, sort_of
from balancer.wire.loose import loosely_decoded, object_of, string_of
from balancer.wire.whole import MAX_ANSWER_BYTES, Whole


class Said(msgspec.Struct):
    """What an event, or a whole answer, says that is acted on."""

    content: bool = False
    """It is content, or an end that has none."""
    fault: Fault | None = None
    told: bool = False
    """With `fault`: the event itself tells the client of it."""
    usage: Usage | None = None
    end: bool = False
    """Nothing follows."""


_NOTHING = Said()


class Reader(Protocol):
    """Reads the events and the whole answers of one API."""

    @staticmethod
    def tells(data: bytes) -> bool:
        """Say whether these events may be more than content. (Words are looked for: a pattern takes twice as long.)"""
        ...

    @property
    def ended(self) -> bool:
        """The answer has come to its end; at most usage and the mark of the end are missing."""
        ...

    def event(self, name: bytes, data: bytes) -> Said: ...

    def whole(self, body: bytes) -> Said: ...


def decoder(ask: Ask, head: Reply) -> Decoder:
    """Return the decoder for a 2xx answer with this head."""
    reader: Reader
    if ask.operation is Operation.RESPONSES:
        reader = ResponsesEvents(ask.attempt_state)
    else:
        reader = ChatEvents(several=ask.request.body.find(b'"n"') >= 0)
    kind = PassedStream if ask.request.stream else PassedWhole
    return kind(reader, kept_headers(head.headers))


def _not_json(body: bytes, wanted: str) -> Said:
    return Said(fault=broken(f"{sort_of(body)} where {wanted} was expected"))


# Chat Completions


class ChatEvents:
    """Reads the chunks of a completion, or a whole one.

    `several`: more than one choice may have been asked for, so the end of one is not the end of all.
    """

    @staticmethod
    def tells(data: bytes) -> bool:
        # Inside a string these words have a backslash before their last quote.
        find = data.find
        return (
            find(b"[DONE]") >= 0
            or find(b'"error"') >= 0
            or _has_value(data, b'"finish_reason"')
            or _has_value(data, b'"usage"')
            or find(b"event:") >= 0
        )

    def __init__(self, *, several: bool = False) -> None:
        self._several = several
        self._open: set[object] = set()
        self._finished: set[object] = set()

    @property
    def ended(self) -> bool:
        return bool(self._finished) and not self._open and not self._several

    def event(self, name: bytes, data: bytes) -> Said:
        if data.strip() == b"[DONE]":
            return Said(end=True)
        read = chunk(data)
        if read is None:
            return Said(fault=broken("an event of the stream is not valid JSON"))
        error = stated_error(read) if name == b"error" else error_in(read)
        if error:
            return Said(fault=stream_fault(error))
        content = False
        for choice in read.choices or ():
            if choice.error or choice.finish_reason == "error":
                return Said(fault=stream_fault(choice.error or "the provider ended its answer with an error"))
            content = self._choice(choice) or content
        usage = usage_of(read.usage)
        return Said(content, usage=usage[0] if usage else None)

    def _choice(self, choice: Choice) -> bool:
        index = choice.index if isinstance(choice.index, int | str) else 0
        finished = isinstance(choice.finish_reason, str) and bool(choice.finish_reason)
        if finished:
            self._open.discard(index)
            self._finished.add(index)
        elif index not in self._finished:
            self._open.add(index)
        return finished or _has_content(choice.delta)

    def whole(self, body: bytes) -> Said:
        read = chunk(body)
        if read is None:
            return _not_json(body, "a completion")
        if error := error_in(read):
            return Said(fault=stream_fault(error))
        if not read.choices:
            return Said(fault=broken("a completion without choices"))
        usage = usage_of(read.usage)
        return Said(content=True, usage=usage[0] if usage else None, end=True)


def _has_value(data: bytes, key: bytes) -> bool:
    """Say whether `key` stands there with another value than null."""
    count = data.count(key)
    return count > 0 and count != data.count(key + b":null") + data.count(key + b": null")


_SAID = (
    "content",
    "tool_calls",
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "reasoning_text",
    "reasoning_opaque",
    "refusal",
    "function_call",
)
"""The members of a fragment that are content."""


def _has_content(delta: dict[str, Any] | None) -> bool:
    return delta is not None and any(map(delta.get, _SAID))


# Responses

_PRELIMINARY = frozenset(
    {
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
    }
)
"""Events that come before anything is known."""

_ENDS = frozenset({"response.completed", "response.incomplete", "response.cancelled"})


class _Event(msgspec.Struct):
    type: Any = None
    response: Any = None
    error: Any = None
    message: Any = None
    code: Any = None


class ResponsesEvents:
    """Reads the events of a response, or a whole one. `left` is told the id of the response."""

    ended = False
    """A terminal event ends a response, nothing else."""

    @staticmethod
    def tells(data: bytes) -> bool:
        find = data.find
        return (
            find(b"response.completed") >= 0
            or find(b"response.incomplete") >= 0
            or find(b"response.failed") >= 0
            or find(b"response.cancelled") >= 0
            or find(b'"error"') >= 0
            or find(b"event: error") >= 0
            or find(b"event:error") >= 0
        )

    def __init__(self, left: TypedState) -> None:
        self._left = left

    def event(self, name: bytes, data: bytes) -> Said:
        event = _event(data)
        if event is None:
            done = data.strip() == b"[DONE]"  # of some servers, after all events
            return _NOTHING if done else Said(fault=broken("an event of the stream is not valid JSON"))
        kind = string_of(event.type) or name.decode("utf-8", "replace")
        if kind in _ENDS:
            response = object_of(event.response)
            return self._ended(response)
        if kind == "response.failed":
            return Said(fault=_failure(object_of(event.response)), told=True)
        if kind == "error":
            return Said(fault=stream_fault(event.error or {"message": event.message, "code": event.code}), told=True)
        return Said(content=kind.startswith("response.") and kind not in _PRELIMINARY)

    def whole(self, body: bytes) -> Said:
        try:
            response = object_of(loosely_decoded(body))
        except (RecursionError, ValueError):
            return _not_json(body, "a response")
        if response.get("object") == "error" or response.get("status") == "failed" or "output" not in response:
            failed = response.get("error") or response.get("message")
            return Said(fault=_failure(response) if failed else broken("JSON that is not a response"))
        return self._ended(response)

    def _ended(self, response: dict[str, Any]) -> Said:
        if name := string_of(response.get("id")):
            self._left.put(Stored(name))
        usage = usage_of(response.get("usage"))
        return Said(content=True, usage=usage[0] if usage else None, end=True)


def _event(data: bytes) -> _Event | None:
    try:
        return msgspec.json.decode(data, type=_Event)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        pass
    try:
        value = loosely_decoded(data)
    except (RecursionError, ValueError):
        return None
    return msgspec.convert(value, _Event) if isinstance(value, dict) else None


def _failure(response: dict[str, Any]) -> Fault:
    return stream_fault(response.get("error") or response.get("message") or "the response failed")


# Both


class State(enum.Enum):
    """How far a stream is."""

    BEFORE = "before"
    FLOWING = "flowing"
    OVER = "over"


_BEFORE, _FLOWING, _OVER = State


class PassedStream(BaseDecoder):
    """Hands a stream on, event by event, as it came."""

    def __init__(self, reader: Reader, headers: Headers) -> None:
        self.headers = headers
        self._reader = reader
        self._state = _BEFORE
        self._begun = False
        """Some event has come."""
        self._splitter = sse.FrameSplitter()
        self._tells = reader.tells

    def feed(self, data: bytes) -> list[Piece]:
        if self._state is _OVER:
            return []
        try:
            block = self._splitter.block(data)
        except sse.FrameTooLong as error:
            return [self._fail(broken(str(error)))]
        if not block:
            return []
        if self._state is _FLOWING and not self._tells(block):
            return [Piece(block)]
        return self._look(sse.frames(block))

    def _look(self, frames: list[bytes]) -> list[Piece]:
        """Read events until content flows, from there on those that may be more than content.

        What is for the client becomes one piece; a fault is a piece behind it.
        """
        self._begun = True
        passed = bytearray()
        has_content, usage = False, None
        for frame in frames:
            if self._state is _FLOWING and not self._tells(frame):
                passed += frame
                continue
            said = self._read(frame)
            if said.fault is not None:
                before = [Piece(bytes(passed), has_content, usage=usage)] if passed else []
                return [*before, self._fail(said.fault, frame if said.told and self._state is _FLOWING else b"")]
            passed += frame
            if said.usage is not None:
                usage = said.usage
            if said.content:
                has_content, self._state = True, _FLOWING
            if said.end:
                self._state, self.complete = _OVER, True
                break
        return [Piece(bytes(passed), has_content, usage=usage)]

    def _read(self, frame: bytes) -> Said:
        name, data = sse.fields(frame)
        if not data:
            return _NOTHING
        said = self._reader.event(name, data)
        if said.end and not said.content and self._state is _BEFORE:
            return Said(fault=broken("an answer with nothing in it"))
        return said

    @property
    def ending(self) -> bool:  # type: ignore[override]
        """The answer is there, but its server has not ended it: it is not to be waited for much longer."""
        return self._state is _FLOWING and self._reader.ended

    def end(self) -> list[Piece]:
        if self._state is _OVER:
            return []
        pieces: list[Piece] = []
        rest = self._splitter.rest
        if not self._begun and rest.lstrip()[:1] in (b"{", b"[", b"<", b""):
            return [self._fail(self._instead(rest))]
        if rest.strip():  # the last event lacks its blank line
            pieces = self._look([rest + b"\n\n"])
            if self._state is _OVER:
                return pieces
        if self._state is _FLOWING and self._reader.ended:  # some servers leave out the mark of the end
            self._state, self.complete = _OVER, True
            return pieces
        return [*pieces, self._fail(broken("the stream ended before the end of its answer"))]

    def _instead(self, rest: bytes) -> Fault:
        """Return the fault of what came in the place of a stream: an error in JSON, a web page, nothing."""
        fault = self._reader.whole(rest).fault if rest.lstrip()[:1] == b"{" else None
        return fault or broken(f"{sort_of(rest)} where a stream of events was expected")

    def _fail(self, fault: Fault, frame: bytes = b"") -> Piece:
        """End in a fault. `frame` is the server's own event that tells of it, for a client that has content already."""
        self._state = _OVER
        if frame:
            fault = msgspec.structs.replace(fault, reply=Reply(200, (), frame))
        return Piece(b"", error=fault)


class PassedWhole(BaseDecoder):
    """Collects a whole JSON answer, and hands it on as it came if it is what was asked for."""

    def __init__(self, reader: Reader, headers: Headers, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self.headers = headers
        self._reader = reader
        self._whole: Whole | None = Whole(max_bytes)
        """None: the answer is over."""

    def feed(self, data: bytes) -> list[Piece]:
        fault = self._whole.add(data) if self._whole else None
        return [self._fail(fault)] if fault else []

    def end(self) -> list[Piece]:
        if self._whole is None:
            return []
        body = self._whole.joined()
        said = self._reader.whole(body)
        if said.fault is not None:
            return [self._fail(said.fault)]
        self._whole, self.complete = None, True
        return [Piece(body, has_content=True, usage=said.usage)]

    def _fail(self, fault: Fault) -> Piece:
        self._whole = None
        return Piece(b"", error=fault)
