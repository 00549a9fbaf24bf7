"""The conversation: turns of blocks as Chat messages, with every tool call answered at once.

Chat servers insist that an assistant's tool calls are followed at once by one tool message each,
and by nothing else; the Messages API lets results stand among text, and clients lose some.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeAlias

import msgspec

from balancer import claude_code
from balancer.dialect import Incapable
from balancer.dialects.openai import carried, web_search
from balancer.dialects.openai.blocks import Block, Blocks, Part, cache_mark, content, system_text, text_of
from balancer.dialects.openai.names import Names, tool_id
from balancer.dialects.openai.profiles import Capabilities
from balancer.wire.loose import object_of

Message: TypeAlias = dict[str, Any]

UNKNOWN_THOUGHT = "."
"""In the place of thinking that is not known: servers that want some refuse an empty text."""

INTERRUPTED = "[no result: the call was interrupted]"
_BACK_WITH_CALLS = ("deepseek", "thinking")
"""In whose words of reasoning it goes back beside tool calls."""

GO_ON = "Go on."
"""Said for the user where a conversation must not end with the assistant's turn."""
BRIDGE = "I have read the results."
"""Said for the assistant where a user's message must not follow a tool's."""


class Turns:
    """Builds the list of Chat messages, turn by turn."""

    def __init__(
        self,
        can: Capabilities,
        provider: str,
        names: Names,
        dropped: Counter[str],
        *,
        items: bool,
        recall: carried.Recall | None = None,
    ) -> None:
        self.messages: list[Message] = []
        self._can = can
        self._marks = can.cache_marks == "all"
        self._back = can.reasoning_back or ("with_calls" if can.reasoning in _BACK_WITH_CALLS else "never")
        self._empty = "" if can.call_text else None
        """What an assistant turn says that only calls tools."""
        self._provider = provider
        self._items = items
        self._recall = recall
        self._phases = can.phases
        """Texts for the Responses API have phases."""
        self._names = names
        self._dropped = dropped
        self._blocks = Blocks(can, provider, dropped)
        self._pending: dict[str, None] = {}
        """Calls that wait for their results, in order."""
        self._answered: set[str] = set()

    def convert(self, messages: list[Any]) -> list[Message]:
        """Return the whole conversation. Raises `Incapable`."""
        mid_system = self._can.mid_system and self._can.system_role != "user"
        for role, blocks in merged(messages, self._dropped, mid_system=mid_system):
            match role:
                case "assistant":
                    self._interrupt()
                    self._assistant(blocks)
                case "system":
                    self._interrupt()
                    text = "\n\n".join(filter(None, map(text_of, blocks)))
                    self.messages.append({"role": self._can.system_role, "content": text})
                case _:
                    self._user(blocks)
        self._interrupt()
        if not self.messages:
            self._say([{"type": "text", "text": "."}])
        elif self.messages[-1]["role"] == "assistant" and not self._can.prefill:
            self._say([{"type": "text", "text": GO_ON}])
        for message in self.messages:  # joined once, at the end: a turn may be said in a hundred thousand parts
            said, role = message["content"], message["role"]
            if isinstance(said, list) and role in _JOINED_BY:
                message["content"] = _joined(said, _JOINED_BY[role])
        return self.messages

    def _assistant(self, blocks: list[Block]) -> None:
        texts: list[str] = []
        calls: list[dict[str, Any]] = []
        thoughts: list[Block] = []
        said: list[tuple[str, Any]] = []
        if self._recall is not None:
            blocks = carried.completed(blocks, self._recall)
        given = carried.of_turn(blocks, self._provider)
        searched = self._items and any(_is_search(payload.get("item")) for payload in given.payloads)
        for block in blocks:
            match block.get("type"):
                case "tool_use" if self._id(block, "id") in self._pending:
                    self._dropped["duplicate tool_use"] += 1
                case "tool_use":
                    calls.append(given.onto_call(str(block.get("id", "")), self._call(block)))
                    said.append(("call", calls[-1]))
                case "thinking" | "redacted_thinking":
                    thoughts.append(block)
                    if given.payloads and (own := carried.own(block, self._provider)) is not None:
                        said.append(("own", own))
                        self._phases = self._phases or "phase" in own
                case "server_tool_use" | "web_search_tool_result" if searched and web_search.is_told(block):
                    pass  # the provider's own item says it
                case _:
                    if text := self._blocks.assistant_text(block):
                        texts.append(text)
                        said.append(("text", text))
        text = "\n".join(texts)
        if not text and not calls:
            return
        message: Message = {"role": "assistant", "content": text or self._empty}
        if self._marks and text and (mark := _last_mark(blocks)):
            message["content"] = [{"type": "text", "text": text, "cache_control": mark}]
        if calls:
            message["tool_calls"] = calls
        if self._items:
            message[carried.ITEMS] = carried.items_of(said, phases=self._phases)
        else:
            given.onto(message)
            self._think(message, thoughts, given)
        self.messages.append(message)

    def _call(self, block: Block) -> dict[str, Any]:
        identifier = self._id(block, "id")
        self._pending[identifier] = None
        given = block.get("input")
        arguments = msgspec.json.encode(object_of(given)).decode()
        name = self._names.out(str(block.get("name", "")))
        return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}

    def _id(self, block: Block, key: str) -> str:
        return tool_id(str(block.get(key, "")), self._can.tool_id_max, self._can.tool_id)

    def _think(self, message: Message, thoughts: list[Block], given: carried.Given) -> None:
        """Give back the text of earlier reasoning where this very server wants it, and nowhere else."""
        back = self._back
        if back == "always" or (back == "with_calls" and "tool_calls" in message):
            message["reasoning_content"] = _thought(thoughts) or UNKNOWN_THOUGHT
        elif self._can.reasoning == "openrouter" and given.text and "reasoning_details" not in message:
            message["reasoning"] = given.text

    def _user(self, blocks: list[Block]) -> None:
        media: list[Part] = []
        rest: list[Part] = []
        before = len(self.messages)
        for block in blocks:
            if block.get("type") == "tool_result":
                self._result(block, media, rest)
            else:
                rest += self._blocks.parts(block)
        self._interrupt()
        parts = [*media, *rest]
        if parts:
            self._say(parts)
        elif len(self.messages) == before:
            self._say([{"type": "text", "text": "."}])

    def _say(self, parts: list[Part]) -> None:
        """Append a user's message, to the last one if that is the user's too: templates insist that turns alternate."""
        last = self.messages[-1] if self.messages else None
        if last is not None and last["role"] == "user":
            last["content"].extend(parts)
            return
        if last is not None and last["role"] == "tool" and self._can.after_tool != "user":
            if self._can.after_tool == "merge" and all(part["type"] == "text" for part in parts):
                _append(last, parts)
                return
            self.messages.append({"role": "assistant", "content": BRIDGE})
        self.messages.append({"role": "user", "content": parts})

    def _result(self, block: Block, media: list[Part], rest: list[Part]) -> None:
        identifier = self._id(block, "tool_use_id")
        text, seen = self._blocks.result(block)
        if identifier in self._pending:
            del self._pending[identifier]
            self._answered.add(identifier)
            media += seen
            said: str | list[Part] = text
            if self._marks and (mark := cache_mark(block)):
                said = [{"type": "text", "text": text, "cache_control": mark}]
            self.messages.append({"role": "tool", "tool_call_id": identifier, "content": said})
        elif identifier in self._answered:
            self._dropped["duplicate tool_result"] += 1
        else:
            rest.append({"type": "text", "text": f"[tool result] {text}"})
            rest += seen

    def _interrupt(self) -> None:
        """Answer every call that got no result."""
        if not self._pending:
            return
        for identifier in self._pending:
            self._answered.add(identifier)
            self.messages.append({"role": "tool", "tool_call_id": identifier, "content": INTERRUPTED})
        self._pending.clear()


