"""Answers of the Chat Completions API, streamed or whole."""

from __future__ import annotations

from typing import Any

from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.decoder import not_an_answer
from balancer.dialects.openai.think_tags import TextPart, ThinkTags
from balancer.model import Fault, Usage
from balancer.wire.chat import ChatMessage, Choice, Chunk, Function, chunk, error_in, usage_of
from balancer.wire.complaints import stream_fault
from balancer.wire.errors import broken

_NOT_YET = (None, "", "null")
"""How servers say, chunk by chunk, that an answer has not ended."""
_KEPT = ("text", "summary", "data", "signature")


class ChatReader:
    """Reads chunks into a composer. `think_tags`: thinking stands in the text, between `<think>` and `</think>`."""

    def __init__(self, composer: Composer, *, think_tags: bool = False) -> None:
        self._composer = composer
        self._tags = ThinkTags() if think_tags else None
        self._finish: Any = None
        self._stop: Any = None
        self._usage: tuple[Usage, int] | None = None
        self._words = False
        """Something came that was no JSON at all."""

    def usage(self) -> Usage | None:
        return self._usage[0] if self._usage else None

    def event(self, data: bytes) -> Fault | None:
        read = chunk(data)
        if read is None:
            words = data.strip()
            if words == b"[DONE]":
                return self._done()
            self._words = self._words or bool(words)
            return None
        finished = self._finish is not None
        fault = self._take(read)
        if finished and fault is None and read.usage:
            self._end()
        return fault

    @property
    def ending(self) -> bool:
        return self._finish is not None

    def whole(self, body: bytes) -> Fault | None:
        answer = chunk(body)
        if answer is None:
            return not_an_answer(body)
        if (error := error_in(answer)) is not None:
            return stream_fault(error)
        if not answer.choices:
            return broken("an answer without choices")
        self._use(answer)
        fault = self._choose(answer.choices[0])
        if fault is None:
            self._end()
        return fault

    def _done(self) -> Fault | None:
        if not self._composer.started:
            return broken("nothing but the end of a stream")
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
            self._tell(self._tags.rest())
        self._composer.end(self._finish, self._stop, self._usage)

    def _take(self, read: Chunk) -> Fault | None:
        if (error := error_in(read)) is not None:
            return stream_fault(error)
        self._use(read)
        for choice in read.choices or ():
            if choice.index == 0 or choice.index is None:
                return self._choose(choice)
        return None

    def _use(self, read: Chunk) -> None:
        if read.usage and (usage := usage_of(read.usage)) is not None:
            self._usage = usage

    def _choose(self, choice: Choice) -> Fault | None:
        if choice.finish_reason == "error" or choice.error:
            return stream_fault(choice.error or "the provider ended its answer with an error")
        if self._finish is not None:
            return None
        composer = self._composer
        composer.begin()
        said = choice.delta or choice.message
        if said is not None:
            self._say(said)
        if choice.finish_reason not in _NOT_YET:
            self._finish = choice.finish_reason
            self._stop = choice.stop_reason
        return None

    def _say(self, said: ChatMessage) -> None:
        composer = self._composer
        if said.reasoning_content or said.reasoning or said.reasoning_details:
            self._reason(said)
        if isinstance(said.content, str):
            if self._tags:
                self._tell(self._tags.split(said.content))
            else:
                composer.text(said.content)
        elif isinstance(said.content, list):
            self._parts(said.content)
        if isinstance(said.refusal, str):
            composer.refusal(said.refusal)
        if self._tags and said.tool_calls:
            self._tell(self._tags.rest())
        for call in said.tool_calls or ():
            function = call.function or Function()
            key = call.index if isinstance(call.index, int) else None
            composer.tool(key, call.id, function.name, function.arguments)
        if said.function_call is not None:
            composer.tool("function_call", "", said.function_call.name, said.function_call.arguments)

    def _tell(self, parts: list[TextPart]) -> None:
        for part in parts:
            (self._composer.thinking if part.thinking else self._composer.text)(part.text)

    def _reason(self, said: ChatMessage) -> None:
        details = said.reasoning_details if isinstance(said.reasoning_details, list) else []
        texts = (said.reasoning_content, said.reasoning, _detailed(details))
        text = next((text for text in texts if isinstance(text, str) and text), "")
        if text:
            self._composer.thinking(text)
        kept = [one for one in details if isinstance(one, dict) and any(one.get(key) for key in _KEPT)]
        if kept:
            self._composer.signed({"details": kept})

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


def _detailed(details: Any) -> str:
    if not isinstance(details, list):
        return ""
    texts = [detail.get("text") or detail.get("summary") for detail in details if isinstance(detail, dict)]
    return "".join(text for text in texts if isinstance(text, str))
