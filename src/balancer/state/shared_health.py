"""The health of the providers, of which all workers know the same: a cooldown that one begins holds for all at once.

Whatever changes a provider's health here is told to the others; what they told is learnt before each decision. Of what
two workers have seen at the same moment the later deadline stands. A good answer closes a circuit for those whose
latest failure was known to the worker that got it. A half-open circuit is probed by one request of all workers: who
probes has a lease.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
from msgspec.structs import replace as replace_fields

from balancer.events import Bus
from balancer.model import Candidate, Provider
from balancer.policy.circuit import Health
from balancer.policy.failover import Availability
from balancer.policy.verdicts import Scope, Statement, Verdict
from balancer.sharing.protocol import Fact, Place, Sharing
from balancer.state.entries import HealthKey
from balancer.state.health import HEALTHY, PROVEN_S, HealthTable, needed
from balancer.state.stats import StatsTable

VERSION = 1

KIND = "health"

KNOWN_S = 1.0
"""What was told longer ago than this is known to all that decide: a cooldown that begins after it takes its place."""

LEASE_TIMES = 2
"""A probe's lease ends after so many times the time that its provider has for an answer."""

REASON_MAX_CHARS = 150
BODY_MAX_BYTES = 470


class _Told(msgspec.Struct, frozen=True, array_like=True):
    version: int
    injected: bool
    health: Health


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Told)


