"""What a provider type must be able to do.

A provider type is one file or folder in `dialects/`, found by its name, that holds one object `DIALECT` fulfilling
`Dialect`. It is pure: it never awaits, reads no clock, opens nothing. The driver (`relay`) steps its flow, feeds bytes
to its decoder, and asks it what an error means.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

import msgspec
from pydantic import BaseModel

from balancer.headers import Headers
from balancer.model import Candidate, Fault, Operation, Piece, Provider, Reply, Request, WireRequest

T = TypeVar("T")


class TypedState(msgspec.Struct, eq=False):
    """Keeps objects for a provider type, at most one of each class. Nobody else knows what they mean."""

    kept: dict[type[object], object] = {}
    """By class. To be read only, and where a call of a method would be too dear."""

    def of(self, kind: type[T]) -> T:
        """Return the object of this class; a new one is made and kept where there is none."""
        found = self.kept.get(kind)
        if found is None:
            found = self.kept.setdefault(kind, kind())  # another thread may have made it in the meantime
        return cast("T", found)

    def get(self, kind: type[T]) -> T | None:
        """Return the object of this class, or None."""
        return cast("T | None", self.kept.get(kind))

    def put(self, value: object) -> None:
        """Keep `value` in the place of the object of its class."""
        self.kept[type(value)] = value

    def __repr__(self) -> str:  # tokens are kept here
        return f"TypedState({', '.join(kind.__name__ for kind in self.kept)})"


class Ask(msgspec.Struct, frozen=True):
    """Everything that a dialect may know when it is to ask a provider something."""

    request: Request
    candidate: Candidate
    operation: Operation
    provider_state: TypedState
    """What this type has learnt about this provider (lessons, tokens, threads). It is kept across requests and reloads,
    by the provider's name."""
    wall: float = 0.0
    """Seconds since the epoch, for what has a date (token expiry, a lesson's age)."""
    attempt_id: str = ""
    """Fresh per attempt, for ids that must not repeat."""
    attempt_state: TypedState = msgspec.field(default_factory=TypedState)
    """What a flow leaves for the decoder of this attempt."""

    def __repr__(self) -> str:  # a request holds a conversation
        return f"Ask({self.request.id!r}, {self.candidate.provider.name!r}, {self.model!r})"

    @property
    def provider(self) -> Provider:
        """The provider that is asked."""
        return self.candidate.provider

    @property
    def model(self) -> str:
        """The model name that the provider is asked for."""
        return self.candidate.model

    def options(self, kind: type[T]) -> T:
        """Return the provider's options, which are of the dialect's own class; its defaults where there are none."""
        options = self.candidate.provider.options
        return options if isinstance(options, kind) else kind()


class Stored(msgspec.Struct, frozen=True):
    """What a decoder leaves in `Ask.attempt_state` when the provider has stored its answer: only it knows that one."""

    name: str


class Incapable(Exception):
    """Raised by `Dialect.flow` before anything was sent: this provider can't take this request.

    `str(error)` names the block or field, the provider and the remedy. The driver goes on to the
    next provider, or answers 400 with this text when there is none.
    """


class FlowFailed(Exception):
    """Raised by `Dialect.flow` when a side request failed (say, no token could be minted)."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


Flow: TypeAlias = Generator[WireRequest, Reply, None]
"""Requests to send, one after the other; each `yield` returns what came back.

For a side request (`WireRequest.side_request`) the reply is whole. One that could not be exchanged at all comes back
with status 0 and the cause, in a word, as its body. For the request proper the reply is the head, with the body only
where the status is not 2xx. The last reply to a request proper before the flow ends is the answer: the driver decodes
it if it was 2xx, else asks `Dialect.fault`. Yielding again after a refusal (a repaired body, a fresh token) drops that
refusal."""


def advance(flow: Flow, reply: Reply) -> WireRequest | None:
    """Return what the flow sends after `reply`; None: it has ended, and `reply` is the answer.

    Raises what the flow raises: `Incapable`, `FlowFailed`. A flow is begun with `next(flow)`.
    """
    try:
        return flow.send(reply)
    except StopIteration:
        return None


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


@runtime_checkable
class Remembers(Protocol):
    """A provider type whose knowledge of a provider is worth keeping over a restart."""

    def remembered(self, provider_state: TypedState) -> dict[str, Any] | None:
        """Return what is to be kept, as JSON; None: nothing. No secret, no word of a conversation."""
        ...

    def remember(self, provider_state: TypedState, saved: object, wall: float) -> None:
        """Take over what was kept, as far as it is in order and still holds. `wall` is now."""
        ...


@runtime_checkable
class Explains(Protocol):
    """A provider type that settles something that its configuration leaves open."""

    def about(self, provider: Provider) -> list[str]:
        """Return what follows from a provider's configuration without standing in it, in words for people."""
        ...


class Dialect(Protocol):
    """One provider type."""

    @property
    def Options(self) -> type[BaseModel]:  # noqa: N802 - it is a class
        """A frozen pydantic model with `extra="forbid"`: the keys under `<type>_config`. All are optional.

        Its `max_concurrency`, if it has one, stands for the entry's `max_in_flight` where that is not given. Its
        `remarks` are warnings that are shown when the file is read.
        """
        ...

    @property
    def default_base_url(self) -> str | None:
        """Where this type's service lives when the file names no `base_url`; None: it must."""
        ...

    @property
    def converts(self) -> float:
        """How long a flow works on a whole request before it sends it, as a multiple of `relay.conversion`'s estimate.

        0: it does not convert it. For a long request that is done in a thread: such a flow may be stepped by any
        thread, by one at a time; what it shares with other flows must bear that.
        """
        ...

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
        """Return the fault of an answer that is not 2xx. `Fault.reply` is what a client would get."""
        ...

    def supports(self, operation: Operation) -> bool:
        """Return whether a provider of this type can be asked this at all."""
        ...

    @property
    def checks_actions(self) -> bool:
        """Whether providers of this type may do the check that `safeguards` asks for."""
        ...

    def describe(self, provider_state: TypedState, options: object, wall: float) -> dict[str, Any] | None:
        """Return what `/providers` shows of what was learnt; None: nothing. No secret, no word of a conversation."""
        ...
