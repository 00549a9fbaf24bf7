"""The health of one provider (or one model of it), and the one function that changes it.

A circuit with three states:

    state        what it means                                                  next
    CLOSED       it is asked                                                    OPEN at a failure
    OPEN         it cools down until `cooldown_until`                           HALF_OPEN when that has come
    HALF_OPEN    the cooldown is over, and it has not answered well since:      CLOSED at a good answer,
                 one live request at a time probes it (`HealthTable.probes`)    OPEN at a failure, twice as long
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from balancer.policy.verdicts import Mark, Proof, Statement, Trouble, Verdict

FIRST_COOLDOWN_S = 5.0
"""The first cooldown; each further one is twice as long. Most overloads and restarts are over by then."""

OPERATOR_COOLDOWN_S = 600.0
"""The first cooldown after a refused key or an empty account: a person has to see to it, which takes minutes."""

OPERATOR_COOLDOWN_MAX_S = 3600.0
"""The longest of those: an account that was mended comes back by itself within the hour."""

JITTER = 0.2
"""Cooldowns differ by up to a fifth, so that what failed together is not asked again together."""

LEVEL_MIN = -1
"""The level of the shortest cooldown, a quarter of the first: of a provider that refuses some requests among good
answers. Where three refuse 15 % each, all cool down at once most of the time, and requests wait for them; with 5 s
at least, 1 % of requests then fail (simulated, 100 requests a second)."""

DECAY_S = 60.0
"""Each such span without a failure takes one doubling back."""

WITNESS_S = 600.0
"""For so long a refusal that might be the request's own fault waits for a second, different request to meet it."""


class Circuit(enum.Enum):
    """What a provider's health allows; the table stands at the head of this module."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class CooldownPolicy:
    """How long cooldowns last, from `failure_cooldown`."""

    max_s: float = 60.0
    """The longest ordinary cooldown; 0: there are none at all, but for those that a provider names itself."""
    constant: bool = False
    """Every ordinary cooldown is `max_s`, instead of doubling up to it."""


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one provider, or of one model of it. Times are on the driver's clock."""

    failures: int = 0
    """In a row, since the last good answer."""
    level: int = 0
    """How often the cooldown was doubled, the first being 1; below that it was halved. Decays without failures."""
    cooldown_until: float = 0.0
    """0: the circuit is closed."""
    last_failure: float = 0.0
    suspected_at: float = 0.0
    """When a request last failed that is suspect itself: nothing is held against the provider."""
    last_good: float = 0.0
    content_at: float = 0.0
    """When an answer's content last began after a failure; 0: never."""
    opened_at: float = 0.0
    """When the present cooldown began."""
    named_until: float = 0.0
    """Until when the provider itself asked to be left alone; 0: it did not."""
    needs_operator: Trouble | None = None
    """Set: only a person can end the trouble."""
    reason: str = ""
    """Why it failed, in plain words; while it needs a person, the reason for that."""
    status: int | None = None
    """The status behind `reason`; None: there was no answer."""
    said: Statement | None = None
    """What the provider said at its latest failure; None: nothing that is of use to a client."""
    witness: int = 0
    """Names the request that failed last; 0: not known."""
    doubt: str = ""
    """A refusal that one request met, and that counts once another meets it."""
    doubted_at: float = 0.0

    def circuit(self, now: float) -> Circuit:
        """Return what this health allows at `now`."""
        if not self.cooldown_until:
            return Circuit.CLOSED
        return Circuit.OPEN if now < self.cooldown_until else Circuit.HALF_OPEN


