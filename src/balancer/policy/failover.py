"""The failover rule, as a value that is stepped.

A failover is one request's way through its candidates. The driver asks `next`, does what it says, and tells `record`
how an attempt ended. The rules, in their order:

1. Never the same candidate twice while an untried one is usable.
2. Going on to another provider costs nothing where that provider is known to work. Where that is not known, it costs
   a token of the retry budget that all requests share, so that an outage of everybody is not amplified. Without a
   token one request at a time goes ahead, and the others wait until it has shown whether the provider works. Where
   it has just shown the contrary, no request goes.
3. No candidate is usable because all are full: queue, for a bounded time.
4. No candidate is usable because all cool down: wait for the earliest recovery if it is near; else, once, try the
   one that failed longest ago (the panic rule).
5. All were tried: come back to them after growing waits, `RETRIES` times at most, each for a token.
6. A prompt that was too long goes on only to candidates that are known to have a larger context.
7. A candidate whose provider is paused meanwhile is passed over, as if it were not there.
8. Else it is over; `exhausted.py` says what the client is told.

The phases of a failover. It only ever moves down this table; phases may be left out.

    phase       what it means                                           what `next` may still do
    ASKING      untried candidates are asked in their order             everything
    WAITED      the one wait for a near recovery is used up             try, queue, panic, come back
    PANICKED    the one try of what cools down is used up               try, queue, come back
    RETURNING   every candidate was tried; tried ones are asked again   queue, come back
    SETTLED     an outcome was recorded that stands                     nothing: it is over
    NO_SLOT     the time to wait for a slot is used up                  nothing: it is over

It is over, too, when the deadline has come or no rule applies. Those need no phase: every later `next` would find the
same.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from balancer.model import Candidate, Mark, Outcome, Unfit, Verdict
from balancer.policy.classify import judge_of, lasting, too_long
from balancer.policy.retry_budget import Budget

RETRIES = 2
"""How often a request may come back to candidates that have failed it already. What two more tries some seconds apart
don't mend, a third rarely does, and each is traffic for a provider in trouble."""

FIRST_WAIT_S = 0.5
"""How long to wait before coming back, at most: the jitter is full. Each further wait is twice as long. About as long
as a burst of overload takes, and short enough that a client does not notice the first."""

NEAR_S = 5.0
"""A recovery within this time is worth waiting for: it is the first cooldown, and shorter than an answer takes."""

SHOWN_S = 0.5
"""A failure within this time shows that a provider fails now, even where none is made to cool down. Longer than an
error takes to come back, so that requests that failed over together don't all find out by themselves."""

LOOK_AGAIN_S = 0.05
"""How soon a request that waits for another's probe looks again: a probe is decided by its first content, after some
tenths of a second; a twentieth of a second more is not noticed, and twenty looks a second cost nothing."""


class Availability(msgspec.Struct, frozen=True, gc=False):
    """Whether a candidate may be asked right now, and what it is known for."""

    usable: bool
    """It neither cools down, nor is it probed by another request, nor paused."""
    full: bool = False
    """Its provider has no free slot."""
    cooldown_until: float = 0.0
    last_failure: float = 0.0
    proven: bool = False
    """Its content has begun lately, and it has not failed since."""
    in_flight: int = 0
    paused: bool = False
    """A person has taken its provider out."""


Availabilities: TypeAlias = Callable[[Candidate, float], Availability]


