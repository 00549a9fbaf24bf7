"""The Responses API: the Chat request in its words, and its answers."""

from __future__ import annotations

from typing import Any

import msgspec

from balancer.dialects.openai import carried, finish, web_search
from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.decoder import not_an_answer, not_an_event
from balancer.model import Fault, Usage
from balancer.wire.chat import usage_of
from balancer.wire.complaints import stream_fault
from balancer.wire.errors import broken
from balancer.wire.loose import loosely_decoded, object_of, objects_of, string_of

MIN_OUTPUT_TOKENS = 16
"""The API takes no smaller `max_output_tokens`."""

_SAME = (
    "model", "stream", "temperature", "top_p", "parallel_tool_calls", "service_tier", "safety_identifier",
    "prompt_cache_key", "max_tool_calls",
)  # fmt: skip


def from_chat(chat: dict[str, Any]) -> dict[str, Any]:
    """Return a Chat request (of `request.chat`) as a Responses request."""
    body = {key: chat[key] for key in _SAME if key in chat}
    messages = list(chat["messages"])
    if messages and messages[0]["role"] in ("system", "developer"):
        body["instructions"] = messages.pop(0)["content"]
    body["input"] = [item for message in messages for item in _items(message)]
    if "tools" in chat:
        body["tools"] = [_tool(tool["function"]) if "function" in tool else tool for tool in chat["tools"]]
    choice = chat.get("tool_choice")
    if choice is not None:
        named = isinstance(choice, dict) and "function" in choice
        body["tool_choice"] = {"type": "function", "name": choice["function"]["name"]} if named else choice
    limit = chat.get("max_tokens", chat.get("max_completion_tokens"))
    if limit is not None:
        body["max_output_tokens"] = max(MIN_OUTPUT_TOKENS, limit) if limit else limit
    if effort := chat.get("reasoning_effort"):
        body["reasoning"] = {"effort": effort, "summary": "auto"}
    if shape := chat.get("response_format"):
        body["text"] = {"format": {"type": shape["type"], **shape.get("json_schema", {})}}
    include = ["reasoning.encrypted_content"]
    if any(web_search.is_hosted(tool) for tool in body.get("tools", ())):
        include.append(web_search.SOURCES)
    return {**body, "store": False, "include": include}


def _items(message: dict[str, Any]) -> list[dict[str, Any]]:
    role = message["role"]
    if role == "tool":
        return [{"type": "function_call_output", "call_id": message["tool_call_id"], "output": message["content"]}]
    if role == "assistant":
        items: list[dict[str, Any]] | None = message.get(carried.ITEMS)
        return _plain_items(message) if items is None else items
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [{"type": "message", "role": role, "content": [_part(part) for part in parts]}]


