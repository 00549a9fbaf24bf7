"""The Responses API: the Chat request in its words, and its answers."""

from __future__ import annotations

from typing import Any

import msgspec

from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.decoder import not_an_answer
from balancer.dialects.openai.turns import REASONING_ITEMS
from balancer.model import Fault, Usage
from balancer.wire.chat import usage_of
from balancer.wire.complaints import stream_fault
from balancer.wire.errors import broken
from balancer.wire.loose import loosely_decoded, object_of, objects_of, string_of

MIN_OUTPUT_TOKENS = 16
"""The API takes no smaller `max_output_tokens`."""

_SAME = (
    "model", "stream", "temperature", "top_p", "parallel_tool_calls", "service_tier", "safety_identifier",
    "prompt_cache_key",
)  # fmt: skip


def from_chat(chat: dict[str, Any]) -> dict[str, Any]:
    """Return a Chat request (of `request.chat`) as a Responses request."""
    body = {key: chat[key] for key in _SAME if key in chat}
    messages = list(chat["messages"])
    if messages and messages[0]["role"] in ("system", "developer"):
        body["instructions"] = messages.pop(0)["content"]
    body["input"] = [item for message in messages for item in _items(message)]
    if "tools" in chat:
        body["tools"] = [_tool(tool["function"]) for tool in chat["tools"]]
    choice = chat.get("tool_choice")
    if choice is not None:
        named = isinstance(choice, dict)
        body["tool_choice"] = {"type": "function", "name": choice["function"]["name"]} if named else choice
    limit = chat.get("max_tokens", chat.get("max_completion_tokens"))
    if limit is not None:
        body["max_output_tokens"] = max(MIN_OUTPUT_TOKENS, limit) if limit else limit
    if effort := chat.get("reasoning_effort"):
        body["reasoning"] = {"effort": effort, "summary": "auto"}
    if shape := chat.get("response_format"):
        body["text"] = {"format": {"type": shape["type"], **shape.get("json_schema", {})}}
    return {**body, "store": False, "include": ["reasoning.encrypted_content"]}


def _items(message: dict[str, Any]) -> list[dict[str, Any]]:
    role = message["role"]
    if role == "tool":
        return [{"type": "function_call_output", "call_id": message["tool_call_id"], "output": message["content"]}]
    items: list[dict[str, Any]] = list(message.get(REASONING_ITEMS, ()))
    content = message["content"]
    if role != "assistant":
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        items.append({"type": "message", "role": role, "content": [_part(part) for part in parts]})
    elif content:
        items.append({"type": "message", "role": "assistant", "content": content})
    calls = message.get("tool_calls", ())
    return items + [{"type": "function_call", "call_id": call["id"], **call["function"]} for call in calls]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    match part["type"]:
        case "image_url":
            return {"type": "input_image", "detail": "auto", "image_url": part["image_url"]["url"]}
        case "file":
            return {"type": "input_file", **part["file"]}
        case _:
            return {"type": "input_text", "text": part["text"]}


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "strict": False, **function}


class Event(msgspec.Struct):
    """What we read of an event, or of an item."""

    type: Any = ""
    delta: Any = None
    arguments: Any = None
    output_index: Any = None
    summary_index: Any = None
    content_index: Any = None
    item: Any = None
    response: Any = None
    error: Any = None
    message: Any = None
    code: Any = None


_EVENT = msgspec.json.Decoder(Event)


_FINISHES = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""Why a response is incomplete, in Chat's words."""


