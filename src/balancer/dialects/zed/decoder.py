"""Zed's answers, newline-delimited JSON, as the Messages API's frames or one JSON message."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from balancer.dialects.zed.faults import fault_of, of_failed
from balancer.headers import Headers
from balancer.model import Fault, Piece, Usage
from balancer.wire import ndjson, sse
from balancer.wire.decoder import BaseDecoder
from balancer.wire.errors import broken, sort_of
from balancer.wire.loose import decoded_object, object_of, string_of
from balancer.wire.stream import StreamDecoder
from balancer.wire.turning import Assembly
from balancer.wire.whole import MAX_ANSWER_BYTES, Whole

_USAGE = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}
_STARTS: dict[str, dict[str, Any]] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
}
_NOT_DATA = (b"event:", b":", b"id:", b"retry:")
"""A gateway may have made server-sent events of the lines."""


def normalised(event: dict[str, Any], model: str, attempt_id: str, output_tokens: int = 0) -> dict[str, Any]:
    """Return an event with the members that the Messages API promises and the service drops.

    `output_tokens`: as far as is known; they stand where the service says nothing of them.
    """
    match event.get("type"):
        case "message_start":
            given = _said(event.get("message"))
            shell: dict[str, Any] = {
                "id": f"msg_{attempt_id}",
                "type": "message",
                "role": "assistant",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
            }
            return {
                **event,
                "message": {**shell, **given, "model": model, "usage": {**_USAGE, **_said(given.get("usage"))}},
            }
        case "content_block_start":
            block = object_of(event.get("content_block"))
            return {**event, "content_block": {**block, **_STARTS.get(str(block.get("type")), {}), **_said(block)}}
        case "message_delta":
            delta = {"stop_reason": None, "stop_sequence": None, **object_of(event.get("delta"))}
            usage = {"output_tokens": output_tokens, **_said(event.get("usage"))}
            return {**event, "delta": delta, "usage": usage}
        case _:
            return event


def _said(value: Any) -> dict[str, Any]:
    return {key: item for key, item in object_of(value).items() if item is not None}


class State(enum.Enum):
    """How far an answer is."""

    SILENT = "silent"
    READING = "reading"
    COMPLETE = "complete"
    ENDED = "ended"
    FAILED = "failed"


_SILENT, _READING, _COMPLETE, _ENDED, _FAILED = State  # a global costs a tenth of a member of the class


class ZedDecoder:
    """The decoder of an answer of `/completions`.

    | state | what has come | what may follow |
    |---|---|---|
    | `SILENT` | no line yet | all |
    | `READING` | a line | events go to the client; the service's statuses are only learnt from |
    | `COMPLETE` | `message_stop`: the client has its answer | statuses: they are learnt from, a failure is noted |
    | `ENDED` | the service's word that the stream has ended, behind `message_stop` | the same |
    | `FAILED` | a failure before `message_stop` | nothing: it is ignored |
    """

    complete = False
    ending: bool | None = None

    def __init__(
        self,
        model: str,
        attempt_id: str,
        *,
        stream: bool,
        wrapped: bool,
        notes: tuple[str, ...] = (),
        headers: Headers = (),
        learn: Callable[[str, Any], None] = lambda word, value: None,
        silent: Callable[[str], str] = lambda message: message,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        """`learn` is told, as it comes: `usage`, `usage_updated`, `tool_use_limit_reached`, `completed`.

        `silent` takes tokens out of the service's words. `max_bytes` is the most of an answer that is put together to
        one message; a stream may be longer.
        """
        self.headers = headers
        self._notes = notes
        self._model, self._attempt_id = model, attempt_id
        self._wrapped = wrapped
        self._learn, self._silent = learn, silent
        self._state = _SILENT
        self._lines = ndjson.LineSplitter()
        self._frames = StreamDecoder()
        self._assembly = None if stream else Assembly()
        self._whole = Whole(max_bytes)
        self._usage = Usage()
        self._late_failure = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the log is to know: what was decided, and what came or was missing after the end of the answer."""
        notes = self._notes
        if self._assembly is not None and self._assembly.cut_input:
            notes += ("zed: the input of a tool call was cut short by max_tokens and is empty",)
        if self._late_failure:
            notes += (f"zed: after the end of the answer the service reported a failure: {self._late_failure}",)
        elif self._state is _COMPLETE and self._wrapped:
            notes += ("zed: the service did not say that the stream had ended",)
        return notes

    def feed(self, data: bytes) -> list[Piece]:
        if self._state is _FAILED:
            return []
        if self._assembly is not None and not self.complete and (fault := self._whole.count(data)) is not None:
            return self._fail(fault)
        try:
            lines = self._lines.feed(data)
        except ndjson.LineTooLong as error:
            return [] if self.complete else self._fail(broken(str(error)))
        return [piece for line in lines for piece in self._line(line)]

    def end(self) -> list[Piece]:
        pieces = self._line(self._lines.end())
        if self._state is _READING:
            return pieces + self._fail(broken("the stream ended before the end of its message"))
        if self._state is _SILENT:
            return pieces + self._fail(broken("nothing where lines of JSON were expected"))
        return pieces

    def _fail(self, fault: Fault) -> list[Piece]:
        self._state = _FAILED
        return [Piece(b"", error=replace(fault, message=self._silent(fault.message)))]

    def _line(self, line: bytes) -> list[Piece]:
        line = line.removeprefix(b"data:").strip()
        if not line or self._state is _FAILED or line.startswith(_NOT_DATA) or line == b"[DONE]":
            return []
        if self._state is _SILENT:
            self._state = _READING
        found = decoded_object(line)
        if not found:
            return [] if self.complete else self._fail(broken(f"{sort_of(line)} where lines of JSON were expected"))
        wrapped = self._wrapped or ("type" not in found and ("event" in found or "status" in found))
        if not wrapped or ("type" in found and "event" not in found and "status" not in found):
            return self._event(found)
        if "status" in found:
            return self._status(found["status"])
        return self._event(object_of(found.get("event")))

    def _status(self, status: Any) -> list[Piece]:
        if status == "stream_ended":
            if not self.complete:
                return self._fail(broken("the stream ended before the end of its message"))
            self._state = _ENDED
        if status == "tool_use_limit_reached":
            self._learn("tool_use_limit_reached", None)
        if not isinstance(status, dict):
            return []
        if "usage_updated" in status:
            self._learn("usage_updated", status["usage_updated"])
        if "failed" not in status:
            return []
        fault = of_failed(status["failed"])
        if not self.complete:
            return self._fail(fault)
        self._late_failure = f"{fault.status} {fault.kind}"
        return []

    def _event(self, event: dict[str, Any]) -> list[Piece]:
        kind = event.get("type")
        if self.complete or not isinstance(kind, str) or not kind.isprintable():
            return []
        event = normalised(event, self._model, self._attempt_id, self._usage.output_tokens or 0)
        pieces = self._frames.feed(sse.frame(kind, msgspec.json.encode(event)))
        for piece in pieces:
            if piece.error is not None:
                return self._fail(fault_of(piece.error.status, piece.error.message, piece.error.retry_after_s))
            if piece.usage is not None:
                self._usage = self._usage.merged(piece.usage)
                self._learn("usage", self._usage)
        if self._assembly is not None:
            pieces = self._assembled(self._assembly, event)
        elif self._frames.complete:
            self._complete()
        return pieces

    def _assembled(self, assembly: Assembly, event: dict[str, Any]) -> list[Piece]:
        assembly.take(event)
        if not self._frames.complete:
            return []
        message = assembly.message()
        if message is None:
            return self._fail(broken("the input of a tool call is not JSON"))
        self._complete()
        return [Piece(message, has_content=True, usage=self._usage)]

    def _complete(self) -> None:
        self._state, self.complete = _COMPLETE, True
        self._learn("completed", self._usage)


