"""What a provider type must be able to do.

A provider type is one file in `dialects/`, found by its name, that holds one object `DIALECT`
fulfilling `Dialect`. It is pure: it never awaits, reads no clock, opens nothing. The driver
(`relay.py`) runs its flow, plays bytes into its decoder, and asks it what an error means.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol, TypeAlias

import msgspec

from balancer.headers import Headers
from balancer.model import Candidate, Fault, Operation, Piece, Provider, Reply, Request, Usage, WireRequest


class Ask(msgspec.Struct, frozen=True):
    """Everything that a dialect may know when it is to ask a provider something."""

    request: Request
    candidate: Candidate
    operation: Operation
    memory: dict[str, Any]
    """What this type has learnt about this provider (lessons, tokens, threads). The fleet keeps
    it by the provider's name across requests and reloads; the dialect alone gives it meaning."""
    wall: float = 0.0
    """Seconds since the epoch, for what has a date (token expiry, a lesson's age)."""
    attempt_id: str = ""
    """Fresh per attempt, for ids that must not repeat."""
    attempt_state: dict[str, Any] = msgspec.field(default_factory=dict)
    """What a flow leaves for the decoder of this attempt; nobody else reads it."""

    def __repr__(self) -> str:  # memory and scratch hold minted tokens
        return f"Ask({self.request.id!r}, {self.candidate.provider.name!r}, {self.model!r})"

    @property
    def provider(self) -> Provider:
        return self.candidate.provider

    @property
    def model(self) -> str:
        """The model name that the provider is asked for."""
        return self.candidate.model


class Incapable(Exception):
    """Raised by `Dialect.flow` before anything was sent: this provider can't take this request.

    `str(error)` names the block or field, the provider and the remedy. The driver goes on to the
    next provider, or answers 400 with this text when there is none.
    """


class FlowFailed(Exception):
    """Raised by `Dialect.flow` when an errand failed (say, no token could be minted)."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


Flow: TypeAlias = Generator[WireRequest, Reply, None]
"""Requests to send, one after the other; each `yield` is told what came back.

For an errand (`WireRequest.side_request`) the reply is whole; one that could not be exchanged at all comes
back with status 0 and the cause, in a word, as its body. For the request proper the reply is the
head, with the body only where the status is not 2xx. The last non-errand reply before the flow
ends is the answer: the driver decodes it if it was 2xx, else asks `Dialect.fault`. Yielding
again after a refusal (repaired body, fresh token) drops that refusal."""


class Decoder(Protocol):
    """Turns the provider's bytes into pieces for the client. Raises nothing on bad input."""

    complete: bool
    """The answer has ended as an answer ends (`message_stop`, a whole JSON message)."""

    headers: Headers
    """Lines for the head of the client's answer."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was dropped, repaired or rotated on the way; known when the answer is complete."""
        ...

    @property
    def ending(self) -> bool | None:
        """All is there but the end, which is not to be waited for much longer. None: this type never knows."""
        ...

    def feed(self, data: bytes) -> list[Piece]:
        """Return what `data` completes. A fault inside the answer is a piece with `error`."""
        ...

    def end(self) -> list[Piece]:
        """The provider's body has ended cleanly: return what is left.

        An answer that is not complete then is a piece with `error` (truncated, empty, not a
        message): never a forged end.
        """
        ...


class Dialect(Protocol):
    """One provider type."""

    Options: type[Any]
    """A frozen pydantic model with `extra="forbid"`: the keys under `<type>_config`. All optional.

    Its `max_concurrency`, if it has one, stands for the entry's `max_in_flight` where that is not
    given; its `remarks` are warnings that are shown when the file is read."""

    default_base_url: str | None
    """Where this type's service lives when the file names no `base_url`; None: it must."""

    def flow(self, ask: Ask) -> Flow:
        """Ask the provider. Raises `Incapable` or `FlowFailed`, also between yields."""
        ...

    def decoder(self, ask: Ask, head: Reply) -> Decoder:
        """Return the decoder for a 2xx answer with this head.

        For `MESSAGES` the pieces are SSE frames of the Messages API if `ask.request.stream`, else
        one JSON message. For `COUNT_TOKENS` one JSON object `{"input_tokens": n}`. For `MODELS`
        one JSON object in the Messages API's list shape.
        """
        ...

    def fault(self, ask: Ask, reply: Reply) -> Fault:
        """Say what an answer that is not 2xx means. `Fault.reply` is what a client would get."""
        ...

    def supports(self, operation: Operation) -> bool:
        """Whether a provider of this type can be asked this at all."""
        ...


__all__ = ["Ask", "Candidate", "Decoder", "Dialect", "Fault", "Flow", "FlowFailed", "Headers", "Incapable", "Usage"]
