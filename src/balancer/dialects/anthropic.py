"""Providers that speak the Messages API themselves: Anthropic, and those compatible with it.

The body goes out byte for byte, with only the model's name spliced in where it differs. Headers
are an open list (Claude Code's contract for gateways): all go along, but for what belongs to one
connection, and for credentials, which are the provider's own.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import compress
from typing import Any

from pydantic import BaseModel, ConfigDict

from balancer.dialect import Ask, Decoder, Flow, TypedState
from balancer.headers import Headers, names_of
from balancer.model import Fault, Operation, Reply, WireRequest
from balancer.wire import credentials
from balancer.wire.errors import fault_of
from balancer.wire.messages import spliced
from balancer.wire.signatures import strip_foreign_thinking
from balancer.wire.stream import StreamDecoder
from balancer.wire.whole import MessageDecoder

DROPPED = frozenset(
    {
        # hop by hop (RFC 9110, section 7.6.1)
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        # the transport's own
        b"host",
        b"content-length",
        b"accept-encoding",
        b"expect",
        # the client's own business
        b"authorization",
        b"x-api-key",
        b"cookie",
        b"origin",
        b"referer",
        b"forwarded",
        b"via",
        b"x-real-ip",
    }
)
DROPPED_PREFIXES = (b"x-forwarded-", b"x-balancer-", b"sec-")

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


def forwarded(headers: Headers, names: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    """Return the client's headers that may go along to a provider of this type."""
    mask, named_at, versioned = _sorted_out(names)
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
def _sorted_out(names: tuple[bytes, ...]) -> tuple[tuple[bool, ...], tuple[int, ...], bool]:
    """Say which headers go along, where `connection` is among them, and whether `anthropic-version` is there.

    A client sends the same names again and again: this is remembered by all of them at once.
    """
    mask = tuple(name not in DROPPED and not name.startswith(DROPPED_PREFIXES) for name in names)
    named_at = tuple(at for at, name in enumerate(names) if name == b"connection")
    return mask, named_at, DEFAULT_VERSION[0] in names


class Anthropic:
    """The type `anthropic`."""

    Options = Options
    default_base_url: str | None = "https://api.anthropic.com"
    converts = False

    def flow(self, ask: Ask) -> Flow:
        yield request(ask)

    def decoder(self, ask: Ask, head: Reply) -> Decoder:
        if ask.request.stream and ask.operation.answers:
            return StreamDecoder()
        return MessageDecoder(ask.operation)

    def fault(self, ask: Ask, reply: Reply) -> Fault:
        return fault_of(reply, ask.wall)

    def supports(self, operation: Operation) -> bool:
        return True

    def describe(self, provider_state: TypedState, options: object, wall: float) -> dict[str, Any] | None:
        return None


def request(ask: Ask) -> WireRequest:
    """Return what goes out for `ask`."""
    provider = ask.provider
    target = _target(provider.base_path, ask.operation)
    if ask.request.query:
        target += b"?" + ask.request.query
    lines = forwarded(ask.request.headers, ask.request.names or names_of(ask.request.headers))
    lines += credentials.headers_for(provider, ask.request)
    if provider.headers:
        over = {name for name, _ in provider.headers}
        lines = [pair for pair in lines if pair[0] not in over] + list(provider.headers)
    if ask.operation.answers or ask.operation.counts:
        return WireRequest(provider.origin, b"POST", target, tuple(lines), body(ask))
    return WireRequest(provider.origin, b"GET", target, tuple(lines))


@lru_cache(maxsize=256)
def _target(base_path: str, operation: Operation) -> bytes:
    return base_path.encode() + _PATHS[operation]


def body(ask: Ask) -> tuple[bytes | memoryview, ...]:
    """Return the client's body, with this provider's name of the model in it."""
    whole = strip_foreign_thinking(ask.request.body)
    if ask.model == ask.request.model:
        return (whole,)
    return spliced(whole, ask.model)


DIALECT = Anthropic()
