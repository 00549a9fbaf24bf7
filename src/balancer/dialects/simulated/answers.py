"""Answers of the Messages API that are made here, not carried along: for simulated providers and injected faults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from balancer.wire import sse

_WORDS = re.compile(r"\s*\S+\s*")
"""A word is taken for a token: near enough for what only pretends to be a model."""

_JSON_CHARS_PER_DELTA = 12


@dataclass(frozen=True, slots=True)
class Text:
    """A block of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """A block of thinking."""

    text: str
    signature: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A block that asks the client to run a tool."""

    id: str
    name: str
    input: Any


Block: TypeAlias = Text | Thinking | ToolUse


@dataclass(frozen=True, slots=True)
class FakeMessage:
    """A whole answer, ready to be streamed or to be given at once."""

    id: str
    model: str
    blocks: tuple[Block, ...]
    stop_reason: str
    input_tokens: int
    output_tokens: int

    def message(self) -> bytes:
        """Return the answer as one JSON message."""
        return msgspec.json.encode(
            self._shell([_whole(block) for block in self.blocks], self.stop_reason, self.output_tokens)
        )

    def frames(self) -> Iterator[tuple[bytes, bool]]:
        """Yield the answer as frames of a stream; True: the frame carries a token or so."""
        yield self.start(), False
        yield event({"type": "ping"}), False
        for index, block in enumerate(self.blocks):
            yield block_start(index, block), False
            for delta in deltas(block):
                yield block_delta(index, delta), True
            yield event({"type": "content_block_stop", "index": index}), False
        yield self.delta(), False
        yield event({"type": "message_stop"}), False

    def start(self) -> bytes:
        """Return the frame that opens the stream."""
        return event({"type": "message_start", "message": self._shell([], None, 1)})

    def delta(self) -> bytes:
        """Return the frame that says why the answer ends, and its usage."""
        return event(
            {
                "type": "message_delta",
                "delta": {"stop_reason": self.stop_reason, "stop_sequence": None},
                "usage": {"output_tokens": self.output_tokens},
            }
        )

    def _shell(self, content: list[Any], stop_reason: str | None, output_tokens: int) -> dict[str, Any]:
        usage = {
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
        }
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": usage,
        }


def event(data: dict[str, Any]) -> bytes:
    """Return the frame of an event that is named by its own type."""
    return sse.frame(data["type"], msgspec.json.encode(data))


def block_start(index: int, block: Block) -> bytes:
    """Return the frame that opens a block: all of it but what its deltas will bring."""
    empty: dict[str, Any]
    match block:
        case Text():
            empty = {"type": "text", "text": ""}
        case Thinking():
            empty = {"type": "thinking", "thinking": "", "signature": ""}
        case ToolUse():
            empty = {"type": "tool_use", "id": block.id, "name": block.name, "input": {}}
    return event({"type": "content_block_start", "index": index, "content_block": empty})


def block_delta(index: int, delta: dict[str, str]) -> bytes:
    """Return the frame that adds to a block."""
    return event({"type": "content_block_delta", "index": index, "delta": delta})


def deltas(block: Block) -> Iterator[dict[str, str]]:
    """Yield what a stream adds to an empty block to make this one."""
    match block:
        case Text():
            for word in words(block.text):
                yield {"type": "text_delta", "text": word}
        case Thinking():
            for word in words(block.text):
                yield {"type": "thinking_delta", "thinking": word}
            yield {"type": "signature_delta", "signature": block.signature}
        case ToolUse():
            written = msgspec.json.encode(block.input).decode()
            for start in range(0, len(written), _JSON_CHARS_PER_DELTA):
                yield {"type": "input_json_delta", "partial_json": written[start : start + _JSON_CHARS_PER_DELTA]}


def words(text: str) -> list[str]:
    """Cut a text so that its pieces make it up again; each is about a token."""
    return _WORDS.findall(text) or ([text] if text else [])


def tokens(block: Block) -> int:
    """Return about how many tokens a block is."""
    match block:
        case ToolUse():
            return 1 + len(msgspec.json.encode(block.input)) // 4
        case _:
            return len(words(block.text))


def _whole(block: Block) -> dict[str, Any]:
    match block:
        case Text():
            return {"type": "text", "text": block.text}
        case Thinking():
            return {"type": "thinking", "thinking": block.text, "signature": block.signature}
        case ToolUse():
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": block.input}
