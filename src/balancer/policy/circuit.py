"""One provider's health, and the one function that changes it.

A circuit with three states. Closed: it is asked. Open: it rests until `cooldown_until`. Half-open:
the rest is over but nothing good has been seen since; one live request at a time may probe it
(who that is, is the fleet's business).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from balancer.model import Mark, Verdict

FIRST_COOLDOWN_S = 5.0
"""The first rest; each further one is twice as long."""

OPERATOR_COOLDOWN_S = 600.0
"""The first rest after a refused key or an empty account: somebody has to see to it."""

OPERATOR_COOLDOWN_MAX_S = 3600.0

JITTER = 0.2
"""Rests differ by up to a fifth, so that what failed together is not asked again together."""

DECAY_S = 60.0
"""Each such span of health forgets one failure."""


class Circuit(enum.Enum):
    """What a provider's health allows."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class CooldownPolicy:
    """How long to rest, from `failure_cooldown`."""

    max_s: float = 60.0
    """The longest ordinary rest; 0: never rest at all."""
    constant: bool = False
    """Every rest is `max_s`, instead of doubling up to it."""


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one provider, or of one model of it. Times are on the driver's clock."""

    failures: int = 0
    """In a row, since the last good answer."""
    level: int = 0
    """How often the rest was doubled; decays with time in health."""
    cooldown_until: float = 0.0
    """0: nothing to rest from."""
    last_failure: float = 0.0
    last_good: float = 0.0
    needs_operator: bool = False
    """The present rest needs a human."""
    reason: str = ""

    def circuit(self, now: float) -> Circuit:
        """Return what this health allows at `now`."""
        if not self.cooldown_until:
            return Circuit.CLOSED
        return Circuit.OPEN if now < self.cooldown_until else Circuit.HALF_OPEN


def observe(
    health: Health, verdict: Verdict, now: float, policy: CooldownPolicy, chance: float, began: float
) -> Health:
    """Return `health` after `verdict` was reached at `now` about an attempt that began at `began`.

    A good answer closes the circuit, unless it belongs to an attempt from before the last
    failure: such an old stream says nothing about now. A failure opens it; while it is open,
    further failures of attempts that were under way can only prolong the rest, never double it.
    A rest that the provider named itself is a minimum, and a deadline never moves closer.
    `chance` (0 to 1) places the jitter. Raises nothing.
    """
    if verdict.mark is Mark.NONE:
        return health
    if verdict.mark is Mark.GOOD:
        if began < health.last_failure:
            return health
        return replace(health, failures=0, cooldown_until=0.0, last_good=now, needs_operator=False, reason="")
    failed = replace(health, failures=health.failures + 1, last_failure=now, reason=verdict.reason)
    if policy.max_s <= 0:
        return failed
    if health.circuit(now) is Circuit.OPEN and (health.needs_operator or not verdict.needs_operator):
        return replace(failed, cooldown_until=max(health.cooldown_until, now + (verdict.cooldown_s or 0.0)))
    level = (
        _decayed(health, now) if verdict.needs_operator == health.needs_operator else 0
    ) + 1  # another illness doubles anew
    cooldown_s = max(_cooldown_s(level, verdict.needs_operator, policy, chance), verdict.cooldown_s or 0.0)
    return replace(
        failed,
        level=level,
        needs_operator=verdict.needs_operator,
        cooldown_until=max(health.cooldown_until, now + cooldown_s),
    )


def _decayed(health: Health, now: float) -> int:
    """Return how often to double still, after the time that `health` has been good."""
    if not health.last_good or health.cooldown_until or health.last_good < health.last_failure:
        return health.level
    return max(0, health.level - int((now - health.last_failure) / DECAY_S))


def _cooldown_s(level: int, long: bool, policy: CooldownPolicy, chance: float) -> float:
    first_s, longest_s = (OPERATOR_COOLDOWN_S, OPERATOR_COOLDOWN_MAX_S) if long else (FIRST_COOLDOWN_S, policy.max_s)
    if policy.constant and not long:
        return policy.max_s
    doubled_s = min(first_s * 2.0 ** min(level - 1, 30), longest_s)
    if long:  # a key has no herd
        return doubled_s
    return min(doubled_s * (1 - JITTER + 2 * JITTER * chance), longest_s)
