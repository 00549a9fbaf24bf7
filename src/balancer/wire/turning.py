"""Whole messages as the frames of a stream, and the events of a stream as a whole message.

Some servers answer with one where the other was asked for. What came whole is delivered all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from balancer.wire import sse
from balancer.wire.loose import count_of, object_of, objects_of, string_of

_encode = msgspec.json.Encoder().encode

_USES = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
"""Blocks whose input comes in pieces of JSON."""

_JOINED = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
    "compaction_delta": "content",
}
"""Deltas whose pieces are put together, each with the member that holds one."""

_REPLACED = {"signature_delta": "signature", "compaction_delta": "encrypted_content"}
"""Deltas that hold all of a member."""

_BEGUN = {"text_delta": {"type": "text", "text": ""}, "thinking_delta": {"type": "thinking", "thinking": ""}}
"""Blocks that are known by their deltas alone."""


# A message as a stream


def frames_of(message: dict[str, Any]) -> bytes:
    """Return the stream that makes this message."""
    return b"".join([sse.frame(event["type"], _encode(event)) for event in _events(message)])


def _events(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    usage = object_of(message.get("usage"))
    blocks = objects_of(message.get("content"))
    begun = {name: value for name, value in message.items() if name not in ("content", "stop_details")}
    begun |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(blocks):
        yield {"type": "content_block_start", "index": index, "content_block": _empty(block)}
        for delta in _deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ended = {name: message[name] for name in ("stop_details",) if name in message}
    ended |= {name: message.get(name) for name in ("stop_reason", "stop_sequence")}
    counted = {**usage, "output_tokens": count_of(usage.get("output_tokens")) or 0}
    yield {"type": "message_delta", "delta": ended, "usage": counted}
    yield {"type": "message_stop"}


def _empty(block: dict[str, Any]) -> dict[str, Any]:
    """Return a block without what its deltas bring."""
    match block.get("type"):
        case "text":
            return {**block, "text": "", **({"citations": []} if block.get("citations") else {})}
        case "thinking":
            return {**block, "thinking": "", "signature": ""}
        case kind if kind in _USES:
            return {**block, "input": {}}
        case _:
            return block


def _deltas(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    match block.get("type"):
        case "text":
            for citation in objects_of(block.get("citations")):
                yield {"type": "citations_delta", "citation": citation}
            yield {"type": "text_delta", "text": string_of(block.get("text"))}
        case "thinking":
            yield {"type": "thinking_delta", "thinking": string_of(block.get("thinking"))}
            if signature := string_of(block.get("signature")):
                yield {"type": "signature_delta", "signature": signature}
        case kind if kind in _USES:
            yield {"type": "input_json_delta", "partial_json": _encode(block.get("input") or {}).decode()}


# A stream as a message


class Assembly:
    """Puts a stream's events together to one message. Takes what is read of each leniently."""

    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._parts: dict[tuple[int, str], list[str]] = {}
        """By block and member: the pieces of a text that comes in many."""
        self.cut_input = False
        """A tool's input was cut short by `max_tokens`, and is empty."""

    def take(self, event: dict[str, Any]) -> None:
        """Take one event."""
        at = event.get("index")
        match event.get("type"):
            case "message_start":
                self._message = dict(object_of(event.get("message")))
            case "content_block_start" if isinstance(at, int):
                self._blocks[at] = dict(object_of(event.get("content_block")))
            case "content_block_delta" if isinstance(at, int):
                delta = object_of(event.get("delta"))
                if at not in self._blocks and (begun := _BEGUN.get(string_of(delta.get("type")))):
                    self._blocks[at] = dict(begun)  # its start is missing, its words need not be
                if at in self._blocks:
                    self._add(at, delta)
            case "message_delta":
                self._message.update(_said(event.get("delta")))
                self._message["usage"] = {**object_of(self._message.get("usage")), **_said(event.get("usage"))}

    def _add(self, at: int, delta: dict[str, Any]) -> None:
        block, kind = self._blocks[at], string_of(delta.get("type"))
        if (name := _JOINED.get(kind)) and isinstance(piece := delta.get(name), str):
            self._parts.setdefault((at, name), []).append(piece)
        if (name := _REPLACED.get(kind)) and delta.get(name) is not None:
            block[name] = delta[name]
        if kind == "citations_delta":
            given = block.get("citations")
            block["citations"] = [*(given if isinstance(given, list) else ()), delta.get("citation")]

    def message(self) -> bytes | None:
        """Return the JSON message; None where a tool's input is no JSON and was not cut short."""
        for (at, name), pieces in self._parts.items():
            whole, block = "".join(pieces), self._blocks[at]
            if name != "partial_json":
                block[name] = string_of(block.get(name)) + whole
                continue
            try:
                block["input"] = msgspec.json.decode(whole) if whole else block.get("input") or {}
            except (msgspec.MsgspecError, RecursionError, UnicodeError):
                if self._message.get("stop_reason") != "max_tokens":
                    return None
                block["input"], self.cut_input = {}, True
        self._parts.clear()
        usage = {"input_tokens": 0, "output_tokens": 0, **object_of(self._message.get("usage"))}
        content = [self._blocks[at] for at in sorted(self._blocks)]
        return _encode({"type": "message", "role": "assistant", **self._message, "content": content, "usage": usage})


def _said(value: Any) -> dict[str, Any]:
    return {key: item for key, item in object_of(value).items() if item is not None}
