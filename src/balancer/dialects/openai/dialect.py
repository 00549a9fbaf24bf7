"""Providers that speak OpenAI's APIs: OpenAI itself and the many servers compatible with it.

Nothing of a client's request goes along as it came: body and headers are built anew from what is
known. What a server refuses is learnt, repaired, and remembered for a day.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from balancer import claude_code
from balancer.dialect import Ask, Decoder, Flow, TypedState
from balancer.dialects.openai import carried, lessons, request
from balancer.dialects.openai.chat import ChatReader
from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.decoder import OpenAIDecoder, Reader, writer_for
from balancer.dialects.openai.listing import ModelsDecoder
from balancer.dialects.openai.profiles import (
    PROFILES,
    Capabilities,
    Effort,
    Profile,
    Reasoning,
    ReasoningBack,
    Schema,
    SystemRole,
    ThinkTagsOption,
    TokenLimitField,
)
from balancer.dialects.openai.responses import MIN_OUTPUT_TOKENS, ResponsesReader, from_chat
from balancer.dialects.openai.writer import Shell
from balancer.model import Fault, Operation, Reply, WireRequest
from balancer.script import Data, Head, Step
from balancer.wire.complaints import Complaint, body_complaint, fault_of
from balancer.wire.credentials import bearer_for

MAX_REPAIRS = 3
"""How often one request is repaired and sent once more: each time for another lesson."""

_REFUSALS = frozenset({400, 422})
"""What a server says when it does not take a request as it is."""


class Options(BaseModel):
    """`openai_config`: what the server can do. What is not said comes from the profile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Profile = Field(default="compat", description="What the server is: what the other keys are by default.")
    api: Literal["chat", "responses"] = Field(
        default="chat", description="Which API is asked: `chat` (Chat Completions) or `responses`."
    )
    token_limit_field: TokenLimitField | None = Field(default=None, description="The field that limits the output.")
    max_output_tokens: int | None = Field(default=None, ge=1, description="The most output tokens that are asked for.")
    reasoning: Reasoning | None = Field(default=None, description="In whose words effort and thinking are asked for.")
    efforts: tuple[str, ...] | None = Field(default=None, description="The efforts that the models know.")
    effort: Effort | None = Field(default=None, description="The effort that is asked for, whatever the client says.")
    sampling: bool | None = Field(default=None, description="Whether `temperature` and `top_p` are taken.")
    top_k: bool | None = Field(default=None, description="Whether `top_k` is taken.")
    stop: int | None = Field(default=None, ge=0, description="How many stop sequences are taken; 0: none.")
    vision: bool | None = Field(default=None, description="Whether images are taken.")
    files: bool | None = Field(default=None, description="Whether PDFs are taken.")
    json_schema: bool | None = Field(default=None, description="Whether structured outputs by a schema are known.")
    strict: bool | None = Field(default=None, description="Whether `strict` tools and schemas are known.")
    parallel_tool_calls: bool | None = Field(default=None, description="Whether `parallel_tool_calls` is known.")
    stream_options: bool | None = Field(default=None, description="Whether usage in streams can be asked for.")
    tool_choice_named: bool | None = Field(default=None, description="Whether one tool can be demanded by name.")
    system_role: SystemRole | None = Field(default=None, description="The role of the system prompt.")
    mid_system: bool | None = Field(default=None, description="Whether system messages may stand in the middle.")
    max_tools: int | None = Field(default=None, ge=1, description="The most tools that are taken.")
    tool_id_max: int | None = Field(default=None, ge=24, description="The longest id of a tool call.")
    name_max: int | None = Field(default=None, ge=16, description="The longest name of a tool.")
    service_tier: bool | None = Field(default=None, description="Whether `service_tier` is known, in OpenAI's words.")
    user_hash: bool | None = Field(default=None, description="Whether the user's id goes along, as a hash.")
    tool_schema: Schema | None = Field(default=None, description="`narrow`: only a part of JSON Schema is known.")
    think_tags: ThinkTagsOption | None = Field(
        default=None,
        description="Whether thinking comes as `<think>` in the text; `implicit`: all up to `</think>` is thinking.",
    )
    reasoning_back: ReasoningBack | None = Field(
        default=None, description="Which assistant messages of the history hold `reasoning_content`."
    )
    thought_signatures: bool | None = Field(
        default=None, description="Whether tool calls of other models get Google's dummy of a thought signature."
    )
    phases: bool | None = Field(
        default=None, description="`api: responses`: whether every text of the assistant has a `phase`."
    )


@lru_cache(maxsize=256)
def capabilities(options: Options) -> Capabilities:
    """Return the profile's capabilities with what the file says over them."""
    said = options.model_dump(exclude={"profile", "api"}, exclude_none=True)
    can = replace(PROFILES[options.profile], **said)
    return replace(can, stop=0, top_k=False) if options.api == "responses" else can


_VERSION = re.compile(r"(?:\A|/)v\d+[a-z0-9]*(?:/|\Z)")
_ENDPOINT = re.compile(r"/(?:chat/completions|responses|completions)\Z")


@lru_cache(maxsize=256)
def base_path(base_url: str) -> str:
    """Return where the API lives: `base_url`'s path if a segment of it is a version, else with `/v1`.

    `https://host`, `https://host/v1` and `https://host/v1/chat/completions` are the same; `/api/v1`,
    `/v1beta/openai` and `/api/paas/v4` stay as they are.
    """
    path = _ENDPOINT.sub("", urlsplit(base_url).path.rstrip("/"))
    return path if _VERSION.search(path) else f"{path}/v1"