class ResponsesReader:
    """Reads the events of a response, or a whole one, into a composer."""

    ending = False
    """A terminal event ends a response, nothing else."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._usage: tuple[Usage, int] | None = None
        self._written: set[object] = set()
        """Items, by their index, that came as deltas or as a whole."""
        self._thought: object = None
        """The part of the reasoning that came last; None: the item has none yet."""
        self._words = False

    def usage(self) -> Usage | None:
        return self._usage[0] if self._usage else None

    def event(self, data: bytes) -> Fault | None:
        event = _event(data)
        if event is None:
            self._words = self._words or bool(data.strip())
            return None
        if not isinstance(event.output_index, int | str):
            event.output_index = None
        return self._take(event)

    def end(self) -> Fault | None:
        if self._composer.started:
            return broken("the stream ended early, before the end of its answer")
        return broken(f"{'text' if self._words else 'nothing'} where a stream of events was expected")

    def _take(self, event: Event) -> Fault | None:
        composer = self._composer
        match event.type:
            case "response.output_text.delta":
                self._written.add(event.output_index)
                composer.text(string_of(event.delta))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                self._written.add(event.output_index)
                self._think((event.output_index, event.summary_index, event.content_index), string_of(event.delta))
            case "response.reasoning_summary_part.added" if self._thought is not None:
                self._thought = "a new part"
            case "response.refusal.delta":
                self._written.add(event.output_index)
                composer.refusal(string_of(event.delta))
            case "response.function_call_arguments.delta":
                self._written.add(event.output_index)
                composer.tool(event.output_index, "", "", string_of(event.delta))
            case "response.function_call_arguments.done":
                self._arguments(event.output_index, event.arguments)
            case "response.output_item.added" | "response.output_item.done" if isinstance(event.item, dict):
                self._item(event.output_index, event.item, done=event.type.endswith("done"))
            case "response.created" | "response.in_progress":
                composer.begin()
            case "response.completed" | "response.incomplete":
                return self._close(object_of(event.response))
            case "response.failed" | "response.cancelled":
                return _failure(object_of(event.response))
            case "error":
                return stream_fault(event.error or {"message": event.message, "code": event.code})
            case _ if event.error:
                return stream_fault(event.error)
        return None

    def _think(self, part: object, text: str) -> None:
        if self._thought not in (None, part):
            text = "\n\n" + text
        self._thought = part
        self._composer.thinking(text)

    def _arguments(self, index: object, written: Any) -> None:
        if index not in self._written and written:
            self._written.add(index)
            self._composer.tool(index, "", "", written)

    def _item(self, index: object, item: dict[str, Any], *, done: bool) -> None:
        match item.get("type"):
            case "function_call":
                self._composer.tool(index, item.get("call_id") or item.get("id"), item.get("name"), "")
                if done:
                    self._arguments(index, item.get("arguments"))
            case "reasoning" if done:
                self._reasoned(index, item)
            case "message" if done and index not in self._written:
                self._message(item)
        if done:
            self._written.add(index)

    def _reasoned(self, index: object, item: dict[str, Any]) -> None:
        """Keep an encrypted item of reasoning: the next request is to give it back."""
        if index not in self._written:
            for at, part in enumerate(objects_of(item.get("summary")) or objects_of(item.get("content"))):
                self._think((index, at), string_of(part.get("text")))
        self._thought = None
        kept = {key: item[key] for key in ("id", "summary", "encrypted_content") if key in item}
        whole: dict[str, Any] = {"item": {"type": "reasoning", "summary": [], **kept}}
        self._composer.sealed(whole if item.get("encrypted_content") else {})

    def _message(self, item: dict[str, Any]) -> None:
        for part in objects_of(item.get("content")):
            self._composer.text(string_of(part.get("text")))
            self._composer.refusal(string_of(part.get("refusal")))

    def _close(self, response: dict[str, Any]) -> Fault | None:
        if response.get("error") or response.get("status") in ("failed", "cancelled"):
            return _failure(response)
        if not self._written:  # some relays send all of it at once, and this is how a whole response comes
            for index, item in enumerate(objects_of(response.get("output"))):
                self._item(index, item, done=True)
        self._usage = usage_of(response.get("usage"))
        reason = object_of(response.get("incomplete_details")).get("reason")
        finish = _FINISHES.get(str(reason), "stop")
        self._composer.end(finish, None, self._usage)
        return None

    def whole(self, body: bytes) -> Fault | None:
        try:
            response = loosely_decoded(body)
        except (RecursionError, ValueError):
            return not_an_answer(body)
        if not isinstance(response, dict):
            return not_an_answer(body)
        if response.get("error") or response.get("object") == "error":
            return _failure(response)
        if not isinstance(response.get("output"), list):
            return broken("an answer without output")
        return self._close(response)


def _event(data: bytes) -> Event | None:
    """Decode an event; None where it is no JSON object."""
    try:
        return _EVENT.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        pass
    try:
        value = loosely_decoded(data)
        return msgspec.convert(value, Event) if isinstance(value, dict) else None
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def _failure(response: dict[str, Any]) -> Fault:
    return stream_fault(response.get("error") or response.get("message") or "the response failed")
