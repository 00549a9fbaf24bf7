"""When a cooldown is probed before its time, and what the answer proves.

A probe is a request that costs nothing: the list of models, or a count of tokens. It shows less than a real answer, so
a cooldown ends early only where the answer proves that its cause is gone:

    why it cools down                                   what ends it early
    the key was refused (401)                           an answer: the key is accepted
    access was denied (403, 451)                        an answer, if an earlier probe of this cooldown was denied too
    not reachable, silent, cut off; 5xx (60 s or more)  an answer; where it could not be reached, any but 5xx
    no credit, a spending limit                         nothing: these answers cost no credit
    limits and overload (429, 529)                      nothing: these answers need no capacity
    a time that the provider itself named               nothing: it is kept

Afterwards the circuit is half-open: one real request shows whether the provider works.
"""

from __future__ import annotations

from collections.abc import Sequence

from balancer.model import Fault
from balancer.policy.circuit import Health
from balancer.policy.verdicts import Trouble

PROBE_AT_S = (30.0, 60.0, 120.0, 300.0)
"""When to probe, in seconds after the cooldown began. A key or an account is mended within minutes, or not for hours:
then the cooldown's own end is soon enough."""

JITTER = 0.2
"""Each probe comes up to a fifth later than that, so that workers and balancers don't probe in step."""

LONG_S = 60.0
"""A shorter ordinary cooldown ends before a probe would be of use."""

_PROBED_TROUBLES = (Trouble.KEY, Trouble.ACCESS)
_CAPACITY = (429, 529)
_NO_SUCH_ENDPOINT = (404, 405, 501)
_ACCESS_DENIED = (401, 403, 451)


def is_probed(health: Health) -> bool:
    """Say whether an answer that costs nothing may prove that the cause of this cooldown is gone."""
    if health.needs_operator is not None:
        return health.needs_operator in _PROBED_TROUBLES
    named = health.named_until >= health.cooldown_until
    lasts_s = health.cooldown_until - health.opened_at
    return lasts_s > LONG_S - 0.001 and not named and health.status not in _CAPACITY


def next_probe(opened_at: float, now: float, chance: float, at_s: Sequence[float] = PROBE_AT_S) -> float | None:
    """Return when to probe next a cooldown that began at `opened_at`; None: no more.

    `chance` (0 to 1) places the jitter.
    """
    passed_s = now - opened_at
    return next((opened_at + s * (1 + JITTER * chance) for s in at_s if s > passed_s), None)


def proves(health: Health, fault: Fault | None, *, denied_before: bool) -> bool:
    """Say whether a probe proves that the cause of this cooldown is gone.

    `fault` is how the provider refused the probe; None: it answered. `denied_before`: it has denied access to an
    earlier probe of the same cooldown, so that its answer means something.
    """
    if health.needs_operator is Trouble.KEY:
        return fault is None
    if health.needs_operator is not None:
        return fault is None and denied_before
    return fault is None or (health.status is None and fault.status < 500)


def denies_access(fault: Fault | None) -> bool:
    """Say whether a probe was denied access."""
    return fault is not None and fault.status in _ACCESS_DENIED


def lacks_endpoint(fault: Fault | None) -> bool:
    """Say whether the provider may only lack what the probe has asked for: another one may say more."""
    return fault is not None and fault.status in _NO_SUCH_ENDPOINT
