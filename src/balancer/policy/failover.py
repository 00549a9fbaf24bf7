"""The failover rule, as a value that is stepped.

A journey is one request's way through the candidates. The driver asks `next`, does what it says,
and tells `record` how it went. The rules, in order:

1. Never the same provider twice while an untried one is usable.
2. Going on to another provider costs nothing where that provider is known to work. Where that is
   not known, it costs a token of the budget that all requests share, so that an outage of
   everybody is not amplified; without a token one request at a time goes ahead, the others wait
   until it has shown whether the way is good. Where it has just shown the contrary, nobody goes.
3. Nobody usable because all are full: queue, for a bounded time.
4. Nobody usable because all rest: wait for the earliest recovery if it is near; else, once, try
   the one that failed longest ago (the panic rule).
5. All tried: again with growing waits, `RETRIES` times at most, each for a token.
6. A prompt that was too long goes on only to those that are known to have a larger context.
7. Else it is over; `exhausted.py` says what the client is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from balancer.model import Candidate, Mark, Outcome, Unfit, Verdict
from balancer.policy.classify import judge_of, lasting, too_long
from balancer.policy.retry_budget import Budget

RETRIES = 2
"""How often a request may come back to providers that have failed it already."""

FIRST_WAIT_S = 0.5
WAIT_MAX_S = 8.0
"""Waits before coming back double from the first to the longest, with full jitter."""

NEAR_S = 5.0
"""A recovery within this time is worth waiting for."""

SHOWN_S = 0.5
"""A failure within this time shows that a way is bad, even where nobody is made to rest."""

LOOK_AGAIN_S = 0.05
"""How soon a request that stands behind another's probe looks again."""


class Availability(msgspec.Struct, frozen=True, gc=False):
    """How a candidate stands right now."""

    usable: bool
    """Neither resting nor being probed by another request."""
    full: bool = False
    cooldown_until: float = 0.0
    last_failure: float = 0.0
    proven: bool = False
    """It has given substance lately, and not failed since."""
    in_flight: int = 0


Availabilities: TypeAlias = Callable[[Candidate, float], Availability]