class Try(msgspec.Struct, frozen=True, gc=False):
    """Ask this candidate; its answer has to begin within `within_s`."""

    candidate: Candidate
    within_s: float
    last_hope: bool
    """No other candidate is left untried."""


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Do nothing for this long, or until a slot is free."""

    seconds: float
    for_place: bool = False


class Done(msgspec.Struct, frozen=True, gc=False):
    """It is over: the last outcome stands."""


Next: TypeAlias = Try | Wait | Done

_DONE = Done()


class Phase(enum.Enum):
    """How far a failover is; the table stands at the head of this module."""

    ended: bool
    """It is over. (An attribute: to compare with a member costs several times as much.)"""

    def __init__(self, word: str) -> None:
        self.ended = word in ("settled", "no_slot")

    ASKING = "asking"
    WAITED = "waited"
    PANICKED = "panicked"
    RETURNING = "returning"
    SETTLED = "settled"
    NO_SLOT = "no_slot"


ASKING, WAITED, PANICKED, RETURNING, SETTLED, NO_SLOT = Phase
# By themselves: to ask an `Enum` class for a member costs ten times as much (Python 3.11).

Standings: TypeAlias = list[tuple[Candidate, Availability]]


class Failover(msgspec.Struct):
    """One request's way. `deadline` is on the driver's clock, as is every `now`."""

    candidates: Sequence[Candidate]
    deadline: float
    budget: Budget
    queue_s: float = 10.0
    """How long to wait in all for a slot at a provider."""
    optional: bool = False
    """There is an answer without any provider: nothing is worth waiting for, or asking twice."""
    attempts: list[tuple[Candidate, Outcome, Verdict]] = []
    queued_s: float = 0.0
    """How long it has waited for slots; the driver counts it."""
    phase: Phase = ASKING
    _retries: int = 0
    _returning_to: Candidate | None = None
    """While RETURNING: the candidate to be asked after the wait."""

    @property
    def overloaded(self) -> bool:
        """It ended because there was no slot, not because anybody failed."""
        return self.phase is NO_SLOT

    def next(self, now: float, availability: Availabilities, chance: float) -> Next:
        """Return the next step. `chance` (0 to 1) places the jitter of waits."""
        if self.phase.ended or now >= self.deadline or not self.candidates:
            return _DONE
        untried = [c for c in self.candidates if not self._tried(c)] if self.attempts else self.candidates
        last_hope = len(untried) == 1
        standings: Standings = []
        for candidate in untried:
            state = availability(candidate, now)
            if state.usable and not state.full:
                if not self.attempts:
                    return Try(candidate, self.deadline - now, last_hope)
                if step := self._go(candidate, state, now, last_hope):
                    return step
            if not state.paused:
                standings.append((candidate, state))
        if not standings:
            return self._come_back(now, availability, chance)
        if any(state.full and state.cooldown_until <= now for _, state in standings):
            return self._queue(now, standings)
        return self._nobody(now, standings)

    def record(self, candidate: Candidate, outcome: Outcome) -> Verdict:
        """Note how a try ended, and return what follows from it."""
        verdict = judge_of(candidate, outcome)
        self.attempts.append((candidate, outcome, verdict))
        if verdict.mark.good or (not verdict.retry_elsewhere and not (too_long(outcome) and self._widened(candidate))):
            self.phase = SETTLED
        return verdict

    def _widened(self, narrow: Candidate) -> bool:
        """Keep only those with a larger context, besides those tried; say whether there are any."""
        size = narrow.context_window or 0
        wider = [c for c in self.candidates if (c.context_window or 0) > size and not self._tried(c)]
        self.candidates = [c for c in self.candidates if self._tried(c)] + wider
        return bool(wider)

    def _tried(self, candidate: Candidate) -> bool:
        return any(tried is candidate for tried, _, _ in self.attempts)

    def _try(self, candidate: Candidate, now: float, *, last_hope: bool) -> Try:
        return Try(candidate, self.deadline - now, last_hope)

    def _go(self, candidate: Candidate, state: Availability, now: float, last_hope: bool) -> Next | None:
        """Return the step to a usable candidate; None: it would only amplify an outage."""
        shown_bad = state.last_failure > 0 and now - state.last_failure < SHOWN_S
        free = state.proven or not self._failed_before()
        if free or (state.in_flight == 0 and not shown_bad) or self.budget.spend():
            return self._try(candidate, now, last_hope=last_hope)
        return None if state.in_flight == 0 or self.optional else self._wait(LOOK_AGAIN_S, now)

    def _failed_before(self) -> bool:
        return any(not isinstance(outcome, Unfit) for _, outcome, _ in self.attempts)

    def _queue(self, now: float, standings: Standings) -> Next:
        """Wait for a slot, or until a candidate's cooldown is over."""
        left_s = min(self.queue_s - self.queued_s, self.deadline - now)
        if left_s <= 0 or self.optional:
            self.phase = NO_SLOT
            return _DONE
        cooldowns_s = [
            state.cooldown_until - now for _, state in standings if state.cooldown_until > now and not state.full
        ]
        return Wait(min([left_s, *cooldowns_s]), for_place=True)

    def _nobody(self, now: float, standings: Standings) -> Next:
        """All the untried cool down, or are being probed by other requests."""
        if self.optional or (self.phase is not ASKING and self.phase is not WAITED):
            return _DONE
        recovery_s = min(state.cooldown_until for _, state in standings) - now
        if 0 < recovery_s <= NEAR_S and self.phase is ASKING and now + recovery_s < self.deadline:
            self.phase = WAITED
            return self._wait(recovery_s, now)
        free = [(candidate, state.last_failure) for candidate, state in standings if not state.full]
        if not free:
            return self._queue(now, standings)
        if self._failed_before() and not self.budget.spend():
            return _DONE
        self.phase = PANICKED
        oldest, _ = min(free, key=lambda pair: pair[1])
        return self._try(oldest, now, last_hope=True)

    def _come_back(self, now: float, availability: Availabilities, chance: float) -> Next:
        """Every candidate was tried and failed: wait, and ask again the one that failed longest ago."""
        if (candidate := self._returning_to) is not None:
            state = availability(candidate, now)
            if state.full and not state.paused:
                return self._queue(now, [(candidate, state)])
            self._returning_to = None
            if not state.paused:
                return self._try(candidate, now, last_hope=True)
        hopeful = [c for c in self.candidates if self._is_hopeful(c) and not availability(c, now).paused]
        if not hopeful or self._retries == RETRIES or self.optional:
            return _DONE
        candidate = min(hopeful, key=lambda c: availability(c, now).last_failure)
        backoff_s = FIRST_WAIT_S * 2.0**self._retries * chance
        wait_s = max(backoff_s, self._named_cooldown_s(candidate))
        if now + wait_s >= self.deadline or not self.budget.spend():
            return _DONE
        self.phase = RETURNING
        self._retries += 1
        self._returning_to = candidate
        return Wait(wait_s)

    def _is_hopeful(self, candidate: Candidate) -> bool:
        """Say whether a candidate that was tried may say something else if it is asked again.

        A refused key, a request that it can't take, or a long cooldown of its own stay what they are.
        """
        return not any(
            verdict.needs_operator
            or verdict.mark is Mark.NONE
            or (verdict.cooldown_s or 0.0) > NEAR_S
            or lasting(outcome)
            for tried, outcome, verdict in self.attempts
            if tried is candidate
        )

    def _named_cooldown_s(self, candidate: Candidate) -> float:
        return next((v.cooldown_s or 0.0 for tried, _, v in reversed(self.attempts) if tried is candidate), 0.0)

    def _wait(self, seconds: float, now: float) -> Next:
        return Wait(min(seconds, max(0.0, self.deadline - now)))