@dataclass(slots=True)
class _Attempt:
    """What a flow leaves for the decoder of its answer."""

    names: dict[str, str] = field(default_factory=dict)
    """Tool names that had to be changed: the server's to the client's."""
    notes: tuple[str, ...] = ()


class OpenAI:
    """The type `openai`."""

    Options = Options
    default_base_url: str | None = "https://api.openai.com/v1"

    def flow(self, ask: Ask) -> Flow:
        if ask.operation is not Operation.MESSAGES:
            yield _wire(ask, b"GET", "/models", ())
            return
        options = ask.options(Options)
        attempt, known = ask.attempt_state.of(_Attempt), ask.provider_state.of(lessons.Lessons)
        body = lessons.apply(_converted(ask, options, attempt), known.learnt(ask.model, ask.wall))
        path = _PATHS[options.api]
        if _limit(body) == 0:  # warms a cache that this server has not: never sent
            yield _wire(ask, b"POST", path, (), _nothing)
            return
        learnt: list[str] = []
        for _ in range(MAX_REPAIRS + 1):
            reply = yield _wire(ask, b"POST", path, (request.encoded(body),))
            if reply.status not in _REFUSALS:  # the repairs were right
                for lesson in learnt:
                    known.keep(ask.model, lesson, ask.wall)
            if 200 <= reply.status < 300:
                return
            complaint = body_complaint(reply.body)
            if _is_probe(body, reply.status, complaint):
                yield _wire(ask, b"POST", path, (), _nothing)
                return
            found = lessons.find(reply.status, complaint, reply.body.decode("utf-8", "replace"), body)
            if found is None or lessons.opposite(found) in learnt:
                return
            learnt.append(found)
            attempt.notes += (f"learnt {found}",)
            body = lessons.apply(body, [found])

    def decoder(self, ask: Ask, head: Reply) -> Decoder:
        if ask.operation is not Operation.MESSAGES:
            return ModelsDecoder()
        asked, options, attempt = ask.request, ask.options(Options), ask.attempt_state.of(_Attempt)
        shell = Shell(asked.model, ask.attempt_id, request.estimate_tokens(asked.body))
        writer = writer_for(shell, stream=asked.stream)
        composer = Composer(shell, writer, ask.provider.name, attempt.names, _keeping(ask))
        reader: Reader
        if options.api == "responses":
            reader = ResponsesReader(composer)
        else:
            reader = ChatReader(composer, think_tags=capabilities(options).think_tags)
        return OpenAIDecoder(composer, writer, reader, attempt.notes)

    def fault(self, ask: Ask, reply: Reply) -> Fault:
        return fault_of(reply, ask.wall, ask.request.id)

    def supports(self, operation: Operation) -> bool:
        return operation is not Operation.COUNT_TOKENS

    def describe(self, provider_state: TypedState, options: object, wall: float) -> dict[str, Any] | None:
        return provider_state.of(lessons.Lessons).described()


_PATHS = {"chat": "/chat/completions", "responses": "/responses"}


def _converted(ask: Ask, options: Options, attempt: _Attempt) -> dict[str, Any]:
    """Return the request in the words of the API that is asked; what the way back needs is left in `attempt`."""
    items = options.api == "responses"
    can, recall = capabilities(options), ask.provider_state.of(carried.Memory).of(ask.request.conversation)
    converted = request.chat(ask.request.body, ask.model, can, ask.provider.name, items=items, recall=recall)
    attempt.names, attempt.notes = converted.names, converted.notes
    return from_chat(converted.body) if items else converted.body


def _keeping(ask: Ask) -> Callable[[str, str], None] | None:
    """Return what remembers the end of an answer, for a client that must not get it behind its text; else None."""
    asked = ask.request
    if not asked.claude_code or not asked.conversation:
        return None
    return partial(ask.provider_state.of(carried.Memory).keep, asked.conversation)


def _limit(body: dict[str, Any]) -> Any:
    return next(
        (body[key] for key in ("max_tokens", "max_completion_tokens", "max_output_tokens") if key in body), None
    )


def _is_probe(body: dict[str, Any], status: int, complaint: Complaint) -> bool:
    """Return whether a probe was refused because a reasoning model can't answer in so few tokens: it may be used."""
    least = _limit(body) in (claude_code.PROBE_TOKENS, MIN_OUTPUT_TOKENS)
    return status == 400 and least and "output limit was reached" in complaint.message


def _nothing() -> Iterator[Step]:
    """Play the answer that has no token."""
    yield Head(200, ((b"content-type", b"application/json"),))
    chat = {"choices": [{"index": 0, "message": {}, "finish_reason": "length"}]}
    responses_ = {"output": [], "incomplete_details": {"reason": "max_output_tokens"}}
    yield Data(msgspec.json.encode({**chat, **responses_}))


def _wire(
    ask: Ask, method: bytes, path: str, body: tuple[bytes, ...], script: Callable[[], Iterator[Step]] | None = None
) -> WireRequest:
    provider = ask.provider
    lines = [(b"accept", b"text/event-stream, application/json" if ask.request.stream else b"application/json")]
    if method == b"POST":
        lines.append((b"content-type", b"application/json"))
    lines += bearer_for(provider, ask.request)
    over = {name for name, _ in provider.headers}
    lines = [pair for pair in lines if pair[0] not in over] + list(provider.headers)
    target = (base_path(provider.base_url) + path).encode()
    return WireRequest(provider.origin, method, target, tuple(lines), body, script=script)


DIALECT = OpenAI()
