"""Who is asked for a batch, a file or a skill, and what of an answer a client may see."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from balancer.model import Broken, Candidate, Outcome, Provider, Refused, ResourceRequest, Route, Stage
from balancer.policy.classify import judge_of
from balancer.policy.exhausted import RETRY_AFTER_MIN_S, ErrorReply

NOWHERE = float("inf")
"""The priority of a provider that is in no route."""


def by_priority(providers: Mapping[str, Provider], routes: Iterable[Route]) -> list[Provider]:
    """Return the enabled providers by the best priority that a route gives them, then in the order of the file."""
    best: dict[str, float] = {}
    for route in routes:
        for target in route.targets:
            if target.enabled:
                best[target.provider] = min(best.get(target.provider, NOWHERE), target.priority)
    enabled = [provider for provider in providers.values() if provider.enabled]
    return sorted(enabled, key=lambda provider: best.get(provider.name, NOWHERE))


class Follows(enum.Enum):
    """What follows from an answer."""

    GIVE = "give"
    """The client gets it."""
    ELSEWHERE = "elsewhere"
    """Another provider may keep what is asked for."""
    HIDE = "hide"
    """The balancer's own key was refused: the client would take it for its own."""


_NOT_THERE = frozenset({404, 405, 501})
"""How providers say that they don't have something, or not even its path."""


def follows(status: int, *, by_id: bool, last: bool, passthrough: bool) -> Follows:
    """Say what follows from an answer's status.

    `by_id`: one resource was asked for; `last`: nobody else may keep it; `passthrough`: with the client's own key.
    """
    if status in _NOT_THERE and by_id and not last:
        return Follows.ELSEWHERE
    return Follows.HIDE if status in (401, 403) and not passthrough else Follows.GIVE


def asked(request: ResourceRequest, able: list[Candidate], usable: list[Candidate]) -> list[Candidate]:
    """Return who may be asked, one after the other, where it is not known who keeps what the request is about.

    `able` are all that could be asked at all, by priority; `usable` those of them that don't cool down.
    """
    if request.resource_id is None and request.method != b"GET":  # it makes something
        return usable or able[:1]
    if request.resource_id is not None and request.method == b"GET":  # reading changes nothing: it is looked for
        return able
    return able[:1]


def goes_on(request: ResourceRequest, outcome: Outcome) -> bool:
    """Say whether the next provider may be asked: never, where this one may have done what was asked."""
    match outcome:
        case Refused(fault=fault):
            return fault.status in _NOT_THERE or (fault.reply is not None and fault.reply.status in _NOT_THERE)
        case Broken(stage=Stage.CONNECT):
            return request.resource_id is None or request.method == b"GET"
        case Broken(stage=Stage.WAIT):
            return request.method == b"GET"
    return False


def refused(status: int) -> str:
    """Return the word of `RequestEnded.outcome` for a refusal that the client gets as it came."""
    return "failed" if status >= 500 or status == 429 else "client_error"


def unanswered(request: ResourceRequest, candidate: Candidate, outcome: Outcome, words: str = "") -> ErrorReply:
    """Return what to tell a client that has nothing yet. `words` are the provider's own."""
    name, reason = candidate.provider.name, judge_of(candidate, outcome).reason
    if isinstance(outcome, Refused):
        said = f": {words}" if words else ""
        message = f"{name} refused the balancer's key: {reason}{said}"
        return ErrorReply(503, "api_error", message, retrying_helps=False, quotes=(words,) if words else ())
    if isinstance(outcome, Broken) and outcome.stage is not Stage.CONNECT and request.method != b"GET":
        message = f"{name}: {reason}; the request was sent and may have been carried out: look before you repeat it"
        return ErrorReply(502, "api_error", message, retrying_helps=False)
    return ErrorReply(503, "api_error", f"{name}: {reason}", RETRY_AFTER_MIN_S)


_RESULTS_URL = re.compile(
    rb'("results_url"\s{0,8}:\s{0,8}")https?://[^"\s?]{0,2048}?(/v1/messages/batches/[^"\s]{1,512}")'
)


def with_own_addresses(body: bytes) -> bytes:
    """Return an answer about batches with addresses that lead here.

    `results_url` names the provider's host. SDKs follow it, past the balancer and with the key that is for the
    balancer; they take one that begins with the path as well.
    """
    return _RESULTS_URL.sub(rb"\1\2", body)


def id_of(body: bytes) -> str | None:
    """Return the id in the answer to a request that has made something; None: there is none."""
    try:
        return msgspec.json.decode(body, type=_Made).id
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


class _Made(msgspec.Struct):
    id: str


def without_foreign(body: bytes, is_foreign: Callable[[str], bool]) -> bytes:
    """Return a list without the entries that are another client's; `body` itself where there are none."""
    try:
        listed = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return body
    entries = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(entries, list):
        return body
    own = [entry for entry in entries if not _is_foreign(entry, is_foreign)]
    return body if len(own) == len(entries) else msgspec.json.encode({**listed, "data": own})


def _is_foreign(entry: Any, is_foreign: Callable[[str], bool]) -> bool:
    name = entry.get("id") if isinstance(entry, dict) else None
    return isinstance(name, str) and is_foreign(name)
