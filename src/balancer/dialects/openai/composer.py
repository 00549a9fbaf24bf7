"""The state machine between two ways to stream: loose fragments in, ordered blocks out.

OpenAI-compatible servers interleave tool calls, repeat ids, mix kinds in one chunk; the Messages
API has one open block at a time. Blocks open with their first payload, never before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from balancer.dialects.openai.names import plain_id
from balancer.dialects.openai.writer import Ending, Shell, Writer, arguments
from balancer.model import Usage
from balancer.wire import signatures

CHARS_PER_TOKEN = 4
"""A rough rule, for servers that report no usage."""


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    parts: list[str] = field(default_factory=list)
    sent: int = 0
    """How many parts the client has."""
    begun: bool = False

    @property
    def written(self) -> str:
        return "".join(self.parts)

    @property
    def whole(self) -> bool:
        """The arguments are one JSON value."""
        if not self.parts or not self.parts[-1].rstrip().endswith("}"):
            return False
        try:
            msgspec.json.decode(self.written)
        except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
            return False
        return True


class Composer:
    """Puts an answer together for a writer."""

    def __init__(self, shell: Shell, writer: Writer, provider: str, names: dict[str, str]) -> None:
        self.started = False
        self.ended = False
        self._shell = shell
        self._writer = writer
        self._provider = provider
        self._names = names
        self._open = ""
        self._payload: dict[str, Any] = {}
        self._calls: list[_Call] = []
        self._by_key: dict[object, _Call] = {}
        self._latest: _Call | None = None
        self._made = 0
        self._queued: list[tuple[str, str]] = []
        self._refused = False
        self._chars = 0
        self._ids: set[str] = set()

    def begin(self) -> None:
        """The answer has begun, if it had not."""
        if not self.started:
            self.started = True
            self._writer.start()

    def text(self, text: str) -> None:
        self._put("text", text)

    def refusal(self, text: str) -> None:
        """A refusal is text that says why, and an end of its own kind."""
        if text:
            self._refused = True
            self._put("text", text)

    def thinking(self, text: str) -> None:
        self._put("thinking", text)

    def signed(self, payload: dict[str, Any]) -> None:
        """Keep what the provider wants to see again with the thinking that is open."""
        for key, value in payload.items():
            kept = self._payload.get(key)
            self._payload[key] = kept + value if isinstance(kept, list) and isinstance(value, list) else value

    def sealed(self, payload: dict[str, Any]) -> None:
        """An item of reasoning has ended: so does the thinking that is open, signed with `payload`."""
        if self._open == "thinking":
            self._payload.update(payload)
            self._close()
        elif payload:
            self._put("redacted_thinking", self._signature(payload))

    def _put(self, kind: str, text: str) -> None:
        if not text:
            return
        self.begin()
        if self._calls:
            if not all(call.name and call.whole for call in self._calls):
                self._queued.append((kind, text))
                return
            self._flush()
        self._write(kind, text)

    def _write(self, kind: str, text: str) -> None:
        if self._open != kind:
            self._close()
            if kind != "thinking":
                self._settle()
            if kind == "redacted_thinking":
                self._redact(text)
                return
            self._open = kind
            if kind == "thinking":
                self._writer.open({"type": "thinking", "thinking": "", "signature": ""})
            else:
                self._writer.open({"type": "text", "text": ""})
        self._chars += len(text)
        self._writer.add(f"{kind}_delta", kind, text)

    def _close(self) -> None:
        if self._open == "thinking":
            payload, self._payload = self._payload, {}
            self._writer.add("signature_delta", "signature", self._signature(payload))
        if self._open:
            self._writer.close()
        self._open = ""

    def _settle(self) -> None:
        """Keep reasoning that came without a text: nobody may read it, but the provider wants to see it again."""
        if self._payload:
            payload, self._payload = self._payload, {}
            self._redact(self._signature(payload))

    def _redact(self, data: str) -> None:
        self._writer.open({"type": "redacted_thinking", "data": data})
        self._writer.close()

    def _signature(self, payload: dict[str, Any]) -> str:
        return signatures.signed({"provider": self._provider, **payload})

    # Tool calls

    def tool(self, key: object, identifier: Any, name: Any, args: Any) -> None:
        """Take a fragment of a tool call. `key` tells calls apart; None: by id, else the latest one."""
        self.begin()
        identifier = identifier if isinstance(identifier, str) else ""
        name = name if isinstance(name, str) else ""
        if args is not None and not isinstance(args, str):
            args = msgspec.json.encode(args).decode()
        call = self._call(key, identifier, name, args or "")
        call.id = call.id or identifier
        call.name = call.name or name
        if args:
            call.parts.append(args)
            self._chars += len(args)
        self._advance()

    def _call(self, key: object, identifier: str, name: str, args: str) -> _Call:
        key = key if key is not None else identifier or None
        call = self._latest if key is None else self._by_key.get(key)
        if call is None or _another(call, identifier, name, args):
            call = _Call()
            self._calls.append(call)
        self._latest = call
        if key is not None:
            self._by_key[key] = call
        return call

    def _advance(self) -> None:
        """Send what can be sent of the first call; go on to the next one when it is whole."""
        while self._calls:
            head = self._calls[0]
            if not head.name or not (head.id or head.begun):
                return
            self._begin_call(head)
            self._send(head)
            if len(self._calls) == 1 or not head.whole:
                return
            self._calls.pop(0)
            self._close()

    def _begin_call(self, call: _Call) -> None:
        if call.begun:
            return
        call.begun = True
        self._close()
        self._settle()
        self._chars += len(call.name)
        self._open = "tool_use"
        self._made += 1
        name = self._names.get(call.name, call.name)
        self._writer.open({"type": "tool_use", "id": self._unique(call.id), "name": name, "input": {}})

    def _unique(self, identifier: str) -> str:
        identifier = plain_id(identifier)
        if not identifier or identifier in self._ids:
            identifier = self._shell.identifier("toolu_", self._made)
        self._ids.add(identifier)
        return identifier

    def _send(self, call: _Call) -> None:
        """Send arguments, once it is sure that they are an object."""
        if call.sent == len(call.parts) or not (call.sent or call.written.lstrip().startswith("{")):
            return
        fresh = "".join(call.parts[call.sent :])
        call.sent = len(call.parts)
        self._writer.add("input_json_delta", "partial_json", fresh)

    def _flush(self, *, cut: bool = False) -> bool:
        """Send all calls; with `cut` the last one stays open if its arguments are not whole. Say whether it does."""
        while self._calls:
            call = self._calls.pop(0)
            if not call.name:  # nothing that a client could run
                continue
            self._begin_call(call)
            self._send(call)
            if not call.sent and (value := arguments(call.written)):
                self._writer.add("input_json_delta", "partial_json", msgspec.json.encode(value).decode())
            if cut and not self._calls and not self._queued and not call.whole:
                self._open = ""
                return True
            self._close()
        for kind, text in self._queued:
            self._write(kind, text)
        self._queued.clear()
        return False

    # The end

    def end(self, finish: Any, stop_sequence: Any, usage: tuple[Usage, int] | None) -> None:
        """End the answer. `finish` is the provider's finish reason, in Chat's words."""
        self.begin()
        if not self._flush(cut=finish == "length"):
            self._close()
            self._settle()
        sequence = stop_sequence if isinstance(stop_sequence, str) else None
        reason = self._reason(finish, sequence)
        reported, thinking_tokens = usage or (None, 0)
        counted = self._estimated().merged(reported)
        self._writer.finish(Ending(reason, sequence if reason == "stop_sequence" else None, counted, thinking_tokens))
        self.ended = True

    def _reason(self, finish: Any, stop_sequence: str | None) -> str:
        if self._refused or finish == "content_filter":
            return "refusal"
        if finish == "length":
            return "max_tokens"
        if self._made:
            return "tool_use"
        return "stop_sequence" if stop_sequence else "end_turn"

    def _estimated(self) -> Usage:
        return Usage(self._shell.input_tokens, -(-self._chars // CHARS_PER_TOKEN))


def _another(call: _Call, identifier: str, name: str, args: str) -> bool:
    """Say whether a fragment begins another call under a key that is in use.

    Some servers give every call the index 0; some repeat id and name with every fragment.
    """
    if not name or not call.name:
        return False
    if identifier and call.id:
        return identifier != call.id
    return name != call.name or (bool(args) and call.whole)
