"""Providers that speak OpenAI's APIs: OpenAI itself and the many servers compatible with it.

Nothing of a client's request goes along as it came: body and headers are built anew from what is
known. What a server refuses is learnt, repaired, and remembered for a day.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from balancer.dialect import Ask, Decoder, Flow
from balancer.dialects.openai import decoder as decoding
from balancer.dialects.openai import lessons, listing, request, responses
from balancer.dialects.openai.chat import ChatReader
from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.profiles import (
    PROFILES,
    Capabilities,
    Effort,
    Profile,
    Reasoning,
    Schema,
    SystemRole,
    TokenLimitField,
)
from balancer.dialects.openai.writer import Shell
from balancer.model import Fault, Operation, Reply, WireRequest
from balancer.script import Data, Head, Step
from balancer.wire import complaints, credentials

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
    think_tags: bool | None = Field(default=None, description="Whether thinking comes as `<think>` within the text.")


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


class OpenAI:
    """The type `openai`."""

    Options = Options
    default_base_url: str | None = "https://api.openai.com/v1"

    def flow(self, ask: Ask) -> Flow:
        if ask.operation is not Operation.MESSAGES:
            yield _wire(ask, b"GET", "/models", ())
            return
        body = _converted(ask)
        if _limit(body) == 0:  # warms a cache that this server has not: never sent
            yield _wire(ask, b"POST", _path(ask), (), _nothing)
            return
        learnt: list[str] = []
        for _ in range(MAX_REPAIRS + 1):
            reply = yield _wire(ask, b"POST", _path(ask), (request.encoded(body),))
            if reply.status not in _REFUSALS:  # the repairs were right
                for lesson in learnt:
                    lessons.keep(ask.memory, ask.model, lesson, ask.wall)
            if 200 <= reply.status < 300:
                return
            said = complaints.body_complaint(reply.body)
            if _is_probe(body, reply.status, said):
                yield _wire(ask, b"POST", _path(ask), (), _nothing)
                return
            found = lessons.find(reply.status, said, reply.body.decode("utf-8", "replace"), body)
            if found is None or lessons.opposite(found) in learnt:
                return
            learnt.append(found)
            ask.attempt_state["notes"] = (*ask.attempt_state.get("notes", ()), f"learnt {found}")
            body = lessons.apply(body, [found])

    def decoder(self, ask: Ask, head: Reply) -> Decoder:
        if ask.operation is not Operation.MESSAGES:
            return listing.ModelsDecoder()
        asked = ask.request
        shell = Shell(asked.model, ask.attempt_id, request.estimate_tokens(asked.body))
        writer = decoding.writer_for(shell, stream=asked.stream)
        composer = Composer(shell, writer, ask.provider.name, ask.attempt_state.get("names", {}))
        tags = capabilities(_options(ask)).think_tags
        reader: decoding.Reader = (
            responses.ResponsesReader(composer) if _is_responses(ask) else ChatReader(composer, think_tags=tags)
        )
        return decoding.OpenAIDecoder(composer, writer, reader, ask.attempt_state.get("notes", ()))

    def fault(self, ask: Ask, reply: Reply) -> Fault:
        return complaints.fault_of(reply, ask.wall, ask.request.id)

    def supports(self, operation: Operation) -> bool:
        return operation is not Operation.COUNT_TOKENS

    def describe(self, memory: dict[str, Any], options: Any, wall: float) -> dict[str, Any] | None:
        """Return what was learnt about this provider, for `/providers`."""
        return lessons.described(memory)


def _options(ask: Ask) -> Options:
    options = ask.provider.options
    return options if isinstance(options, Options) else Options()


def _is_responses(ask: Ask) -> bool:
    return _options(ask).api == "responses"


def _path(ask: Ask) -> str:
    return "/responses" if _is_responses(ask) else "/chat/completions"


def _converted(ask: Ask) -> dict[str, Any]:
    can = capabilities(_options(ask))
    converted = request.chat(ask.request.body, ask.model, can, ask.provider.name, items=_is_responses(ask))
    ask.attempt_state["names"], ask.attempt_state["notes"] = converted.names, converted.notes
    body = responses.from_chat(converted.body) if _is_responses(ask) else converted.body
    return lessons.apply(body, lessons.learnt(ask.memory, ask.model, ask.wall))


def _limit(body: dict[str, Any]) -> Any:
    return next(
        (body[key] for key in ("max_tokens", "max_completion_tokens", "max_output_tokens") if key in body), None
    )


def _is_probe(body: dict[str, Any], status: int, said: complaints.Complaint) -> bool:
    """Claude Code probes with `max_tokens: 1`; reasoning models refuse to answer that at all."""
    least = _limit(body) in (1, responses.MIN_OUTPUT_TOKENS)
    return status == 400 and least and "output limit was reached" in said.message


def _nothing() -> Iterator[Step]:
    """Play the answer that has no token."""
    yield Head(200, ((b"content-type", b"application/json"),))
    chat = {"choices": [{"index": 0, "message": {}, "finish_reason": "length"}]}
    responses_ = {"output": [], "incomplete_details": {"reason": "max_output_tokens"}}
    yield Data(msgspec.json.encode({**chat, **responses_}))


def _wire(ask: Ask, method: bytes, path: str, body: tuple[bytes, ...], script: Any = None) -> WireRequest:
    provider = ask.provider
    lines = [(b"accept", b"text/event-stream, application/json" if ask.request.stream else b"application/json")]
    if method == b"POST":
        lines.append((b"content-type", b"application/json"))
    lines += credentials.bearer_for(provider, ask.request)
    over = {name for name, _ in provider.headers}
    lines = [pair for pair in lines if pair[0] not in over] + list(provider.headers)
    target = (base_path(provider.base_url) + path).encode()
    return WireRequest(provider.origin, method, target, tuple(lines), body, script=script)


DIALECT = OpenAI()
