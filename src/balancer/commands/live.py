"""Asking each provider: its list of models, or how many tokens a word has (both cost nothing), or one tiny message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from balancer import dialects
from balancer.commands import listed
from balancer.config import Config
from balancer.dialect import Ask, FlowFailed, Incapable, TypedState
from balancer.model import Candidate, Fault, Operation, Provider, Request, WireRequest
from balancer.policy.classify import in_words
from balancer.redact import scrub, secrets_of
from balancer.relay.exchange import FlowRunner
from balancer.transport import Transport, TransportError, UpstreamResponse

WITHIN_S = 15.0
MESSAGE_WITHIN_S = 60.0
"""A server of your own may have to load a model first."""
MOST_TOKENS = 16
"""What a message may answer at most."""

_NOT_THERE = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of asking one provider."""

    provider: str
    well: bool | None
    """None: what costs nothing does not tell."""
    words: str
    warnings: tuple[str, ...] = ()
    """What its list of models says about the routes."""


@dataclass(slots=True)
class _Talk:
    """What one provider was asked, and said."""

    provider: Provider
    model: str
    asked: str = ""
    """Method and URL of the last question, without its query."""
    status: int = 0
    body: bytes = b""
    absent: list[str] = field(default_factory=list)
    """The questions for which there is no endpoint."""


async def ask_all(config: Config, *, message: bool = False, only: Collection[str] | None = None) -> list[Answer]:
    """Ask every provider that is enabled (`only`: of these), all at once. `message`: send one tiny message too."""
    transport = Transport()
    try:
        asked = [p for p in config.providers.values() if p.enabled and (only is None or p.name in only)]
        return list(await asyncio.gather(*(_ask(transport, config, provider, message) for provider in asked)))
    finally:
        await transport.close()


async def _ask(transport: Transport, config: Config, provider: Provider, message: bool) -> Answer:
    talk = _Talk(provider, listed.model_to_ask_for(config, provider))
    if Operation.MODELS not in list(_operations(provider, message)):
        return await _first_answer(transport, talk, message)
    answer = await _first_answer(transport, talk, message=False)
    warnings: tuple[str, ...] = ()
    names = listed.names_in(talk.body) if answer.well and not talk.absent else None
    if names is not None and provider.type != "simulated":
        warnings = tuple(scrub(said, secrets_of(provider)) for said in listed.compared(config, provider, names))
    if message and (answer.well is not False):
        answer = await _first_answer(transport, talk, message=True)
    return Answer(answer.provider, answer.well, answer.words, warnings)


def _operations(provider: Provider, message: bool) -> Iterator[Operation]:
    wanted = (Operation.MESSAGES,) if message else (Operation.MODELS, Operation.COUNT_TOKENS)
    return (operation for operation in wanted if dialects.get(provider.type).supports(operation))


async def _first_answer(transport: Transport, talk: _Talk, message: bool) -> Answer:
    """Ask one question after the other, until one has an answer."""
    provider, words = talk.provider, "this type has no question that costs nothing"
    within_s = MESSAGE_WITHIN_S if message else WITHIN_S
    for operation in _operations(provider, message):
        began = time.monotonic()
        try:
            async with asyncio.timeout(within_s):
                fault = await _exchange(transport, talk, operation)
        except TimeoutError:
            return Answer(provider.name, False, f"no answer within {within_s:.0f} s{_place(talk)}")
        except TransportError as error:
            said = in_words(error.cause, scrub(error.detail, secrets_of(provider)))
            return Answer(provider.name, False, f"{said}{_place(talk)}")
        except FlowFailed as error:
            fault = error.fault
        except Incapable as error:
            words = str(error)
            continue
        if fault is None:
            what = f"answers a message as {talk.model}" if message else "answers"
            return Answer(
                provider.name, True, f"{what} ({(time.monotonic() - began) * 1000:.0f} ms{_place(talk, '; ')})"
            )
        if provider.passthrough and fault.status in (401, 403):
            said = "reachable; whether it answers is up to the client's own credential"
            return Answer(provider.name, True, f"{said}{_place(talk)}")
        if message or talk.status not in _NOT_THERE:
            words = f"{fault.status} {fault.kind}: {scrub(fault.message, secrets_of(provider))[:300]}".rstrip(": ")
            return Answer(provider.name, False, f"{words}{_place(talk)}")
        talk.absent.append(f"{talk.asked} ({talk.status})")
    if talk.absent:
        words = f"there is no {' and no '.join(talk.absent)}, so"
        return Answer(provider.name, None, f"{words} only a message, which costs, can tell: check --live=message")
    return Answer(provider.name, None, f"{words}; check --live=message sends it one tiny message")


def _place(talk: _Talk, before: str = " (") -> str:
    """Say what was asked, where anything was sent."""
    return f"{before}{talk.asked}{')' if before == ' (' else ''}" if talk.asked else ""


async def _exchange(transport: Transport, talk: _Talk, operation: Operation) -> Fault | None:
    """Ask one question, as the relay would. None: it was answered."""
    provider, model = talk.provider, talk.model
    question: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    if operation is Operation.MESSAGES:
        question |= {"max_tokens": MOST_TOKENS}
    lists = operation is Operation.MODELS
    body = b"" if lists else msgspec.json.encode(question)
    query = b"limit=1000" if lists and provider.type == "anthropic" else b""
    headers = ((b"content-type", b"application/json"),)
    request = Request("check", operation, query, headers, body, model, stream=False)
    ask = Ask(request, Candidate(provider, model), operation, TypedState(), time.time(), "check")
    # One second more than the caller waits: which of the two ends first must not be chance.
    deadline = time.monotonic() + (MESSAGE_WITHIN_S if operation is Operation.MESSAGES else WITHIN_S) + 1
    flows = FlowRunner(_Noting(transport, talk), time.monotonic)
    answer = await flows.whole(dialects.get(provider.type), ask, deadline)
    if isinstance(answer, Fault):
        return answer
    talk.body = answer
    return None


class _Noting:
    """A transport that notes what is asked, and with which status it is answered."""

    def __init__(self, transport: Transport, talk: _Talk) -> None:
        self._transport = transport
        self._talk = talk

    @asynccontextmanager
    async def exchange(self, wire: WireRequest, *, connect_s: float, head_s: float) -> AsyncIterator[UpstreamResponse]:
        self._talk.asked = _url(wire)
        async with self._transport.exchange(wire, connect_s=connect_s, head_s=head_s) as answer:
            self._talk.status = answer.status
            yield answer


def _url(wire: WireRequest) -> str:
    """Return method and URL of a request, without its query; nothing where nothing is sent."""
    if wire.script is not None:
        return ""
    origin, path = wire.origin, wire.target.decode("latin-1").partition("?")[0]
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    port = "" if origin.port == (443 if origin.tls else 80) else f":{origin.port}"
    return f"{wire.method.decode()} {'https' if origin.tls else 'http'}://{host}{port}{path}"
