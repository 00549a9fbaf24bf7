"""Asking each provider something that costs nothing: its models, or how many tokens a word has."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import msgspec

from balancer import dialects
from balancer.config import Config
from balancer.dialect import Ask, FlowFailed, Incapable
from balancer.model import Candidate, Fault, Operation, Provider, Request
from balancer.policy.classify import in_words
from balancer.redact import scrub, secrets_of
from balancer.relay.exchange import FlowRunner
from balancer.transport import Transport, TransportError

WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of asking one provider."""

    provider: str
    well: bool
    words: str


async def ask_all(config: Config) -> list[Answer]:
    """Ask every provider that is enabled, all at once."""
    transport = Transport()
    flows = FlowRunner(transport, time.monotonic)
    try:
        enabled = [provider for provider in config.providers.values() if provider.enabled]
        return list(await asyncio.gather(*(_ask(flows, provider, _model(config, provider)) for provider in enabled)))
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


async def _ask(flows: FlowRunner, provider: Provider, model: str) -> Answer:
    began = time.monotonic()
    dialect = dialects.get(provider.type)
    operations = [o for o in (Operation.MODELS, Operation.COUNT_TOKENS) if dialect.supports(o)]
    words = "this type has no question that costs nothing"
    for operation in operations:
        try:
            async with asyncio.timeout(WITHIN_S):
                answered = await flows.whole(
                    dialect, _question(provider, operation, model), time.monotonic() + WITHIN_S
                )
        except TimeoutError:
            return Answer(provider.name, False, f"no answer within {WITHIN_S:.0f} s")
        except TransportError as error:
            return Answer(provider.name, False, in_words(error.cause, scrub(error.detail, secrets_of(provider))))
        except FlowFailed as error:
            answered = error.fault
        except Incapable as error:
            words = str(error)
            continue
        if not isinstance(answered, Fault):
            return Answer(provider.name, True, f"answers ({(time.monotonic() - began) * 1000:.0f} ms)")
        fault = answered
        words = f"{fault.status} {fault.kind}: {scrub(fault.message, secrets_of(provider))[:300]}".rstrip(": ")
        if provider.passthrough and fault.status in (401, 403):
            return Answer(provider.name, True, "reachable; whether it answers is up to the client's own credential")
        if fault.status not in (404, 405, 501):  # it may only not have this endpoint: ask the other one
            break
    return Answer(provider.name, not operations, words)


def _question(provider: Provider, operation: Operation, model: str) -> Ask:
    question = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    body = b"" if operation is Operation.MODELS else msgspec.json.encode(question)
    request = Request("check", operation, b"", ((b"content-type", b"application/json"),), body, model, stream=False)
    return Ask(request, Candidate(provider, model), operation, {}, time.time(), "check")
