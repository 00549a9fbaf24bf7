"""What happened, as values. Logs, metrics and the dashboard listen; listeners never talk back.

Nothing in an event is secret: providers' words are redacted before they get here, and prompts,
answers, headers and credentials are never part of one. `wall` is seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, get_args

import msgspec

from balancer.model import Usage


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One provider asked once on behalf of a request."""

    provider: str
    model: str
    outcome: str
    """`completed`, `refused`, `broken`, `unfit`, `abandoned`."""
    stage: str
    """`connect`, `wait`, `stream`; how far it got."""
    duration_s: float
    status: int | None = None
    reason: str = ""
    """In plain words, without URLs or secrets; empty when it completed."""
    drill: bool = False
    """It met a fault that was injected (`POST /admin/drill`): nothing was sent to the provider."""


class RequestBegan(msgspec.Struct, frozen=True, tag="request_began", omit_defaults=True):
    """A request passed the edge and its head was read."""

    id: str
    wall: float
    operation: str
    model: str
    stream: bool
    body_bytes: int
    client: str = ""
    """Who asks: a short hash of the credential that it sent. Empty where it sent none."""
    user_agent: str = ""
    """How the client names itself, cut."""


class RequestEnded(
    msgspec.Struct,
    frozen=True,
    tag="request_ended",
    omit_defaults=True,
    rename={"first_content_s": "first_substance_s"},  # the name in the log is public
):
    """The client has its answer, or has left."""

    id: str
    wall: float
    operation: str
    model: str
    stream: bool
    status: int
    outcome: str
    """`ok`, `client_error`, `failed`, `broken_stream`, `abandoned`."""
    duration_s: float
    provider: str = ""
    provider_model: str = ""
    attempts: tuple[Attempt, ...] = ()
    usage: Usage = Usage()
    first_content_s: float | None = None
    """Time to first substance (TTFT), from the request's arrival."""
    queued_s: float = 0.0
    dedup: str = ""
    """`follower`: it got the answer to an identical request; `leader`: such a request got its answer; else empty."""
    pinned: bool = False
    """The conversation was pinned to the provider that was asked first."""
    reason: str = ""
    """Why it did not end well, in plain words."""
    notes: tuple[str, ...] = ()
    """What a dialect dropped, repaired or rotated on the way."""
    key: str = ""
    """The name of the balancer's key that the client sent; empty where that has none."""
    client: str = ""
    """Who asked, as in `RequestBegan`."""
    session: str = ""
    """The client's session, a hash; empty where it names none."""
    project: str = ""
    """What the client's header `x-project` says, cut."""
    route: str = ""
    """The pattern of the route that the model matched."""


class ReasoningLeft(msgspec.Struct, frozen=True, tag="reasoning_left", omit_defaults=True):
    """A conversation with thinking went on at a provider of another organization: there its thinking does not count."""

    id: str
    """The request's."""
    wall: float
    previous: str
    """The provider of the conversation so far."""
    provider: str
    """The one that answers now."""
    model: str


class CooldownStarted(
    msgspec.Struct,
    frozen=True,
    tag="provider_rested",
    omit_defaults=True,
    rename={"cooldown_s": "rest_s", "needs_operator": "long"},  # the names in the log are public
):
    """A provider (or one of its models, or its counting) has failed, and gets no requests for a while."""

    wall: float
    provider: str
    cooldown_s: float
    reason: str
    failures: int
    model: str = ""
    """Where `scope` is `model`: which one."""
    needs_operator: bool = False
    """Needs a human: key refused, no credit."""
    scope: str = "provider"
    """`provider`, `model`, or `counting`: its counting of tokens."""
    remedy: str = ""
    """Where it needs a human: what is wrong and what to do, in plain words."""


class ProviderRecovered(msgspec.Struct, frozen=True, tag="provider_recovered", omit_defaults=True):
    """A provider that had been failing gave a good answer."""

    wall: float
    provider: str
    model: str = ""
    """Where `scope` is `model`: which one."""
    scope: str = "provider"
    """`provider`, `model`, or `counting`: its counting of tokens."""


class Reloaded(msgspec.Struct, frozen=True, tag="reloaded", omit_defaults=True):
    """A changed configuration was applied."""

    wall: float
    generation: int
    changes: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    """Settings that are in the file and not in effect before the next start."""


class ReloadRefused(msgspec.Struct, frozen=True, tag="reload_refused", omit_defaults=True):
    """A changed configuration can't be used; the old one stays, whole."""

    wall: float
    problems: tuple[str, ...]


class Drilled(msgspec.Struct, frozen=True, tag="drilled", omit_defaults=True):
    """A fault was injected into a provider's answers, or is no longer (`fault` is empty then)."""

    wall: float
    provider: str
    fault: str
    until: str


class ProviderWoken(msgspec.Struct, frozen=True, tag="provider_woken", omit_defaults=True):
    """A provider's cooldowns were ended before their time."""

    wall: float
    provider: str
    by: str
    """`operator`: by hand. `probe`: what costs nothing was answered. `drill`: an injected fault had caused them."""


class ProviderPaused(msgspec.Struct, frozen=True, tag="provider_paused", omit_defaults=True):
    """A person has taken a provider out: it gets no requests until it is resumed."""

    wall: float
    provider: str


class ProviderResumed(msgspec.Struct, frozen=True, tag="provider_resumed", omit_defaults=True):
    """A person has put a paused provider back."""

    wall: float
    provider: str


class WorkerEnded(msgspec.Struct, frozen=True, tag="worker_ended", omit_defaults=True):
    """One of several workers has ended that should not have, and another is started in its place."""

    wall: float
    worker: int
    """Its number."""
    pid: int
    reason: str
    """`start`: it could not start. `crash`: it ended by itself. `hang`: it was killed. `signal`: somebody ended it."""
    how: str
    """Its exit code, or the signal that ended it."""
    wait_s: float = 0.0
    """How long it takes until the next one is started."""


Event: TypeAlias = (
    RequestBegan
    | RequestEnded
    | ReasoningLeft
    | CooldownStarted
    | ProviderRecovered
    | ProviderWoken
    | ProviderPaused
    | ProviderResumed
    | Reloaded
    | ReloadRefused
    | Drilled
    | WorkerEnded
)

Listener: TypeAlias = Callable[[Event], None]
"""Takes an event, returns at once, raises nothing."""


class Bus:
    """Hands every event to those who listen to its kind, in the order they were added."""

    def __init__(self) -> None:
        self._listeners: list[tuple[Listener, tuple[type[Event], ...]]] = []
        self._of: dict[type[Event], tuple[Listener, ...]] = {}

    def add(self, listener: Listener, kinds: tuple[type[Event], ...] = ()) -> None:
        """Call `listener` with these kinds of events; with all, where none are named."""
        self._listeners.append((listener, kinds))
        self._of = {
            kind: tuple(taker for taker, wanted in self._listeners if not wanted or kind in wanted)
            for kind in get_args(Event)
        }

    def emit(self, event: Event) -> None:
        for listener in self._of.get(type(event), ()):
            listener(event)