class SharedHealth(HealthTable):
    """The health of everything that has failed, at whichever worker."""

    def __init__(
        self, stats: StatsTable, bus: Bus, rng: random.Random, on_recovery: Callable[[], None], sharing: Sharing
    ) -> None:
        super().__init__(stats, bus, rng, on_recovery)
        self._sharing = sharing
        self._changed = sharing.changed
        self._marks: dict[str, str] = {}
        self._limited: dict[str, Place] = {}
        self.learn: Callable[[], None] = lambda: None
        """Learns what others have told, of whatever kind."""
        self.on_change: Callable[[], None] = lambda: None
        """Is called when another worker has changed the health of a provider."""

    def know(self, providers: Mapping[str, Provider]) -> None:
        """Use these providers from now on: what was told of another address or key says nothing about them."""
        sharing = self._sharing
        self._marks = {
            name: f"{sharing.hash_of(f'{one.base_url} {one.secret}') & (1 << 64) - 1:x}"
            for name, one in providers.items()
        }
        limited = {name for name, one in providers.items() if one.max_in_flight is not None}
        self._limited = {name: sharing.place(f"provider {name}") for name in limited}

    def place_of(self, provider: str) -> Place | None:
        """Return the places of a provider; None: they are not limited."""
        return self._limited.get(provider)

    # What may be asked

    def availability(self, candidate: Candidate, now: float) -> Availability:
        """Return whether a candidate may be asked right now, by what all workers know."""
        if self._changed():
            self.learn()
        provider = candidate.provider
        name, limit = provider.name, provider.max_in_flight
        stats = self._stats[name]
        in_flight, full = stats.in_flight, False
        if limit is not None and (place := self._limited.get(name)) is not None:
            in_flight = place.held()
            full = in_flight >= limit
        if not self.entries and not self.paused:
            return Availability(True, full, 0.0, 0.0, 0.0 < stats.first_content_at > now - PROVEN_S, in_flight)
        state = super().availability(candidate, now)
        usable = state.usable and not any(
            self._sharing.leased(self.lease_name(key)) for key in self.half_open(candidate, now)
        )
        return replace_fields(state, usable=usable, full=full, in_flight=in_flight)

    def lease_name(self, key: HealthKey) -> str:
        """Return the name of the lease of what probes this."""
        return f"probe {_name(key, self._marks.get(key[0], ''))}"

    def probe(self, key: HealthKey, within_s: float) -> bool:
        """Take the lease of a probe; say whether no other worker has it."""
        return self._sharing.lease(self.lease_name(key), within_s * LEASE_TIMES)

    def probed(self, key: HealthKey) -> None:
        """Give the lease of a probe back: it is over, or has shown that it works."""
        self._sharing.release(self.lease_name(key))

    # What was learnt here

    def content_began(self, candidate: Candidate, began: float, now: float) -> None:
        """Note that content has begun: what is probed works, and the others may ask it too."""
        if not self.entries:
            return
        before, shown = self._known(candidate), set(self.shown)
        super().content_began(candidate, began, now)
        for key in self.shown - shown:
            self.probed(key)
        self._tell_changes(before)

    def observe(
        self, candidate: Candidate, verdict: Verdict, began: float, now: float, wall: float, **more: Any
    ) -> None:
        """Learn from an attempt, and tell the others."""
        self.learn()
        before = self._known(candidate)
        super().observe(candidate, verdict, began, now, wall, **more)
        self._tell_changes(before)

    def forget(self, provider: str) -> None:
        """Forget a provider's health in all scopes, at all workers."""
        known = {key: health for key, health in self.entries.items() if key[0] == provider}
        super().forget(provider)
        for key, health in known.items():
            self._tell(key, Health(last_failure=health.last_failure, last_good=health.last_failure))

    def end_injected(self, provider: str, now: float) -> bool:
        """Undo what injected faults have done to a provider's health, at all workers."""
        before = {key: health for key, health in self.entries.items() if key[0] == provider}
        ended = super().end_injected(provider, now)
        for key, health in before.items():
            if self.entries.get(key) is not health:
                good = Health(last_failure=health.last_failure, last_good=health.last_failure)
                self._tell(key, self.entries.get(key, good))
        return ended

    def end_early(self, provider: str, now: float) -> None:
        """End the cooldown of a provider as a whole before its time, at all workers."""
        super().end_early(provider, now)
        key = (provider, Scope.PROVIDER, None)
        if (health := self.entries.get(key)) is not None:
            self._tell(key, health)

    def _known(self, candidate: Candidate) -> dict[HealthKey, Health | None]:
        """Return what is known of all that an attempt may change."""
        name = candidate.provider.name
        keys = {*needed(candidate), (name, Scope.MODEL, candidate.model), (name, Scope.COUNTING, None)}
        return {key: self.entries.get(key) for key in keys}

    def _tell_changes(self, before: Mapping[HealthKey, Health | None]) -> None:
        for key, health in before.items():
            after = self.entries.get(key)
            if after is not None and after is not health:
                self._tell(key, after)

    def _tell(self, key: HealthKey, health: Health) -> None:
        """Tell the others what holds for a key now."""
        mark = self._marks.get(key[0])
        if mark is None:
            return
        body = _encoder.encode(_Told(VERSION, key in self._without_faults, health))
        if len(body) > BODY_MAX_BYTES:
            said = None if health.said is None else Statement(resets_at=health.said.resets_at)
            short = replace(health, said=said, reason=health.reason[:REASON_MAX_CHARS], doubt="")
            body = _encoder.encode(_Told(VERSION, key in self._without_faults, short))
        self._sharing.tell(_name(key, mark), body)

    # What others have learnt

    def take(self, fact: Fact) -> bool:
        """Learn what another worker has told; say whether it was of health."""
        parts = fact.name.split("\0")
        if len(parts) != 5 or parts[0] != KIND:
            return False
        _, provider, mark, scope, model = parts
        if self._marks.get(provider) != mark:
            return True  # of another address or key
        try:
            told = _decoder.decode(fact.body)
            key = (provider, Scope(scope), model if scope == Scope.MODEL.value else None)
        except (msgspec.MsgspecError, ValueError):
            return True
        if told.version != VERSION:
            return True
        mine = self.entries.get(key)
        after = told.health if mine is None else joined(mine, told.health)
        if after is mine or (mine is None and after == HEALTHY):
            return True
        if told.injected:
            self._without_faults.setdefault(key, mine or HEALTHY)
        else:
            self._without_faults.pop(key, None)
        self._make_room()
        self.entries[key] = after
        if mine is not None and mine.cooldown_until and not after.cooldown_until:
            self._on_recovery()
        self.on_change()
        return True


def joined(mine: Health, theirs: Health) -> Health:
    """Return what holds, where this worker knows `mine` and another one has told `theirs`."""
    both_open = bool(mine.cooldown_until and theirs.cooldown_until)
    if theirs.last_failure < mine.last_failure:
        if both_open and theirs.cooldown_until > mine.cooldown_until:  # it did not know of the latest failure
            return replace(
                mine, cooldown_until=theirs.cooldown_until, named_until=max(mine.named_until, theirs.named_until)
            )
        return mine
    if theirs.last_failure == mine.last_failure:
        return mine if theirs == mine or mine.last_good > theirs.last_good else theirs
    at_once = theirs.opened_at <= mine.opened_at + KNOWN_S
    if both_open and at_once and mine.cooldown_until > theirs.cooldown_until:
        return replace(
            theirs, cooldown_until=mine.cooldown_until, named_until=max(mine.named_until, theirs.named_until)
        )
    return theirs


def _name(key: HealthKey, mark: str) -> str:
    """Return the name of a fact about the health of something. `mark` stands for its address and key."""
    provider, scope, model = key
    return f"{KIND}\0{provider}\0{mark}\0{scope.value}\0{model or ''}"
