"""Zed's answers, newline-delimited JSON, as the Messages API's frames or one JSON message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from balancer import ndjson, sse
from balancer.convert.zed_faults import object_of, of_failed
from balancer.model import Fault, Piece, Usage
from balancer.wire.anthropic import StreamDecoder
from balancer.wire.faults import broken, sort_of

_USAGE = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}
_STARTS: dict[str, dict[str, Any]] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
}


def normalised(event: dict[str, Any], model: str, nonce: str) -> dict[str, Any]:
    """Return an event with the members that the Messages API promises and the service drops."""
    match event.get("type"):
        case "message_start":
            given = _object(event.get("message"))
            shell: dict[str, Any] = {
                "id": f"msg_{nonce}",
                "type": "message",
                "role": "assistant",
                "content": [],
                "stop_reason": None,
            }
            usage = {**_USAGE, **_said(given.get("usage"))}
            return {**event, "message": {**shell, "stop_sequence": None, **given, "model": model, "usage": usage}}
        case "content_block_start":
            block = _object(event.get("content_block"))
            return {**event, "content_block": {**block, **_STARTS.get(block.get("type", ""), {}), **_said(block)}}
        case "message_delta":
            delta = {"stop_reason": None, "stop_sequence": None, **_object(event.get("delta"))}
            return {**event, "delta": delta, "usage": {"output_tokens": 0, **_said(event.get("usage"))}}
        case _:
            return event


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _said(value: Any) -> dict[str, Any]:
    return {key: item for key, item in _object(value).items() if item is not None}


class Assembly:
    """Puts a stream's events together to one message."""

    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._inputs: dict[int, str] = {}

    def take(self, event: dict[str, Any]) -> None:
        at = event.get("index", 0)
        match event.get("type"):
            case "message_start":
                self._message = event["message"]
            case "content_block_start":
                self._blocks[at] = dict(event["content_block"])
            case "content_block_delta" if at in self._blocks:
                self._add(at, _object(event.get("delta")))
            case "message_delta":
                self._message.update(_said(event["delta"]))
                self._message["usage"] = {**self._message.get("usage", {}), **_said(event["usage"])}

    def _add(self, at: int, delta: dict[str, Any]) -> None:
        block = self._blocks[at]
        match delta.get("type"):
            case "text_delta":
                block["text"] = block.get("text", "") + str(delta.get("text", ""))
            case "thinking_delta":
                block["thinking"] = block.get("thinking", "") + str(delta.get("thinking", ""))
            case "signature_delta":
                block["signature"] = delta.get("signature", "")
            case "input_json_delta":
                self._inputs[at] = self._inputs.get(at, "") + str(delta.get("partial_json", ""))
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or ()), delta.get("citation")]

    def message(self) -> bytes | None:
        """Return the JSON message; None where a tool's input is no JSON and was not cut short."""
        for at, written in self._inputs.items():
            try:
                self._blocks[at]["input"] = msgspec.json.decode(written) if written else {}
            except (msgspec.MsgspecError, RecursionError):
                if self._message.get("stop_reason") != "max_tokens":
                    return None
                self._blocks[at]["input"] = {}
        return msgspec.json.encode({**self._message, "content": [self._blocks[at] for at in sorted(self._blocks)]})

    def text(self) -> str:
        return "".join(block.get("text", "") for _, block in sorted(self._blocks.items()))


