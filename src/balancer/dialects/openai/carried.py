"""What a provider gave with an answer goes back to it as it came: how the client's history carries it.

A thinking block is signed by whoever made it, so its signature can carry what the Messages API has no field for:
signatures and encrypted reasoning, fields of a tool call, phases. Where a turn has no thinking, a `redacted_thinking`
block carries it, in front of the block that it belongs to. The name of the provider is in it: nobody else gets it.
For Claude Code nothing is put behind a text that ends an answer, because `claude -p` prints only what comes last: what
a provider says there is remembered (`Memory`).

| key of the payload | what it is | where it goes back |
|---|---|---|
| `details` | OpenRouter's `reasoning_details` | the assistant's message |
| `message` | other fields of the message that hold state of the provider | the assistant's message |
| `text_field` | the name under which the text of the reasoning came | the assistant's message, with that text |
| `calls` | fields of tool calls, by the calls' ids | the calls |
| `item` | an item of the Responses API | the input, where it stood |
| `phase` | the phase of the text that follows | the message's item |
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from balancer.wire.loose import object_of
from balancer.wire.signatures import unsigned

Fields: TypeAlias = dict[str, Any]

ITEMS = "_items"
"""Key of an assistant's Chat message that holds the items it is in the Responses API, in their order."""

REASONING_TEXTS = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
"""What servers call the text of reasoning; the first that has one is told. The first two go back only where the
profile says so: many servers refuse them, and no answer depends on them elsewhere."""

DROPPED = frozenset(
    {
        "role", "content", "refusal", "annotations", "audio", "function_call", "tool_calls", "token_ids", "name",
        "reasoning_content", "reasoning", "logprobs", "index", "type", "function", "id", "status", "arguments",
        "call_id",
    }
)  # fmt: skip
"""Fields of an answer that do not go back by this way: they are told as blocks, or belong to that answer alone.

Ids and statuses of the Responses API's items are left out, except those of reasoning: nothing is stored there."""

_STATE = re.compile(r"signature|opaque|encrypted|extra_content|provider_specific|thinking_blocks|phase")

DUMMY_SIGNATURE = "skip_thought_signature_validator"
"""What Google takes in the place of a signature, for a call that another model made."""
_UNSIGNED_MODELS = re.compile(r"gemini-[12](?:[.-]|\Z)")


def is_state(field: str) -> bool:
    """Say whether a field of a message holds state of its provider, by its name."""
    return field not in DROPPED and _STATE.search(field) is not None


def fields_of(said: Fields) -> Fields:
    """Return the fields of a message, or of a part of one, that are to go back."""
    return {key: value for key, value in said.items() if value and is_state(key)}


def call_fields(call: Fields) -> Fields:
    """Return the fields of a tool call, or of an item that is one, that are to go back."""
    kept = {key: value for key, value in call.items() if value and key not in DROPPED}
    inner = {
        key: value
        for key, value in object_of(call.get("function")).items()
        if value and key not in ("name", "arguments", "description", "parameters")
    }
    return {**kept, "function": inner} if inner else kept


def add(payload: Fields, more: Fields) -> None:
    """Add what came later to what is kept: lists grow, objects are merged, anything else is replaced."""
    for key, value in more.items():
        kept = payload.get(key)
        if isinstance(kept, list) and isinstance(value, list):
            payload[key] = joined(kept, value)
        elif isinstance(kept, dict) and isinstance(value, dict):
            payload[key] = kept = dict(kept)
            add(kept, value)
        else:
            payload[key] = value


_GROWING = ("text", "summary", "thinking")


def joined(kept: list[Any], fresh: list[Any]) -> list[Any]:
    """Return the details of some reasoning with those of a later chunk: fragments of one entry become that entry.

    Entries of one chunk are entries of their own: an answer in one piece stays as it came.
    """
    out, known = list(kept), len(kept)
    for entry in fresh:
        at = next((at for at in range(known - 1, -1, -1) if _continues(out[at], entry)), None) if known else None
        if at is None:
            out.append(entry)
            continue
        merged = {**out[at], **{key: value for key, value in entry.items() if value is not None}}
        for key in _GROWING:
            if isinstance(was := out[at].get(key), str):
                merged[key] = was + (entry.get(key) if isinstance(entry.get(key), str) else "")
        if out[at].get("signature") and not entry.get("signature"):
            merged["signature"] = out[at]["signature"]
        out[at] = merged
    return out


def _continues(entry: Any, fragment: Any) -> bool:
    """Say whether a fragment is more of an entry. What is encrypted comes whole."""
    if not isinstance(entry, dict) or not isinstance(fragment, dict):
        return False
    if entry.get("data") or fragment.get("data") or entry.get("type") != fragment.get("type"):
        return False
    if entry.get("index") != fragment.get("index"):
        return False
    if entry.get("signature") and any(fragment.get(key) for key in _GROWING):
        return False  # what is signed is whole
    one, other = entry.get("id"), fragment.get("id")
    return not one or not other or one == other


