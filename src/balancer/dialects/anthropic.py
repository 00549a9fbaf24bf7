"""Providers that speak the Messages API themselves: Anthropic, and those compatible with it.

The body goes out byte for byte, with only the model's name spliced in where it differs. Headers
are an open list (Claude Code's contract for gateways): all go along, but for what belongs to one
connection, and for credentials, which are the provider's own.

A provider that refuses `safeguards` is asked once more without it, and that is remembered.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import compress
from typing import Any

import msgspec
from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict

from balancer.dialect import Ask, Decoder, Flow, TypedState
from balancer.headers import Headers, names_of
from balancer.model import Fault, Operation, Provider, Reply, ResourceRequest, WireRequest
from balancer.wire import credentials, safeguards
from balancer.wire.answer import MessageDecoder
from balancer.wire.client_headers import goes_along
from balancer.wire.errors import fault_of
from balancer.wire.history import without_own_thinking
from balancer.wire.messages import spliced
from balancer.wire.stream import StreamDecoder

_PATHS = {
    Operation.MESSAGES: b"/v1/messages",
    Operation.COUNT_TOKENS: b"/v1/messages/count_tokens",
    Operation.MODELS: b"/v1/models",
}

DEFAULT_VERSION = (b"anthropic-version", b"2023-06-01")
"""Sent where the client named none: the API asks for one, plain curl users forget it."""


class Options(BaseModel):
    """This type has no keys of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def forwarded(headers: Headers, names: tuple[bytes, ...], provider: Provider) -> list[tuple[bytes, bytes]]:
    """Return the client's headers that may go along to this provider.

    Credentials stay with whom they are meant for: a header whose name tells of one goes only to providers that get the
    client's own credential, or that list it.
    """
    kept = None if provider.passthrough else provider.forwarded
    mask, named_at, versioned = _sorted_out(names, provider.dropped, kept)
    lines = list(compress(headers, mask))
    for at in named_at:
        words = headers[at][1].lower()
        if words not in (b"keep-alive", b"close"):
            gone = {word.strip() for word in words.split(b",")}
            lines = [pair for pair in lines if pair[0] not in gone]
            versioned = versioned and b"anthropic-version" not in gone
    if not versioned:
        lines.append(DEFAULT_VERSION)
    return lines


@lru_cache(maxsize=256)
def _sorted_out(
    names: tuple[bytes, ...], dropped: frozenset[bytes], kept: frozenset[bytes] | None
) -> tuple[tuple[bool, ...], tuple[int, ...], bool]:
    """Say which headers go along, where `connection` is among them, and whether `anthropic-version` is there.

    `kept` are those that go although their names tell of a credential; None: all do. A client sends the same names
    again and again: this is remembered by all of them at once.
    """
    mask = tuple(goes_along(name, dropped, kept) for name in names)
    named_at = tuple(at for at, name in enumerate(names) if name == b"connection")
    return mask, named_at, DEFAULT_VERSION[0] in names


class Anthropic:
    """The type `anthropic`."""

    Options = Options
    default_base_url: str | None = "https://api.anthropic.com"
    checks_actions = True
    converts = False

    def flow(self, ask: Ask) -> Flow:
        if safeguards.Known in ask.provider_state.kept and (unchecked := _unchecked(ask)) is not None:
            yield request(unchecked)
            return
        reply = yield request(ask)
        if reply.status == 400 or reply.status == 422:
            yield from _without_check(ask, reply)

    def decoder(self, ask: Ask, head: Reply) -> Decoder:
        streams = ask.request.stream and ask.operation.answers
        decoder: Decoder = StreamDecoder() if streams else MessageDecoder(ask.operation)
        if ask.attempt_state.kept or ask.request.asks_check:
            return _about_check(ask, decoder)
        return decoder

    def fault(self, ask: Ask, reply: Reply) -> Fault:
        return fault_of(reply, ask.wall)

    def supports(self, operation: Operation) -> bool:
        return not operation.openai

    def describe(self, provider_state: TypedState, options: object, wall: float) -> dict[str, Any] | None:
        known = provider_state.get(safeguards.Known)
        described = known.described() if known is not None else {}
        return {"safeguards": described} if described else None


# The check of actions


class _Unchecked(msgspec.Struct, frozen=True):
    """What a flow leaves for the decoder where the provider was not asked for the check that the client asks for."""

    kinds: tuple[str, ...]
    notes: tuple[str, ...]


def _unchecked(ask: Ask) -> Ask | None:
    """Return what to ask of a provider that is known to refuse the check; None: all that the client asks."""
    known = ask.provider_state.of(safeguards.Known)
    return _cleaned(ask) if known.refuses(ask.model, ask.wall) else None


def _without_check(ask: Ask, reply: Reply) -> Flow:
    """Ask once more without the check where it was refused. If that was right it is remembered."""
    if not safeguards.is_refused(fault_of(reply, ask.wall)):
        return
    cleaned = _cleaned(ask, "learnt drop:safeguards")
    if cleaned is None:
        return
    reply = yield request(cleaned)
    if reply.status != 400 and reply.status != 422:
        ask.provider_state.of(safeguards.Known).refused(ask.model, ask.wall)


def _cleaned(ask: Ask, *notes: str) -> Ask | None:
    """Return `ask` without the check, and tell the decoder of it; None: the client asks for none."""
    left, dropped = safeguards.without(ask.request)
    if not dropped:
        return None
    ask.attempt_state.put(_Unchecked(safeguards.kinds(ask.request), (*notes, *dropped)))
    return replace(ask, request=left)


def _about_check(ask: Ask, decoder: Decoder) -> Decoder:
    """Return the decoder that adds that there is no verdict, or the one that finds out whether there are verdicts."""
    unchecked = ask.attempt_state.get(_Unchecked)
    if unchecked is not None:
        return safeguards.WithoutVerdict(decoder, unchecked.kinds, unchecked.notes, stream=ask.request.stream)
    known = ask.provider_state.of(safeguards.Known)
    if ask.operation.answers and known.returns(ask.model, ask.wall) is None:
        return safeguards.Watched(decoder, known, ask.model, ask.wall)
    return decoder


def request(ask: Ask) -> WireRequest:
    """Return what goes out for `ask`."""
    provider = ask.candidate.provider
    target = _target(provider.base_path, ask.operation)
    if ask.request.query:
        target += b"?" + ask.request.query
    lines = forwarded(ask.request.headers, ask.request.names or names_of(ask.request.headers), provider)
    lines += credentials.headers_for(provider, ask.request)
    if provider.headers:
        over = {name for name, _ in provider.headers}
        lines = [pair for pair in lines if pair[0] not in over] + list(provider.headers)
    if ask.operation.answers or ask.operation.counts:
        return WireRequest(provider.origin, b"POST", target, tuple(lines), body(ask))
    if isinstance(asked := ask.request, ResourceRequest):
        return WireRequest(provider.origin, asked.method, target + asked.path, tuple(lines), (asked.body,))
    return WireRequest(provider.origin, b"GET", target, tuple(lines))


@lru_cache(maxsize=256)
def _target(base_path: str, operation: Operation) -> bytes:
    return base_path.encode() + _PATHS.get(operation, b"")


def body(ask: Ask) -> tuple[bytes | memoryview, ...]:
    """Return the client's body, with this provider's name of the model in it."""
    whole = without_own_thinking(ask.request.body)
    model = ask.candidate.model
    return (whole,) if model == ask.request.model else spliced(whole, model)


DIALECT = Anthropic()
