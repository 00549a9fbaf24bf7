"""The state machine between two ways to stream: loose fragments in, ordered blocks out.

OpenAI-compatible servers interleave tool calls, repeat ids, mix kinds in one chunk; the Messages
API has one open block at a time. Blocks open with their first payload, never before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from balancer.dialects.openai import carried
from balancer.dialects.openai.arguments import Unusable
from balancer.dialects.openai.calls import Call, Calls
from balancer.dialects.openai.finish import Meaning
from balancer.dialects.openai.names import plain_id
from balancer.dialects.openai.writer import Ending, Shell, Writer, told_whole
from balancer.model import Fault, Usage
from balancer.wire import signatures
from balancer.wire.errors import broken

CHARS_PER_TOKEN = 4
"""A rough rule, for servers that report no usage."""


_CUT = ("length", "window", "content_filter")
"""After these a call whose arguments are not whole is one that was cut short."""


class Composer:
    """Puts an answer together for a writer. Raises `Unusable` where what came can't be made an answer of."""

    def __init__(
        self,
        shell: Shell,
        writer: Writer,
        provider: str,
        names: dict[str, str],
        keep: Callable[[str, str], None] | None = None,
    ) -> None:
        """`keep` remembers what comes behind the text that ends an answer. None: the client gets it as a last block."""
        self.started = False
        self.ended = False
        self._shell = shell
        self._writer = writer
        self._provider = provider
        self._names = names
        self._keep_behind = keep
        self._text: list[str] = []
        """The text of the block that is open, or was last."""
        self._open = ""
        self._payload: dict[str, Any] = {}
        self._sealed = False
        """The thinking that is open has ended: nothing is added to it but what its provider wants to see again."""
        self.calls = Calls()
        self._pending: list[Call] = []
        """Calls of which the client has not got all, in order."""
        self._made = 0
        self.said = False
        """There is a block."""
        self._queued: list[tuple[str, str]] = []
        self._refused = False
        self.searches = 0
        """How often the provider has searched, as far as it was told."""
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

    def search(self, told: str) -> None:
        """A web search of the provider's has ended. `told` is its input and its results, as JSON."""
        self._put("search", told)

    @property
    def said_text(self) -> str:
        """The text of the block that is open, or was last."""
        return "".join(self._text)

    def cite(self, citation: dict[str, Any]) -> None:
        """Say what the text that is open rests on; where none is open, nothing is said."""
        if self._open == "text":
            self._writer.cite(citation)

    def signed(self, payload: dict[str, Any]) -> None:
        """Keep what the provider wants to see again with the thinking that is open."""
        carried.add(self._payload, payload)

    def sealed(self, payload: dict[str, Any]) -> None:
        """An item of reasoning has ended: so does the thinking that is open, signed with `payload`."""
        if self._open == "thinking" and not self._sealed:
            self._payload.update(payload)
            self._sealed = True
        elif self._open == "text" and not self._payload:
            self._payload.update(payload)  # it may be the end: nothing stands behind a last text
        elif payload:
            self._put("redacted_thinking", self._signature(payload))

    def part(self, payload: dict[str, Any]) -> None:
        """Another part of the text begins; `payload` is kept in front of it."""
        if self._open == "text":
            self._close()
        self._payload.update(payload)

    def _put(self, kind: str, text: str) -> None:
        if not text:
            return
        if not self.started:
            self.begin()
        if self._pending:
            if not all(call.name and call.args.whole and not call.args.may_be_said_again for call in self._pending):
                self._queued.append((kind, text))
                return
            self._flush()
        self._write(kind, text)

    def _write(self, kind: str, text: str) -> None:
        if self._open != kind or self._sealed:
            self._close()
            if kind != "thinking" or "item" in self._payload:
                self._settle()
            if kind == "redacted_thinking":
                self._redact(text)
                return
            if kind == "search":
                self._searched(text)
                return
            self._open = kind
            self.said = True
            if kind == "thinking":
                self._writer.open({"type": "thinking", "thinking": "", "signature": ""})
            else:
                self._text.clear()
                self._writer.open({"type": "text", "text": ""})
        self._chars += len(text)
        if kind == "text":
            self._text.append(text)
            self._writer.add("text_delta", "text", text)
        else:
            self._writer.add("thinking_delta", "thinking", text)

    def _close(self) -> None:
        if self._open == "thinking":
            payload, self._payload, self._sealed = self._payload, {}, False
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
        self.said = True
        self._writer.open({"type": "redacted_thinking", "data": data})
        self._writer.close()

    def _searched(self, told: str) -> None:
        self.searches += 1
        self.said = True
        identifier = self._shell.identifier("srvtoolu_ccb", f"search {self.searches}")
        asked, found = msgspec.json.decode(told)
        self._writer.open({"type": "server_tool_use", "id": identifier, "name": "web_search", "input": {}})
        self._arguments(msgspec.json.encode(asked).decode())
        self._writer.close()
        self._writer.open({"type": "web_search_tool_result", "tool_use_id": identifier, "content": found})
        self._writer.close()

    def _signature(self, payload: dict[str, Any]) -> str:
        return signatures.signed({"provider": self._provider, **payload})

    # Tool calls

    def tool(self, key: object, identifier: Any, name: Any, args: Any, extras: dict[str, Any] | None = None) -> None:
        """Take a fragment of a tool call. `key` tells calls apart; None: by id, else the latest one.

        `extras` is what else its provider says of it, and wants to see again.
        """
        self.begin()
        if args is not None and not isinstance(args, str):
            args = msgspec.json.encode(args).decode()
        known = len(self.calls.all)
        identifier = identifier if isinstance(identifier, str) else ""
        call = self.calls.take(key, identifier, name if isinstance(name, str) else "", args or "")
        if len(self.calls.all) > known:
            self._pending.append(call)
        if extras:
            carried.add(call.extras, extras)
            if call.begun:
                self._keep(call)
        if args:
            call.args.add(args)
            self._chars += len(args)
        if not call.closed:
            self._advance()

    @property
    def in_arguments(self) -> bool:
        """The arguments of a call have begun, and are not whole."""
        return any(call.args.open for call in self._pending)

    @property
    def waits(self) -> bool:
        """There is a call whose arguments may still come, or come once more."""
        return any(not call.args.whole or call.args.may_be_said_again for call in self._pending)

    def _keep(self, call: Call) -> None:
        """Keep what the provider said of a call for the block that is signed next."""
        carried.add(self._payload, {"calls": {call.block_id: call.extras}})

    def _advance(self) -> None:
        """Send what can be sent of the first call; go on to the next one when it is whole."""
        while self._pending:
            head = self._pending[0]
            if not head.name or not (head.id or head.begun):
                return
            if not head.begun:
                self._begin_call(head)
            self._arguments(head.args.ready())
            if len(self._pending) == 1 or not head.args.whole:
                return
            self._pending.pop(0)
            self._close_call(head)

    def _begin_call(self, call: Call) -> None:
        call.begun = True
        call.block_id = self._unique(call.id)
        if call.extras:
            self._keep(call)
        self._close()
        self._settle()
        self._chars += len(call.name)
        self._open = "tool_use"
        self._made += 1
        self.said = True
        name = self._names.get(call.name, call.name)
        self._writer.open({"type": "tool_use", "id": call.block_id, "name": name, "input": {}})

    def _close_call(self, call: Call) -> None:
        call.closed = True
        self._arguments(call.args.rest())
        self._close()

    def _arguments(self, fresh: str) -> None:
        if fresh:
            self._writer.add("input_json_delta", "partial_json", fresh)

    def _unique(self, identifier: str) -> str:
        identifier = plain_id(identifier)
        if not identifier or identifier in self._ids:
            identifier = self._shell.identifier("toolu_", self._made + 1)
        self._ids.add(identifier)
        return identifier

    def _flush(self, *, cut: bool = False) -> bool:
        """Send all calls; with `cut` one whose arguments are not whole stays open. Say whether one does."""
        while self._pending:
            call = self._pending.pop(0)
            if not call.name:
                if call.args.written.strip() and not cut:
                    raise Unusable(broken("a tool call without a name"))
                continue  # nothing that a client could run
            if not call.begun:
                self._begin_call(call)
            last = not self._pending and not self._queued
            if cut and not call.args.whole and (last or call.args.open):
                self._arguments(call.args.cut())
                self._open = ""
                self._pending.clear()
                return True
            self._close_call(call)
        for kind, text in self._queued:
            self._write(kind, text)
        self._queued.clear()
        return False

    # The end

    def end(self, finish: Meaning | None, stop_sequence: str | None, usage: tuple[Usage, int] | None) -> None:
        """End the answer. `finish` is why the provider ended it; None: it did not say."""
        self.begin()
        if not self._flush(cut=finish in _CUT):
            behind = self._open == "text"
            self._close()
            self._payload.pop("phase", None)  # of a text that did not come
            if behind and self._payload and self._keep_behind is not None:
                self._keep_behind("".join(self._text), self._signature(self._payload))
            else:
                self._settle()
        for call in self.calls.all:
            call.args.check()
        reason = self._reason(finish, stop_sequence)
        reported, thinking_tokens = usage or (None, 0)
        counted = Usage(self._shell.input_tokens, -(-self._chars // CHARS_PER_TOKEN)).merged(reported)
        sequence = stop_sequence if reason == "stop_sequence" else None
        ending = Ending(reason, sequence, counted, thinking_tokens, self.searches)
        if not self.said and reason == "end_turn":
            raise Unusable(_nothing_said(self._shell, type(self._writer), ending))
        self._writer.finish(ending)
        self.ended = True

    def _reason(self, finish: Meaning | None, stop_sequence: str | None) -> str:
        if self._refused or finish == "content_filter":
            return "refusal"
        if finish in _STOP_REASONS:
            return _STOP_REASONS[finish]
        if self._made:
            return "tool_use"
        return "stop_sequence" if stop_sequence else "end_turn"


_STOP_REASONS: dict[Meaning | None, str] = {
    "length": "max_tokens",
    "window": "model_context_window_exceeded",
    "pause_turn": "pause_turn",
}


def _nothing_said(shell: Shell, writer: type[Writer], ending: Ending) -> Fault:
    """Return the fault of an answer without a block: another provider may have one; if none has, the client gets it."""
    reply = told_whole(writer, shell, ending)
    message = "an answer with nothing in it"
    return Fault(200, "api_error", message, reply=reply, elsewhere=True)