def text_of(body: bytes) -> tuple[str, Usage]:
    """Return the text of a whole answer, empty where it is none, and what it used all the same."""
    used = Usage()

    def learn(word: str, value: Any) -> None:
        nonlocal used
        used = value if word == "usage" else used

    decoder = ZedDecoder("", "", stream=False, wrapped=False, learn=learn)
    pieces = decoder.feed(body) + decoder.end()
    content = decoded_object(pieces[-1].data).get("content", ()) if decoder.complete else ()
    return "".join(string_of(block.get("text")) for block in content if block.get("type") == "text"), used


SMALL_MAX_BYTES = 16 * 1024 * 1024
"""The largest answer that is no message: a count, or a list of models."""


class Small(BaseDecoder):
    """The decoder of a small JSON answer that is turned into another."""

    def __init__(self, convert: Callable[[dict[str, Any]], bytes | None], max_bytes: int = SMALL_MAX_BYTES) -> None:
        """`convert` returns None for what is not the answer that it should be."""
        self._convert = convert
        self._whole: Whole | None = Whole(max_bytes)
        """None: the answer is over."""

    def feed(self, data: bytes) -> list[Piece]:
        fault = self._whole.add(data) if self._whole else None
        return [self._fail(fault)] if fault else []

    def end(self) -> list[Piece]:
        if self._whole is None:
            return []
        body = self._whole.joined()
        converted = self._convert(decoded_object(body))
        if converted is None:
            return [self._fail(broken(f"{sort_of(body)} where something else was expected"))]
        self._whole, self.complete = None, True
        return [Piece(converted, has_content=True)]

    def _fail(self, fault: Fault) -> Piece:
        self._whole = None
        return Piece(b"", error=fault)


def count(body: dict[str, Any]) -> bytes | None:
    tokens = body.get("tokens")
    valid = isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 0
    return msgspec.json.encode({"input_tokens": tokens}) if valid else None


def entries(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the catalogue's usable Anthropic models."""
    found = body.get("models")
    return [
        entry
        for entry in (found if isinstance(found, list) else ())
        if isinstance(entry, dict)
        and isinstance(entry.get("id"), str)
        and entry.get("provider", "anthropic") == "anthropic"
        and not entry.get("is_disabled")
    ]


def listing(body: dict[str, Any]) -> bytes | None:
    if not isinstance(body.get("models"), list):
        return None
    data = [
        {
            "type": "model",
            "id": entry["id"],
            "display_name": entry.get("display_name") or entry["id"],
            "created_at": "1970-01-01T00:00:00Z",
        }
        for entry in entries(body)
    ]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return msgspec.json.encode({"data": data, "has_more": False, **ends})