def merged(messages: list[Any], dropped: Counter[str], *, mid_system: bool) -> list[tuple[str, list[Block]]]:
    """Return the turns, consecutive ones of one role as one, as the Messages API reads them.

    `role: system` stays one only for servers that take it in the middle, and then behind the tool
    results that it would part from their calls. Elsewhere it becomes a reminder in the user's turn.
    """
    roles = [_role(message, at) for at, message in enumerate(messages)]
    last_user = max((at for at, role in enumerate(roles) if role == "user"), default=-1)
    turns: list[tuple[str, list[Block]]] = []
    deferred: list[tuple[str, list[Block]]] = []
    for at, (message, role) in enumerate(zip(messages, roles, strict=True)):
        blocks = content(message.get("content"))
        if role == "system":
            if message.get("clear_at") == "next_user_message" and last_user > at:
                continue
            texts = [text for block in blocks if (text := system_text(block, dropped)).strip()]
            if not texts:
                continue
            blocks = [{"type": "text", "text": text if mid_system else claude_code.reminder(text)} for text in texts]
            if not mid_system:
                role = "user"
            elif deferred or (turns and turns[-1][0] == "assistant" and _calls(turns[-1][1])):
                deferred.append((role, blocks))
                continue
        if role == "assistant" and not any(_says(block) for block in blocks):
            continue
        if deferred and role == "assistant":
            turns += deferred
            deferred.clear()
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)  # `content` has made that list: it is not the request's own
        else:
            turns.append((role, blocks))
    return turns + deferred


def _role(message: Any, at: int) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("user", "assistant", "system"):
        raise Incapable(f"messages.{at}.role: must be 'user', 'assistant' or 'system', got {role!r}")
    return role  # type: ignore[no-any-return]


def _says(block: Block) -> bool:
    kind = block.get("type")
    return bool(text_of(block)) if kind == "text" else kind not in ("thinking", "redacted_thinking", "fallback")


def _calls(blocks: list[Block]) -> bool:
    return any(block.get("type") == "tool_use" for block in blocks)


def _is_search(item: Any) -> bool:
    return object_of(item).get("type") == "web_search_call"


def _thought(thoughts: list[Block]) -> str:
    return "\n".join(str(block["thinking"]) for block in thoughts if block.get("thinking"))


def _last_mark(blocks: list[Block]) -> dict[str, Any] | None:
    return next((mark for block in reversed(blocks) if (mark := cache_mark(block))), None)


def _append(message: Message, parts: list[Part]) -> None:
    """Append text to a tool's message."""
    said = message["content"]
    if isinstance(said, str):
        message["content"] = [{"type": "text", "text": said}, *parts]
    else:
        said.extend(parts)


_JOINED_BY = {"user": "\n", "tool": "\n\n"}
"""What stands between the parts of a message that is text alone."""


def _joined(parts: list[Part], by: str) -> str | list[Part]:
    """Return text alone as a string, which every server takes."""
    if all(part["type"] == "text" and "cache_control" not in part for part in parts):
        return by.join(part["text"] for part in parts)
    return parts