class Decoder:
    """The decoder of an answer of `/completions`."""

    def __init__(
        self,
        model: str,
        nonce: str,
        *,
        stream: bool,
        wrapped: bool,
        notes: tuple[str, ...] = (),
        headers: tuple[tuple[bytes, bytes], ...] = (),
        learn: Callable[[str, Usage], None] = lambda word, usage: None,
    ) -> None:
        self.complete = False
        self.notes = notes
        self.headers = headers
        self._model, self._nonce = model, nonce
        self._stream, self._wrapped = stream, wrapped
        self._learn = learn
        self._lines = ndjson.Splitter()
        self._frames = StreamDecoder()
        self._assembly: Assembly | None = None if stream else Assembly()
        self._usage = Usage()
        self._failed = False
        self._anything = False

    def feed(self, data: bytes) -> list[Piece]:
        if self._failed:
            return []
        try:
            lines = self._lines.feed(data)
        except ndjson.LineTooLong as error:
            return self._fail(broken(str(error)))
        return [piece for line in lines for piece in self._line(line)]

    def end(self) -> list[Piece]:
        pieces = self._line(self._lines.end()) if not self._failed else []
        if self._failed or self.complete:
            return pieces
        word = (
            "the stream ended before the end of its message" if self._anything else "nothing where lines of JSON were"
        )
        return pieces + self._fail(broken(word))

    def _fail(self, fault: Fault) -> list[Piece]:
        self._failed = True
        return [Piece(b"", error=fault)]

    def _line(self, line: bytes) -> list[Piece]:
        line = line.removeprefix(b"data:").strip()
        if not line or self._failed:
            return []
        self._anything = True
        found = object_of(line)
        if not found:
            return [] if self.complete else self._fail(broken(f"{sort_of(line)} where lines of JSON were expected"))
        wrapped = self._wrapped or ("type" not in found and ("event" in found or "status" in found))
        if not wrapped or ("type" in found and "event" not in found and "status" not in found):
            return self._event(found)
        if "status" in found:
            return self._status(found["status"])
        return self._event(_object(found.get("event")))

    def _status(self, status: Any) -> list[Piece]:
        if isinstance(status, dict) and "failed" in status and not self.complete:
            return self._fail(of_failed(status["failed"]))
        if status == "tool_use_limit_reached":
            self._learn("tool_use_limit_reached", Usage())
        if status == "stream_ended" and not self.complete:
            return self._fail(broken("the stream ended before the end of its message"))
        return []

    def _event(self, event: dict[str, Any]) -> list[Piece]:
        if self.complete or not isinstance(event.get("type"), str):
            return []
        event = normalised(event, self._model, self._nonce)
        pieces = self._frames.feed(sse.frame(event["type"], msgspec.json.encode(event)))
        for piece in pieces:
            self._usage = self._usage.merged(piece.usage)
            self._failed = self._failed or piece.error is not None
        self.complete = self._frames.complete
        if self.complete:
            self._learn("completed", self._usage)
        return pieces if self._assembly is None else self._assembled(self._assembly, event, pieces)

    def _assembled(self, assembly: Assembly, event: dict[str, Any], pieces: list[Piece]) -> list[Piece]:
        if self._failed:
            return [piece for piece in pieces if piece.error]
        assembly.take(event)
        if not self.complete:
            return []
        message = assembly.message()
        if message is None:
            self.complete = False
            return self._fail(broken("the input of a tool call is not JSON"))
        return [Piece(message, substance=True, usage=self._usage)]


def text_of(body: bytes) -> str:
    """Return the text of a whole answer; empty where it is none."""
    assembly = Assembly()
    done = False
    for raw in body.split(b"\n"):
        line = object_of(raw.strip())
        event = _object(line.get("event")) if "event" in line else line
        if isinstance(event.get("type"), str):
            assembly.take(normalised(event, "", ""))
            done = done or event["type"] == "message_stop"
    return assembly.text() if done else ""


class Small:
    """The decoder of a small JSON answer that is turned into another."""

    def __init__(self, convert: Callable[[dict[str, Any]], bytes | None]) -> None:
        self.complete = False
        self._convert = convert
        self._body = b""

    def feed(self, data: bytes) -> list[Piece]:
        self._body += data
        return []

    def end(self) -> list[Piece]:
        converted = self._convert(object_of(self._body))
        if converted is None:
            return [Piece(b"", error=broken(f"{sort_of(self._body)} where something else was expected"))]
        self.complete = True
        return [Piece(converted, substance=True)]


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
