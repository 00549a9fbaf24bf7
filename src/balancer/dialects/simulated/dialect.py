"""Providers inside the process that answer like a real model, and fail to order.

They are what runs when nothing is configured yet, what `balancer demo` shows, and a fire drill of
the users' own. Nothing is sent anywhere and nothing costs anything. They say what they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from balancer.dialect import Ask, Decoder, Flow, TypedState
from balancer.dialects.simulated import faults as drills
from balancer.dialects.simulated.answers import Block, FakeMessage, Text, Thinking, ToolUse, tokens, words
from balancer.dialects.simulated.specimen import specimen
from balancer.model import Fault, Operation, Reply, WireRequest
from balancer.script import Data, Head, Pause, Step
from balancer.wire import safeguards
from balancer.wire.answer import MessageDecoder
from balancer.wire.errors import fault_of
from balancer.wire.signatures import signed
from balancer.wire.stream import StreamDecoder

BYTES_PER_TOKEN = 4
"""A rough rule for JSON around English text."""

MODELS = ("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5")
"""What the list of models names; any other name is answered as well."""

_STATUS = "status"
_DELAY = "delay"


def _names(value: object) -> object:
    """Let `fault: 529` and `fault: cut` stand for lists of one."""
    if value is None:
        return ()
    listed = value if isinstance(value, list | tuple) else [value]
    return tuple(str(name) if isinstance(name, int) and not isinstance(name, bool) else name for name in listed)


class Options(BaseModel):
    """`simulated_config`: how the simulated provider answers, and how it fails."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency: float = Field(default=0.2, ge=0, le=3600, description="Seconds until the first byte of the answer.")
    speed: float = Field(default=100.0, ge=0, description="Tokens per second of a stream; 0: all at once.")
    answer: str = Field(default="", description="What it answers; empty: it says what it is.")
    thinking: bool = Field(default=False, description="Whether it thinks aloud before it answers.")
    tool_use: bool = Field(
        default=False,
        description="Whether it uses the first tool that is offered. It always does when `tool_choice` demands it.",
    )
    fault: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(
        default=(),
        description="How it fails: a name or a list of names to go through in turn: `status`, `delay`, "
        + ", ".join(f"`{name}`" for name in drills.FAULTS),
    )
    fault_rate: float = Field(default=1.0, ge=0, le=1, description="The share of requests that fail, 0 to 1.")
    fault_first: int | None = Field(default=None, ge=0, description="Only the first so many requests fail.")
    fault_every: int = Field(default=1, ge=1, description="Only every so many requests one fails.")
    fault_status: int = Field(default=529, ge=400, le=599, description="The HTTP status of the fault `status`.")
    fault_delay: float = Field(default=30.0, ge=0, description="How many seconds the fault `delay` waits.")

    @field_validator("fault")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = (_STATUS, _DELAY, *drills.FAULTS)
        for name in names:
            if name not in known:
                raise ValueError(f"there is no such fault; there are {', '.join(known)}")
        return names


class _Tool(msgspec.Struct):
    name: str = ""
    input_schema: Any = None


class _Choice(msgspec.Struct):
    type: str = "auto"
    name: str = ""


class _Block(msgspec.Struct):
    type: str = ""


class _Message(msgspec.Struct):
    role: str = ""
    content: str | list[_Block] = ""


class _Asked(msgspec.Struct):
    """What of a request an answer depends on."""

    tools: list[_Tool] = []
    tool_choice: _Choice | None = None
    messages: list[msgspec.Raw] = []
    max_tokens: int | None = None


@dataclass(slots=True)
class _Turns:
    """How often a simulated provider was asked."""

    asked: int = 0


class Simulated:
    """The type `simulated`."""

    Options = Options
    default_base_url: str | None = "http://simulated.invalid"
    converts = 0.0
    """A name that never resolves (RFC 2606): nothing is sent to it anyway."""
    checks_actions = False

    def flow(self, ask: Ask) -> Flow:
        script = _script(ask)
        yield WireRequest(ask.provider.origin, b"POST", b"/simulated/" + ask.operation.word.encode(), (), script=script)

    def decoder(self, ask: Ask, head: Reply) -> Decoder:
        decoder = StreamDecoder() if _streams(ask) else MessageDecoder(ask.operation)
        return safeguards.answered(ask.request, decoder)

    def fault(self, ask: Ask, reply: Reply) -> Fault:
        return fault_of(reply, ask.wall)

    def supports(self, operation: Operation) -> bool:
        return not operation.openai and not operation.resource

    def describe(self, provider_state: TypedState, options: object, wall: float) -> dict[str, Any] | None:
        return None


def _streams(ask: Ask) -> bool:
    return ask.request.stream and ask.operation is Operation.MESSAGES


def _script(ask: Ask) -> drills.Script:
    options = ask.options(Options)
    fault = _fault(options, ask)
    if fault == _STATUS:
        return lambda: drills.status(options.fault_status)
    if fault == _DELAY:
        return lambda: _play(ask, options, options.fault_delay)
    if fault:
        return drills.script(fault, _streams(ask))
    return lambda: _play(ask, options, options.latency)