def _plain_items(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what an assistant's Chat message is that nobody has put in order: its text, then its calls."""
    text = message["content"]
    said = [("text", text)] if text else []
    return carried.items_of([*said, *(("call", call) for call in message.get("tool_calls", ()))], phases=False)


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
    annotation: Any = None
    response: Any = None
    error: Any = None
    message: Any = None
    code: Any = None


_EVENT = msgspec.json.Decoder(Event)


class ResponsesReader:
    """Reads the events of a response, or a whole one, into a composer."""

    ending = False
    """A terminal event ends a response, nothing else."""

    def __init__(self, composer: Composer, *, searches: bool = False) -> None:
        """`searches`: the client has asked for a web search, so what was found is told in Anthropic's words."""
        self._composer = composer
        self._findings = web_search.Findings(composer) if searches else None
        self._usage: tuple[Usage, int] | None = None
        self._written: set[object] = set()
        """Items, by their index, that came as deltas or as a whole."""
        self._thought: object = None
        """The part of the reasoning that came last; None: the item has none yet."""
        self._words = False
        self._open: set[object] = set()
        """Items, by their index, that have begun and not ended."""
        self._message: object = None
        """The message, by its index, that came last."""

    def usage(self) -> Usage | None:
        return self._usage[0] if self._usage else None

    def event(self, data: bytes) -> Fault | None:
        event = _event(data)
        if event is None:
            words = data.strip()
            if words == b"[DONE]" and self._composer.started and not self._open:
                return self._close({})
            self._words = self._words or bool(words)
            return not_an_event(words)
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
                self._text_of(event.output_index)
                composer.text(string_of(event.delta))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                self._written.add(event.output_index)
                self._think((event.output_index, event.summary_index, event.content_index), string_of(event.delta))
            case "response.output_text.annotation.added" if self._findings is not None:
                self._findings.cited([event.annotation])
            case "response.reasoning_summary_part.added" if self._thought is not None:
                self._thought = "a new part"
            case "response.refusal.delta":
                self._text_of(event.output_index)
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
            case "response.completed" | "response.incomplete" | "response.done":
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
        """Take arguments as a whole. Behind deltas they say the same once more, or the call is not to be trusted."""
        if written:
            self._written.add(index)
            self._composer.tool(index, "", "", written)

    def _text_of(self, index: object) -> None:
        """Text of a message comes: that of another one is a part of its own."""
        self._written.add(index)
        if self._message != index:
            if self._message is not None:
                self._composer.part({})
            self._message = index

    def _item(self, index: object, item: dict[str, Any], *, done: bool) -> None:
        if done:
            self._open.discard(index)
        else:
            self._open.add(index)
        match item.get("type"):
            case "function_call":
                extras = carried.call_fields(item)
                self._composer.tool(index, item.get("call_id") or item.get("id"), item.get("name"), "", extras)
                if done:
                    self._arguments(index, item.get("arguments"))
            case "reasoning" if done:
                self._reasoned(index, item)
            case "message":
                self._message_of(index, item, done=done)
            case str() if done and index not in self._written:
                self._composer.sealed({})
                self._composer.sealed({"item": item})
                if self._findings is not None and item["type"] == "web_search_call":
                    self._findings.call(item)
        if done:
            self._written.add(index)

    def _message_of(self, index: object, item: dict[str, Any], *, done: bool) -> None:
        """Take a message, whose phase goes back with it."""
        if index in self._written:
            return
        if self._message != index:
            phase = item.get("phase")
            self._composer.part({"phase": phase} if isinstance(phase, str) and phase else {})
            self._message = index
        if done:
            for part in objects_of(item.get("content")):
                self._composer.text(string_of(part.get("text")))
                if self._findings is not None:
                    self._findings.cited(part.get("annotations"))
                self._composer.refusal(string_of(part.get("refusal")))

    def _reasoned(self, index: object, item: dict[str, Any]) -> None:
        """Keep an item of reasoning that nobody else can make: the next request is to give it back."""
        if index not in self._written:
            for at, part in enumerate(objects_of(item.get("summary")) or objects_of(item.get("content"))):
                self._think((index, at), string_of(part.get("text")))
        self._thought = None
        kept = {key: value for key, value in item.items() if key != "status" and value is not None}
        kept = {"type": "reasoning", "summary": [], **kept}
        stored = not item.get("encrypted_content") and not objects_of(item.get("content"))
        self._composer.sealed({} if stored else {"item": kept})

    def _close(self, response: dict[str, Any]) -> Fault | None:
        if response.get("error") or response.get("status") in ("failed", "cancelled"):
            return _failure(response)
        if not self._written:  # some relays send all of it at once, and this is how a whole response comes
            for index, item in enumerate(objects_of(response.get("output"))):
                self._item(index, item, done=True)
        self._usage = usage_of(response.get("usage"))
        reason = object_of(response.get("incomplete_details")).get("reason")
        meaning = finish.meaning(reason) if reason else "stop"
        if meaning == "failed":
            return _failure({"error": {"message": f"the response is incomplete: {reason}", "code": reason}})
        if meaning == "stop" and response.get("status") == "incomplete":
            meaning = "length"
        self._composer.end(meaning, None, self._usage)
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
        self._composer.calls.held = True
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
