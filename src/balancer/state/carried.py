"""What a process hands to the one that takes its place: cooldowns and pins, as one versioned blob.

Times are seconds before or after the moment of the handing over, since no two processes need share a clock. A reader
that meets another version, or something that it can't use, ignores it: what is lost is learnt again.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any

import msgspec

from balancer.policy.circuit import Health
from balancer.policy.verdicts import Scope
from balancer.state.fleet import Fleet

VERSION = 1

PINS_MAX = 20_000
"""So many are handed over, the latest: a pin is some 100 bytes."""

_TIMES = ("cooldown_until", "last_failure", "suspected_at", "last_good", "content_at", "opened_at", "named_until")
"""Those fields of `Health` that are times, with 0 for never."""


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    provider: str
    scope: Scope
    model: str | None
    about: str
    """Names the provider's address and key: what others answered says nothing about these."""
    health: Health


class _Pin(msgspec.Struct, frozen=True, array_like=True):
    conversation: str
    pattern: str
    provider: str
    answered_s_ago: float
    cached_s: float


class _Carried(msgspec.Struct, frozen=True):
    version: int
    health: tuple[_Entry, ...] = ()
    pins: tuple[_Pin, ...] = ()
    paused: tuple[str, ...] = ()


class _Version(msgspec.Struct, frozen=True):
    version: int


def taken(fleet: Fleet, now: float) -> bytes:
    """Return what `fleet` knows. No secret is in it; of conversations it has hashes."""
    entries = [
        _Entry(provider, scope, model, _mark(fleet, provider), _shifted(health, -now))
        for (provider, scope, model), health in fleet.health.entries.items()
        if provider in fleet.config.providers
    ]
    pins = [
        _Pin(*key, provider, now - answered_at, cached_s)
        for key, provider, answered_at, cached_s in fleet.pins.latest(PINS_MAX)
    ]
    return msgspec.json.encode(_Carried(VERSION, tuple(entries), tuple(pins), tuple(fleet.health.paused)))


def restore(fleet: Fleet, blob: bytes, now: float) -> bool:
    """Have `fleet` know what is in `blob`, and say whether it could be used. Raises nothing."""
    try:
        if msgspec.json.decode(blob, type=_Version).version != VERSION:
            return False
        carried = msgspec.json.decode(blob, type=_Carried)
    except msgspec.MsgspecError:
        return False
    for entry in carried.health:
        if entry.provider in fleet.config.providers and entry.about == _mark(fleet, entry.provider):
            fleet.health.entries[entry.provider, entry.scope, entry.model] = _shifted(entry.health, now)
    for pin in carried.pins:
        if pin.provider in fleet.config.providers:
            fleet.pins.restore((pin.conversation, pin.pattern), pin.provider, now - pin.answered_s_ago, pin.cached_s)
    fleet.health.paused.update(name for name in carried.paused if name in fleet.config.providers)
    return True


def _shifted(health: Health, by_s: float) -> Health:
    """Return `health` with all its times later by `by_s`. What never was stays so."""
    said = health.said
    if said is not None and said.resets_at:
        said = msgspec.structs.replace(said, resets_at=said.resets_at + by_s)
    # 0 means never; a moment that becomes 0 by chance must not.
    times: dict[str, Any] = {name: (at + by_s) or math.ulp(0.0) for name in _TIMES if (at := getattr(health, name))}
    # The witness is a hash that is another one in each process, and a doubt needs it.
    return replace(health, said=said, witness=0, doubt="", doubted_at=0.0, **times)


def _mark(fleet: Fleet, name: str) -> str:
    """Return what a provider's health is about, without its secret: a keyless hash of address and key."""
    provider = fleet.config.providers[name]
    about = f"{provider.base_url}\0{provider.secret}".encode()
    return hashlib.blake2b(about, digest_size=16).hexdigest()
