"""Answers of the Chat Completions API, streamed or whole."""

from __future__ import annotations

from typing import Any

from balancer.dialects.openai import carried, finish, web_search
from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.decoder import not_an_answer, not_an_event
from balancer.dialects.openai.think_tags import TextPart, ThinkTags
from balancer.model import Fault, Usage
from balancer.wire.chat import Choice, Chunk, chunk, error_in, usage_of
from balancer.wire.complaints import stream_fault
from balancer.wire.errors import broken
from balancer.wire.loose import object_of, objects_of
from balancer.wire.whole import MAX_ANSWER_BYTES

_KEPT = ("text", "summary", "data", "signature")

_CALL_KEYS, _FUNCTION_KEYS = {"index", "id", "type", "function"}, {"name", "arguments"}

_MAY_CALL = (None, "tool_calls")
"""Ends of the first choice with which calls in another one may be meant."""


class ChatReader:
    """Reads chunks into a composer. `think_tags`: thinking stands in the text, between `<think>` and `</think>`."""

    def __init__(self, composer: Composer, *, think_tags: bool | str = False, searches: bool = False) -> None:
        self._composer = composer
        self._findings = web_search.Findings(composer) if searches else None
        self._tags = ThinkTags(implicit=think_tags == "implicit") if think_tags else None
        self._finish: finish.Meaning | None = None
        self._stop: str | None = None
        self._usage: tuple[Usage, int] | None = None
        self._words = False
        """Something came that was no JSON at all."""
        self._by_delta = False
        """The answer comes in deltas: a message beside them says it all once more."""
        self._aside: list[dict[str, Any]] = []
        """Tool calls of other choices."""
        self._aside_bytes = 0

    def usage(self) -> Usage | None:
        return self._usage[0] if self._usage else None

    def event(self, data: bytes) -> Fault | None:
        read = chunk(data)
        if read is None:
            return self._no_chunk(data)
        choices = read.choices
        if not choices or read.error or read.type or read.object == "error":
            if (error := error_in(read)) is not None:
                return stream_fault(error)
            choices = choices or []
        if read.usage:
            self._use(read)
        finished = self._finish is not None
        for choice in choices:
            index = choice.index
            if index == 0 or (index is None and choice is choices[0]):
                if (fault := self._choose(choice)) is not None:
                    return fault
            elif (fault := self._set_aside(choice, len(data))) is not None:
                return fault
        if finished and read.usage and not _says_more(read) and not self._composer.waits:
            self._end()
        return None

    def _no_chunk(self, data: bytes) -> Fault | None:
        words = data.strip()
        if words == b"[DONE]":
            if not self._composer.started:
                return broken("nothing but the end of a stream")
            self._end()
            return None
        self._words = self._words or bool(words)
        return not_an_event(words)

    @property
    def ending(self) -> bool:
        return self._finish is not None and not self._composer.in_arguments

    def whole(self, body: bytes) -> Fault | None:
        answer = chunk(body)
        if answer is None:
            return not_an_answer(body)
        if (error := error_in(answer)) is not None:
            return stream_fault(error)
        choices = answer.choices
        if not choices:
            return broken("an answer without choices")
        self._use(answer)
        self._composer.calls.apart()
        if (fault := self._choose(choices[0])) is not None:
            return fault
        for choice in choices[1:]:
            self._set_aside(choice, 0)
        self._end()
        return None

    def end(self) -> Fault | None:
        if self._finish is not None:
            self._end()
            return None
        if self._composer.started:
            return broken("the stream ended early, before the end of its answer")
        return broken(f"{'text' if self._words else 'nothing'} where a stream of events was expected")

    def _end(self) -> None:
        if self._tags:
            self._tell(self._tags.rest(end=self._finish in (None, "stop") and not self._composer.calls.all))
        composer = self._composer
        if self._aside and not composer.calls.all and (self._finish in _MAY_CALL or not composer.said):
            for at, call in enumerate(self._aside):
                self._call(call, ("aside", call.get("index", at)))
        if self._findings is not None:
            self._findings.rest()
        composer.end(self._finish, self._stop, self._usage)

    def _use(self, read: Chunk) -> None:
        if read.usage and (usage := usage_of(read.usage)) is not None:
            self._usage = usage

    def _choose(self, choice: Choice) -> Fault | None:
        """Take a part of the first choice, which is the answer."""
        if choice.error:
            return stream_fault(choice.error)
        if delta := choice.delta:
            self._by_delta = True
            self._say(delta)
        elif choice.message:
            self._say_message(choice.message)
        else:
            self._composer.begin()
        if choice.finish_reason and choice.finish_reason != "null":
            return self._finished(choice)
        return None

    def _finished(self, choice: Choice) -> Fault | None:
        """Take a finish reason. It is not the end yet: some servers go on, and the worst of all reasons counts."""
        said = choice.finish_reason
        meaning = finish.meaning(said)
        if said == "error":
            return stream_fault("the provider ended its answer with an error")
        if meaning == "failed":
            words = said if isinstance(said, str) else type(said).__name__
            message = f"the provider ended its answer with the finish reason '{words[: finish.LOOKED_AT_CHARS]}'"
            return stream_fault({"message": message, "code": words})
        sequence, reason = finish.stop_sequence_or_reason(choice.stop_reason)
        self._stop = sequence or self._stop
        self._finish = finish.worse(finish.worse(self._finish, meaning), reason)
        return None

    def _set_aside(self, choice: Choice, size: int) -> Fault | None:
        """Keep the tool calls of another choice: some servers put them there, beside the text in the first one."""
        calls = objects_of((choice.delta or choice.message or {}).get("tool_calls"))
        if calls:
            self._aside += [{**call, "index": (choice.index, call.get("index", at))} for at, call in enumerate(calls)]
            self._aside_bytes += size
        if self._aside_bytes > MAX_ANSWER_BYTES:
            return broken(f"more than {MAX_ANSWER_BYTES} bytes beside the answer")
        return None

    def _say_message(self, message: dict[str, Any]) -> None:
        """Take a whole message. Behind deltas it says again what they said."""
        if not self._by_delta:
            self._say(message)
        elif not self._composer.calls.all and (calls := message.get("tool_calls")):
            self._say({"tool_calls": calls})

    def _say(self, said: dict[str, Any]) -> None:
        composer = self._composer
        content = said.get("content")
        more = len(said) > 1 or not content
        if more:
            composer.begin()
            self._reason(said)
        if isinstance(content, str):
            if self._tags:
                self._tell(self._tags.split(content))
            else:
                composer.text(content)
        elif isinstance(content, list):
            self._parts(content)
        if more:
            if isinstance(refusal := said.get("refusal"), str):
                composer.refusal(refusal)
            if self._findings is not None:
                self._findings.cited(said.get("annotations"), collect=True)
            self._calls(said)

    def _calls(self, said: dict[str, Any]) -> None:
        calls = said.get("tool_calls")
        if isinstance(calls, list) and calls:
            if self._tags:
                self._tell(self._tags.rest())
            for call in calls:
                if isinstance(call, dict):
                    index = call.get("index")
                    self._call(call, index if isinstance(index, int) else None)
        if isinstance(function := said.get("function_call"), dict):
            self._composer.tool("function_call", "", function.get("name"), function.get("arguments"))

    def _call(self, call: dict[str, Any], key: object) -> None:
        function = object_of(call.get("function"))
        plain = call.keys() <= _CALL_KEYS and function.keys() <= _FUNCTION_KEYS
        extras = None if plain else carried.call_fields(call)
        self._composer.tool(key, call.get("id"), function.get("name"), function.get("arguments"), extras)

    def _tell(self, parts: list[TextPart]) -> None:
        for part in parts:
            (self._composer.thinking if part.thinking else self._composer.text)(part.text)

    def _reason(self, said: dict[str, Any]) -> None:
        details = said.get("reasoning_details")
        details = details if isinstance(details, list) else []
        blocks = said.get("thinking_blocks")
        for name in carried.REASONING_TEXTS:
            if (text := said.get(name)) and isinstance(text, str):
                break
        else:
            name, text = "", (_detailed(details) if details else "") or (_detailed(blocks) if blocks else "")
        composer = self._composer
        if text:
            composer.thinking(text)
            if name and name not in carried.DROPPED:
                composer.signed({"text_field": name})
        if details and (kept := [one for one in objects_of(details) if any(one.get(key) for key in _KEPT)]):
            composer.signed({"details": kept})
        for name in said:
            if name not in carried.DROPPED and (fields := carried.fields_of({name: said[name]})):
                composer.signed({"message": fields})

    def _parts(self, parts: list[Any]) -> None:
        """Mistral's list of parts."""
        for part in parts:
            if not isinstance(part, dict):
                continue
            if part.get("type") == "thinking":
                thoughts = part.get("thinking")
                self._composer.thinking(thoughts if isinstance(thoughts, str) else _detailed(thoughts))
            elif isinstance(text := part.get("text"), str):
                self._composer.text(text)


def _says_more(read: Chunk) -> bool:
    """Say whether a chunk holds more than how much was used."""
    return any(any((choice.delta or choice.message or {}).values()) for choice in read.choices or ())


def _detailed(details: Any) -> str:
    if not isinstance(details, list):
        return ""
    texts = [detail.get("text") or detail.get("summary") or detail.get("thinking") for detail in objects_of(details)]
    return "".join(text for text in texts if isinstance(text, str))