class Given(NamedTuple):
    """What one turn of the history carries for the provider that made it."""

    payloads: list[Fields]
    text: str
    """Its reasoning, as far as the provider's own blocks hold it."""
    calls: Fields
    """Fields of tool calls, by the calls' ids."""

    def onto(self, message: Fields) -> None:
        """Put what belongs to a Chat message into it."""
        details: list[Any] = []
        for payload in self.payloads:
            if isinstance(payload.get("details"), list):
                details += payload["details"]
            for key, value in object_of(payload.get("message")).items():
                kept = message.get(key)
                message[key] = [*kept, *value] if isinstance(kept, list) and isinstance(value, list) else value
            if self.text and isinstance(field := payload.get("text_field"), str) and field not in DROPPED:
                message[field] = self.text
        if details:
            message["reasoning_details"] = details

    def onto_call(self, identifier: str, call: Fields) -> Fields:
        """Return a Chat tool call with the fields that its provider gave it."""
        extras = object_of(self.calls.get(identifier))
        if not extras:
            return call
        function = {**object_of(extras.get("function")), **call["function"]}
        return {**extras, **call, "function": function}


_NOTHING = Given([], "", {})


def of_turn(blocks: Sequence[Fields], provider: str) -> Given:
    """Return what the blocks of one turn carry for `provider`."""
    payloads: list[Fields] = []
    texts: list[str] = []
    calls: Fields = {}
    for block in blocks:
        if (payload := own(block, provider)) is None:
            continue
        payloads.append(payload)
        calls.update(object_of(payload.get("calls")))
        if isinstance(text := block.get("thinking"), str) and text:
            texts.append(text)
    return Given(payloads, "\n".join(texts), calls) if payloads else _NOTHING


def own(block: Fields, provider: str) -> Fields | None:
    """Return what a thinking block of `provider` carries; None: it is none, or somebody else's."""
    if block.get("type") not in ("thinking", "redacted_thinking"):
        return None
    payload = unsigned(block.get("signature") or block.get("data"))
    return payload if payload is not None and payload.get("provider") == provider else None


REMEMBERED = 256
"""So many answers are remembered; those before them are forgotten."""

REMEMBERED_MAX_CHARS = 65_536
"""A longer state is not remembered."""


class Memory:
    """What one provider gave behind the text that ended an answer, by conversation and text. In memory only."""

    def __init__(self) -> None:
        self._kept: dict[bytes, str] = {}

    def keep(self, conversation: str, text: str, data: str) -> None:
        """Remember `data`, a signature of ours, for the answer in `conversation` that ended with `text`."""
        if len(data) > REMEMBERED_MAX_CHARS:
            return
        key = _key(conversation, text)
        self._kept.pop(key, None)
        self._kept[key] = data
        while len(self._kept) > REMEMBERED:
            del self._kept[next(iter(self._kept))]

    def of(self, conversation: str | None) -> Recall | None:
        """Return what fills in the turns of `conversation`; None: nothing of it is remembered."""
        if not conversation or not self._kept:
            return None
        return lambda text: self._kept.get(_key(conversation, text))


Recall: TypeAlias = Callable[[str], str | None]
"""Returns what is remembered of the answer that ended with a text."""


def completed(blocks: list[Fields], recall: Recall) -> list[Fields]:
    """Return the blocks of a turn with what is remembered of its end."""
    text = blocks[-1].get("text") if blocks else None
    data = recall(text) if isinstance(text, str) else None
    return [*blocks, {"type": "redacted_thinking", "data": data}] if data else blocks


def _key(conversation: str, text: str) -> bytes:
    return hashlib.sha256(f"{conversation}:{text.strip()}".encode("utf-8", "replace")).digest()


# The Responses API


def items_of(said: Sequence[tuple[str, Any]], *, phases: bool) -> list[Fields]:
    """Return a turn as items of the Responses API.

    `said` are its parts: texts, Chat tool calls, and payloads of this provider (`own`). With one of those everything
    stays where it stood; without, the text comes before the calls. With `phases`, a text whose phase nobody kept gets
    one by rule: the last text is the final answer unless a call follows, all others are commentary.
    """
    if not any(kind == "own" for kind, _ in said):
        said = sorted(said, key=lambda part: part[0] == "call")
    items: list[Fields] = []
    phase = None
    for kind, value in said:
        if kind == "own":
            if isinstance(value.get("item"), dict):
                items.append(value["item"])
            phase = value.get("phase") or phase
        elif kind == "call":
            items.append(_call(value))
        elif items and items[-1].get("role") == "assistant" and phase is None:
            items[-1]["content"] += "\n" + value
        else:
            items.append({"type": "message", "role": "assistant", "content": value})
            if isinstance(phase, str):
                items[-1]["phase"] = phase
            phase = None
    if phases:
        _by_rule(items)
    return items


def _by_rule(items: list[Fields]) -> None:
    phase = "final_answer"
    for item in reversed(items):
        if item.get("role") == "assistant":
            item.setdefault("phase", phase)
            phase = "commentary"
        elif item.get("type") == "function_call":
            phase = "commentary"


def _call(call: Fields) -> Fields:
    extras = {key: value for key, value in call.items() if key not in ("id", "type", "function")}
    return {"type": "function_call", "call_id": call["id"], **call["function"], **extras}


# Gemini


def sign_calls(messages: Sequence[Fields], model: str) -> None:
    """Give the first call of every turn that has no thought signature the one that Google takes for foreign calls.

    Gemini 3 and later refuse a history without signatures; the models before know none.
    """
    if _UNSIGNED_MODELS.search(model):
        return
    for message in messages:
        if calls := message.get("tool_calls"):
            google = object_of(object_of(calls[0].get("extra_content")).get("google"))
            if not google.get("thought_signature"):
                signed = {**google, "thought_signature": DUMMY_SIGNATURE}
                calls[0]["extra_content"] = {**object_of(calls[0].get("extra_content")), "google": signed}