class Try(msgspec.Struct, frozen=True, gc=False):
    """Ask this candidate; its answer has to begin within `within_s`."""

    candidate: Candidate
    within_s: float
    last_hope: bool
    """No other candidate is left untried."""


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Do nothing for this long, or until a place is free."""

    seconds: float
    for_place: bool = False


class Done(msgspec.Struct, frozen=True, gc=False):
    """It is over: the last outcome stands."""


Next: TypeAlias = Try | Wait | Done

_DONE = Done()


class Failover(msgspec.Struct):
    """One request's way. `deadline` is on the driver's clock, as is every `now`."""

    candidates: Sequence[Candidate]
    deadline: float
    budget: Budget
    queue_s: float = 10.0
    """How long to wait in all for a place at a provider."""
    optional: bool = False
    """There is an answer without any provider: nothing is worth waiting for, or asking twice."""
    attempts: list[tuple[Candidate, Outcome, Verdict]] = []
    queued_s: float = 0.0
    overloaded: bool = False
    """It ended because there was no place, not because anybody failed."""
    over: bool = False
    """An outcome was recorded that stands."""
    _panicked: bool = False
    _retries: int = 0
    _rested: bool = False
    _next_up: Candidate | None = None
    """Whom to come back to after the wait."""

    def next(self, now: float, availability: Availabilities, chance: float) -> Next:
        """Return the next step. `chance` (0 to 1) places the jitter of waits."""
        if self.over or now >= self.deadline or not self.candidates:
            return _DONE
        untried = [c for c in self.candidates if not self._tried(c)] if self.attempts else self.candidates
        if not untried:
            return self._come_back(now, availability, chance)
        last_hope = len(untried) == 1
        standings: list[tuple[Candidate, Availability]] = []
        for candidate in untried:
            state = availability(candidate, now)
            if state.usable and not state.full:
                if not self.attempts:
                    return Try(candidate, self.deadline - now, last_hope)
                if step := self._go(candidate, state, now, last_hope):
                    return step
            standings.append((candidate, state))
        if any(state.full and state.cooldown_until <= now for _, state in standings):
            return self._queue(now, standings)
        return self._nobody(now, standings)

    def record(self, candidate: Candidate, outcome: Outcome) -> Verdict:
        """Note how a try ended, and say what follows from it."""
        verdict = judge_of(candidate, outcome)
        self.attempts.append((candidate, outcome, verdict))
        self.over = verdict.mark.good or (
            not verdict.retry_elsewhere and not (too_long(outcome) and self._widened(candidate))
        )
        return verdict

    def _widened(self, narrow: Candidate) -> bool:
        """Keep only those with a larger context, besides those tried; say whether there are any."""
        taken = narrow.context_window or 0
        wider = [c for c in self.candidates if (c.context_window or 0) > taken and not self._tried(c)]
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

    def _queue(self, now: float, standings: list[tuple[Candidate, Availability]]) -> Next:
        """Wait for a place, or until somebody who rests is back."""
        left_s = min(self.queue_s - self.queued_s, self.deadline - now)
        if left_s <= 0 or self.optional:
            self.overloaded = True
            return _DONE
        rests_s = [
            state.cooldown_until - now for _, state in standings if state.cooldown_until > now and not state.full
        ]
        return Wait(min([left_s, *rests_s]), for_place=True)

    def _nobody(self, now: float, standings: list[tuple[Candidate, Availability]]) -> Next:
        """All the untried rest, or are being probed by somebody else."""
        if self._panicked or self.optional:
            return _DONE
        recovery_s = min(state.cooldown_until for _, state in standings) - now
        if 0 < recovery_s <= NEAR_S and not self._rested and now + recovery_s < self.deadline:
            self._rested = True
            return self._wait(recovery_s, now)
        places = [(candidate, state.last_failure) for candidate, state in standings if not state.full]
        if not places:
            return self._queue(now, standings)
        if self._failed_before() and not self.budget.spend():
            return _DONE
        self._panicked = True
        oldest, _ = min(places, key=lambda pair: pair[1])
        return self._try(oldest, now, last_hope=True)

    def _come_back(self, now: float, availability: Availabilities, chance: float) -> Next:
        """Everybody was tried and failed: wait, and ask again who failed longest ago."""
        if self._next_up is not None:
            state = availability(self._next_up, now)
            if state.full:
                return self._queue(now, [(self._next_up, state)])
            candidate, self._next_up = self._next_up, None
            return self._try(candidate, now, last_hope=True)
        hopeful = [c for c in self.candidates if not self._hopeless(c)]
        if not hopeful or self._retries == RETRIES or self.optional:
            return _DONE
        candidate = min(hopeful, key=lambda c: availability(c, now).last_failure)
        backoff_s = min(FIRST_WAIT_S * 2.0**self._retries, WAIT_MAX_S) * chance
        wait_s = max(backoff_s, self._named_rest_s(candidate))
        if now + wait_s >= self.deadline or not self.budget.spend():
            return _DONE
        self._retries += 1
        self._next_up = candidate
        return Wait(wait_s)

    def _hopeless(self, candidate: Candidate) -> bool:
        """Say whether asking again would say the same: a refused key, a request it can't take, a long rest."""
        return any(
            verdict.needs_operator
            or verdict.mark is Mark.NONE
            or (verdict.cooldown_s or 0.0) > NEAR_S
            or lasting(outcome)
            for tried, outcome, verdict in self.attempts
            if tried is candidate
        )

    def _named_rest_s(self, candidate: Candidate) -> float:
        return next((v.cooldown_s or 0.0 for tried, _, v in reversed(self.attempts) if tried is candidate), 0.0)

    def _wait(self, seconds: float, now: float) -> Next:
        return Wait(min(seconds, max(0.0, self.deadline - now)))
