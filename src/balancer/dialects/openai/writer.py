"""An answer as the client gets it: the frames of a stream, or one JSON message."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import msgspec

from balancer.dialects.openai.arguments import arguments
from balancer.model import Reply, Usage
from balancer.wire import sse
from balancer.wire.errors import CONTENT_TYPE_JSON
from balancer.wire.stream import PING

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Shell:
    """What is known of an answer before it is there."""

    model: str
    """As the client asked for it: clients act on the name."""
    attempt_id: str
    """Ids are made of it."""
    input_tokens: int
    """An estimate, until the provider has counted."""

    def identifier(self, prefix: str, what: object = "") -> str:
        """Return an id of this answer's own."""
        return prefix + hashlib.sha256(f"{self.attempt_id}:{what}".encode()).hexdigest()[:24]

    def message(self) -> dict[str, Any]:
        """Return the message as it begins."""
        usage = {
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 1,
        }
        return {
            "id": self.identifier("msg_"),
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended."""

    stop_reason: str
    stop_sequence: str | None
    usage: Usage
    thinking_tokens: int = 0
    searches: int = 0

    def delta(self) -> dict[str, Any]:
        """Return what the end adds to a message."""
        said: dict[str, Any] = {"stop_reason": self.stop_reason, "stop_sequence": self.stop_sequence}
        if self.stop_reason == "refusal":
            said["stop_details"] = {"type": "refusal", "category": None, "explanation": None}
        return said

    def tokens(self) -> dict[str, Any]:
        """Return the usage in the Messages API's words."""
        usage = self.usage
        counted: dict[str, Any] = {
            "input_tokens": usage.input_tokens or 0,
            "cache_creation_input_tokens": usage.cache_creation_tokens or 0,
            "cache_read_input_tokens": usage.cache_read_tokens or 0,
            "output_tokens": usage.output_tokens or 0,
        }
        if self.thinking_tokens:
            counted["output_tokens_details"] = {"thinking_tokens": self.thinking_tokens}
        if self.searches:
            counted["server_tool_use"] = {"web_search_requests": self.searches, "web_fetch_requests": 0}
        return counted


class Writer(Protocol):
    """Takes an answer block by block. Whoever calls it keeps the order of the Messages API."""

    CONTENT_TYPE: ClassVar[tuple[bytes, bytes]]

    def __init__(self, shell: Shell) -> None: ...
    def start(self) -> None: ...
    def open(self, block: dict[str, Any]) -> None: ...
    def add(self, delta: str, key: str, value: str) -> None: ...
    def cite(self, citation: dict[str, Any]) -> None: ...
    def close(self) -> None: ...
    def finish(self, ending: Ending) -> None: ...

    def taken(self) -> tuple[bytes, bool]:
        """Return what is ready for the client since the last time, and whether it has substance."""
        ...


class FrameWriter:
    """Writes a stream."""

    CONTENT_TYPE: ClassVar = (b"content-type", b"text/event-stream; charset=utf-8")

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._out: list[bytes] = []
        self._index = -1
        self._substance = False

    def _event(self, name: str, data: dict[str, Any]) -> None:
        self._out.append(sse.frame(name, _encode({"type": name, **data})))

    def start(self) -> None:
        self._event("message_start", {"message": self._shell.message()})
        self._out.append(PING)  # as Anthropic does

    def open(self, block: dict[str, Any]) -> None:
        self._index += 1
        self._event("content_block_start", {"index": self._index, "content_block": block})

    def add(self, delta: str, key: str, value: str) -> None:
        self._substance = True
        self._out.append(
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"%b","%b":%b}}\n\n' % (self._index, delta.encode(), key.encode(), _encode(value))
        )

    def cite(self, citation: dict[str, Any]) -> None:
        delta = {"type": "citations_delta", "citation": citation}
        self._event("content_block_delta", {"index": self._index, "delta": delta})

    def close(self) -> None:
        self._event("content_block_stop", {"index": self._index})

    def finish(self, ending: Ending) -> None:
        self._substance = True
        self._event("message_delta", {"delta": ending.delta(), "usage": ending.tokens()})
        self._event("message_stop", {})

    def taken(self) -> tuple[bytes, bool]:
        data = b"".join(self._out)
        self._out.clear()
        return data, self._substance


class MessageWriter:
    """Writes one JSON message."""

    CONTENT_TYPE: ClassVar = CONTENT_TYPE_JSON

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._blocks: list[dict[str, Any]] = []
        self._parts: dict[str, list[str]] = {}
        self._done = b""

    def start(self) -> None:
        return

    def open(self, block: dict[str, Any]) -> None:
        self._close()
        self._blocks.append(block)

    def add(self, delta: str, key: str, value: str) -> None:
        self._parts.setdefault(key, []).append(value)

    def cite(self, citation: dict[str, Any]) -> None:
        self._blocks[-1].setdefault("citations", []).append(citation)

    def close(self) -> None:
        self._close()

    def _close(self) -> None:
        for key, parts in self._parts.items():
            written = "".join(parts)
            if key == "partial_json":
                self._blocks[-1]["input"] = arguments(written)
            else:
                self._blocks[-1][key] = written
        self._parts.clear()

    def finish(self, ending: Ending) -> None:
        self._close()
        message = {**self._shell.message(), "content": self._blocks, **ending.delta(), "usage": ending.tokens()}
        self._done = _encode(message)

    def taken(self) -> tuple[bytes, bool]:
        return self._done, bool(self._done)


def told_whole(writer: type[Writer], shell: Shell, ending: Ending) -> Reply:
    """Return an answer that has nothing but an end."""
    to = writer(shell)
    to.start()
    to.finish(ending)
    return Reply(200, (writer.CONTENT_TYPE,), to.taken()[0])