def observe(
    health: Health,
    verdict: Verdict,
    now: float,
    policy: CooldownPolicy,
    chance: float,
    began: float,
    witness: int = 0,
    said: Statement | None = None,
) -> Health:
    """Return `health` after `verdict` was reached at `now` about an attempt that began at `began`.

    A good answer closes the circuit, unless its attempt began before the last failure: such an old stream says
    nothing about now. A failure opens it. While it is open, failures of attempts that were under way can only prolong
    the cooldown, never double it. A cooldown that the provider named is a minimum, and an end never moves closer; it is
    kept even where the policy has no cooldowns. `chance` (0 to 1) places the jitter, `said` is what the provider said.
    Raises nothing.

    `witness` names the request. What may be its own fault counts once a second request meets the same (`UNSURE`), and
    what it meets again and again is one failure: only another request makes the cooldown longer.
    """
    if verdict.mark is Mark.GOOD:
        if began < health.last_failure:
            return health
        return Health(
            level=health.level,
            last_failure=health.last_failure,
            last_good=now,
            content_at=now,
            witness=health.witness,
        )
    if verdict.mark is Mark.NONE:
        if verdict.proof is not Proof.UNSURE:
            return health
        if not _is_confirmed(health, verdict, now, witness):
            return replace(health, witness=witness, doubt=verdict.reason, doubted_at=now)
    repeated = verdict.proof is not Proof.CERTAIN and witness != 0 and witness == health.witness
    failed = replace(health, failures=health.failures + 1, last_failure=now, witness=witness)
    if verdict.needs_operator or not health.needs_operator or health.circuit(now) is not Circuit.OPEN:
        failed = replace(
            failed, needs_operator=verdict.needs_operator, reason=verdict.reason, status=verdict.status, said=said
        )
    named_until = max(health.named_until, now + verdict.cooldown_s) if verdict.cooldown_s else health.named_until
    if policy.max_s <= 0:  # only what the provider named itself is kept
        opened_at = health.opened_at if health.circuit(now) is Circuit.OPEN else now
        open_until = named_until if named_until > now else 0.0
        return replace(failed, opened_at=opened_at, named_until=open_until, cooldown_until=open_until)
    if health.circuit(now) is Circuit.OPEN and (health.needs_operator or not verdict.needs_operator):
        return replace(failed, named_until=named_until, cooldown_until=max(health.cooldown_until, named_until))
    same_kind = (verdict.needs_operator is None) == (health.needs_operator is None)
    level = _decayed(health, now) if same_kind else 0  # trouble of another kind doubles anew
    if repeated:
        level = max(1, level)
    elif health.content_at > health.last_failure and verdict.retry_elsewhere:
        # It has gone well meanwhile: only failures in a row double the cooldown, and those close together halve it.
        often = now - health.last_failure < DECAY_S and not verdict.needs_operator
        level = max(LEVEL_MIN if often else 1, level - 1)
    else:  # what breaks off after content, when nobody else may be asked, has not gone well
        level += 1
    cooldown_until = now + _cooldown_s(level, verdict.needs_operator is not None, policy, chance)
    return replace(
        failed,
        level=level,
        opened_at=now,
        named_until=named_until,
        cooldown_until=max(health.cooldown_until, named_until, cooldown_until),
    )


def end_early(health: Health, now: float) -> Health:
    """Return `health` with its cooldown over before its time, but not before the time that the provider named.

    The circuit is half-open then: one live request shows whether it works. What needed a person no longer does.
    """
    return replace(health, cooldown_until=max(now, health.named_until), needs_operator=None)


def _is_confirmed(health: Health, verdict: Verdict, now: float, witness: int) -> bool:
    """Say whether a different request has met the same as this one, not long ago and with no good answer since."""
    return health.doubt == verdict.reason and health.witness != witness and now - health.doubted_at < WITNESS_S


def _decayed(health: Health, now: float) -> int:
    """Return how many doublings are left after the time that `health` has been good."""
    if not health.last_good or health.cooldown_until or health.last_good < health.last_failure:
        return health.level
    return max(0, health.level - int((now - health.last_failure) / DECAY_S))


def _cooldown_s(level: int, operator: bool, policy: CooldownPolicy, chance: float) -> float:
    if operator:  # no jitter: a refused key is one client's trouble, no herd waits for it
        return min(OPERATOR_COOLDOWN_S * 2.0 ** min(level - 1, 30), OPERATOR_COOLDOWN_MAX_S)
    if policy.constant:
        return policy.max_s
    doubled_s = min(FIRST_COOLDOWN_S * 2.0 ** min(level - 1, 30), policy.max_s)
    return min(doubled_s * (1 - JITTER + 2 * JITTER * chance), policy.max_s)
