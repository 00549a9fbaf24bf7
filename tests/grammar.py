"""The grammar of a Messages API stream, as strict as Claude Code is, or stricter."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
_DELTAS = {
    "text": {"text_delta": "text"},
    "thinking": {"thinking_delta": "thinking", "signature_delta": "signature"},
    "tool_use": {"input_json_delta": "partial_json"},
    "server_tool_use": {"input_json_delta": "partial_json"},
    "web_search_tool_result": {},
    "redacted_thinking": {},
}


@dataclass
class Read:
    """What a client has read of a stream."""

    message: dict[str, Any] = field(default_factory=dict)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    open: int | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    ended: bool = False

    def text(self, kind: str = "text") -> str:
        return "".join(block[kind] for block in self.blocks if block["type"] == kind)

    @property
    def calls(self) -> list[tuple[str, str]]:
        return [(block["name"], block["partial_json"]) for block in self.blocks if block["type"] == "tool_use"]

    @property
    def kinds(self) -> list[str]:
        return [block["type"] for block in self.blocks]


def frames(stream: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Cut a stream into (event, data)."""
    assert not stream or stream.endswith(b"\n\n")
    found = []
    for frame in stream.decode().split("\n\n")[:-1]:
        event, data = frame.split("\n")
        assert event.startswith("event: ")
        assert data.startswith("data: ")
        found.append((event[7:], json.loads(data[6:])))
    return found


def read(stream: bytes, *, whole: bool = True) -> Read:
    """Read a stream; raise `AssertionError` at the first breach. `whole`: it must have ended."""
    seen = Read()
    for event, data in frames(stream):
        assert event == data["type"], "an event is named by its type"
        assert not seen.ended, "nothing comes after message_stop"
        if event != "ping":
            _EVENT.validate_python(data)
        _STEPS[event](seen, data)
    assert seen.ended or not whole, "no message_stop"
    return seen


def _start(seen: Read, data: dict[str, Any]) -> None:
    assert not seen.message, "one message_start"
    seen.message = data["message"]
    assert seen.message["content"] == []
    assert seen.message["stop_reason"] is None
    assert isinstance(seen.message["usage"]["input_tokens"], int)


def _open(seen: Read, data: dict[str, Any]) -> None:
    assert seen.message
    assert seen.stop_reason is None
    assert seen.open is None, "one open block at a time"
    assert data["index"] == len(seen.blocks), "indexes are contiguous"
    block = dict(data["content_block"])
    for key in _DELTAS[block["type"]].values():
        assert not block.get(key), "payload travels in deltas"
        block[key] = ""
    if block["type"] == "tool_use":
        assert block["input"] == {}
        assert block["id"]
        assert block["name"]
        assert block["id"] not in [other.get("id") for other in seen.blocks]
    seen.blocks.append(block)
    seen.open = data["index"]


def _delta(seen: Read, data: dict[str, Any]) -> None:
    assert data["index"] == seen.open is not None
    block = seen.blocks[-1]
    if data["delta"]["type"] == "citations_delta":
        assert block["type"] == "text", "only text cites"
        return
    key = _DELTAS[block["type"]][data["delta"]["type"]]
    assert isinstance(data["delta"][key], str)
    assert key == "signature" or not block.get("signature"), "the signature comes last"
    block[key] += data["delta"][key]


def _close(seen: Read, data: dict[str, Any]) -> None:
    assert data["index"] == seen.open is not None
    block = seen.blocks[-1]
    assert block["type"] != "thinking" or block["signature"], "thinking is signed"
    assert block["type"] != "text" or block["text"], "no empty text"
    if block["type"] == "tool_use" and block["partial_json"]:
        block["input"] = _parsed(block["partial_json"])
    seen.open = None


def _parsed(written: str) -> Any:
    try:
        return json.loads(written)
    except ValueError:
        return None


def _end(seen: Read, data: dict[str, Any]) -> None:
    assert seen.message
    assert seen.stop_reason is None
    seen.stop_reason = data["delta"]["stop_reason"]
    seen.stop_sequence = data["delta"]["stop_sequence"]
    assert isinstance(seen.stop_reason, str)
    cut = seen.open is not None and seen.blocks[-1]["type"] == "tool_use" and seen.stop_reason == "max_tokens"
    assert seen.open is None or cut, "only a tool call that the limit cut stays open"
    seen.usage = data["usage"]
    for key in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
        assert isinstance(seen.usage[key], int)


def _stop(seen: Read, data: dict[str, Any]) -> None:
    assert seen.stop_reason
    assert (seen.stop_reason == "tool_use") <= ("tool_use" in seen.kinds)
    seen.ended = True


_STEPS: dict[str, Callable[[Read, dict[str, Any]], None]] = {
    "message_start": _start,
    "content_block_start": _open,
    "content_block_delta": _delta,
    "content_block_stop": _close,
    "message_delta": _end,
    "message_stop": _stop,
    "ping": lambda seen, data: None,
}
