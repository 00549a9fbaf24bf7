"""Asking each provider something that costs nothing: its models, or how many tokens a word has."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import msgspec

from balancer import dialects
from balancer.config import Config
from balancer.dialect import Ask, FlowFailed, Incapable
from balancer.model import Candidate, Fault, Operation, Provider, Reply, Request
from balancer.policy.classify import in_words
from balancer.redact import scrub, secrets_of
from balancer.transport import Transport, TransportError

WITHIN_S = 15.0
MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of asking one provider."""

    provider: str
    well: bool
    words: str


async def ask_all(config: Config) -> list[Answer]:
    """Ask every provider that is enabled, all at once."""
    transport = Transport()
    try:
        enabled = [provider for provider in config.providers.values() if provider.enabled]
        return list(
            await asyncio.gather(*(_ask(transport, provider, _model(config, provider)) for provider in enabled))
        )
    finally:
        await transport.close()


def _model(config: Config, provider: Provider) -> str:
    """Return a model that the provider is asked for, if the routes name one."""
    targets = [(route, target) for route in config.routes for target in route.targets]
    names = [
        route.pattern if target.model == "passthrough" else target.model
        for route, target in targets
        if target.provider == provider.name
    ]
    return next((name for name in names if "*" not in name and "?" not in name), "claude-sonnet-4-5")


async def _ask(transport: Transport, provider: Provider, model: str) -> Answer:
    began = time.monotonic()
    dialect = dialects.get(provider.type)
    operations = [o for o in (Operation.MODELS, Operation.COUNT_TOKENS) if dialect.supports(o)]
    words = "this type has no question that costs nothing"
    for operation in operations:
        try:
            async with asyncio.timeout(WITHIN_S):
                fault = await _exchange(transport, provider, operation, model)
        except TimeoutError:
            return Answer(provider.name, False, f"no answer within {WITHIN_S:.0f} s")
        except TransportError as error:
            return Answer(provider.name, False, in_words(error.cause, scrub(error.detail, secrets_of(provider))))
        except FlowFailed as error:
            fault = error.fault
        except Incapable as error:
            words = str(error)
            continue
        if fault is None:
            return Answer(provider.name, True, f"answers ({(time.monotonic() - began) * 1000:.0f} ms)")
        words = f"{fault.status} {fault.kind}: {scrub(fault.message, secrets_of(provider))[:300]}".rstrip(": ")
        if provider.passthrough and fault.status in (401, 403):
            return Answer(provider.name, True, "reachable; whether it answers is up to the client's own credential")
        if fault.status not in (404, 405, 501):  # it may only not have this endpoint: ask the other one
            break
    return Answer(provider.name, not operations, words)


async def _exchange(transport: Transport, provider: Provider, operation: Operation, model: str) -> Fault | None:
    """Ask one question, as the relay would. None: it was answered."""
    question = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    body = b"" if operation is Operation.MODELS else msgspec.json.encode(question)
    request = Request("check", operation, b"", ((b"content-type", b"application/json"),), body, model, stream=False)
    dialect = dialects.get(provider.type)
    ask = Ask(request, Candidate(provider, model), operation, {}, time.time(), "check")
    flow = dialect.flow(ask)
    wire = next(flow)
    while True:
        connect_s = provider.timeouts.connect_s
        async with transport.exchange(wire, connect_s=connect_s, head_s=WITHIN_S) as answer:
            reply = Reply(answer.status, answer.headers, await answer.read_whole(MAX_BYTES, WITHIN_S))
        try:
            wire = flow.send(reply)
        except StopIteration:
            break
    if not 200 <= reply.status < 300:
        return dialect.fault(ask, reply)
    decoder = dialect.decoder(ask, reply)
    pieces = [*decoder.feed(reply.body), *decoder.end()]
    return next((piece.error for piece in pieces if piece.error), None)