def _fault(options: Options, ask: Ask) -> str:
    """Return the fault that is due, or nothing. Counts, so it is asked once a request."""
    turns = ask.provider_state.of(_Turns)
    turn, turns.asked = turns.asked, turns.asked + 1
    if not options.fault or (options.fault_first is not None and turn >= options.fault_first):
        return ""
    if turn % options.fault_every or _chance(ask.attempt_id) >= options.fault_rate:
        return ""
    name: str = options.fault[turn // options.fault_every % len(options.fault)]
    return name


def _chance(attempt_id: str) -> float:
    """Return a number in [0, 1) that is always the same for an attempt."""
    return zlib.crc32(attempt_id.encode()) / 2**32


def _play(ask: Ask, options: Options, latency_s: float) -> Iterator[Step]:
    if latency_s:
        yield Pause(latency_s)
    if ask.operation is not Operation.MESSAGES:
        yield drills.JSON
        yield Data(_count(ask) if ask.operation is Operation.COUNT_TOKENS else _listing())
        return
    asked = _asked(ask.request.body)
    answer = _answer(ask, options, asked)
    pause_s = 1 / options.speed if options.speed else 0.0
    yield Head(200, ((b"request-id", b"req_simulated_" + ask.attempt_id.encode()), *_head(ask).headers))
    if not ask.request.stream:
        if pause_s:
            yield Pause(pause_s * answer.output_tokens)
        yield Data(answer.message())
        return
    for frame, is_token in answer.frames():
        if is_token and pause_s:
            yield Pause(pause_s)
        yield Data(frame)


def _head(ask: Ask) -> Head:
    return drills.STREAM if ask.request.stream else drills.JSON


def _input_tokens(ask: Ask) -> int:
    return max(1, len(ask.request.body) // BYTES_PER_TOKEN)


def _count(ask: Ask) -> bytes:
    return msgspec.json.encode({"input_tokens": _input_tokens(ask)})


def _listing() -> bytes:
    models = [
        {"type": "model", "id": name, "display_name": f"{name} (simulated)", "created_at": "2026-01-01T00:00:00Z"}
        for name in MODELS
    ]
    return msgspec.json.encode({"data": models, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]})


def _asked(body: bytes) -> _Asked:
    """Read what matters of a request; what can't be read is taken for not asked."""
    try:
        return msgspec.json.decode(body, type=_Asked)
    except (msgspec.MsgspecError, RecursionError):
        return _Asked()


def _answer(ask: Ask, options: Options, asked: _Asked) -> FakeMessage:
    blocks: list[Block] = []
    if options.thinking:
        blocks.append(Thinking("The user asks something. I am only simulated, so I say so.", signed({})))
    blocks.append(Text(options.answer or _introduction(ask)))
    if tool := _tool(options, asked):
        blocks.append(ToolUse(f"toolu_{_id(ask)}", tool.name, _arguments(tool)))
    stop_reason = "tool_use" if tool else "end_turn"
    spent = sum(map(tokens, blocks))
    if asked.max_tokens is not None and 0 < asked.max_tokens < spent:
        blocks, stop_reason = _shortened(blocks, asked.max_tokens), "max_tokens"
        spent = asked.max_tokens
    return FakeMessage(f"msg_{_id(ask)}", ask.model, tuple(blocks), stop_reason, _input_tokens(ask), spent)


def _id(ask: Ask) -> str:
    """Return the attempt's id as real providers take ids: the conversation may go on with one of them."""
    return ask.attempt_id.replace(".", "_")


def _introduction(ask: Ask) -> str:
    return (
        f"This is a simulated answer from '{ask.provider.name}' (model {ask.model}). No model was asked and nothing "
        "was sent anywhere. Configure providers.yaml to be answered by a real one: copy providers.example.yaml, "
        "enter a provider with its key, and the balancer takes it over while it runs."
    )


def _arguments(tool: _Tool) -> Any:
    arguments = specimen(tool.input_schema)
    return arguments if isinstance(arguments, dict) else {}


def _tool(options: Options, asked: _Asked) -> _Tool | None:
    """Return the tool to use, if one is."""
    choice = asked.tool_choice or _Choice()
    usable = [tool for tool in asked.tools if tool.input_schema is not None and tool.name]
    named = [tool for tool in usable if tool.name == choice.name]
    match choice.type:
        case "none":
            return None
        case "tool":
            return named[0] if named else None
        case "any":
            return usable[0] if usable else None
        case _:
            wanted = options.tool_use and not _ends_with_tool_result(asked)
            return usable[0] if wanted and usable else None


def _ends_with_tool_result(asked: _Asked) -> bool:
    """Say whether the tool was used already: a second use would go on for ever."""
    try:
        last = msgspec.json.decode(asked.messages[-1], type=_Message) if asked.messages else _Message()
    except (msgspec.MsgspecError, RecursionError):
        return False
    return isinstance(last.content, list) and any(block.type == "tool_result" for block in last.content)


def _shortened(blocks: list[Block], limit_tokens: int) -> list[Block]:
    """Cut an answer off where `max_tokens` ends it; a tool's arguments are left out whole."""
    left = limit_tokens
    kept: list[Block] = []
    for block in blocks:
        if isinstance(block, ToolUse) or left <= 0:
            break
        text = "".join(words(block.text)[:left])
        left -= len(words(text))
        kept.append(Text(text) if isinstance(block, Text) else Thinking(text, block.signature))
    return kept


DIALECT = Simulated()
