"""The failover rule, as a value that is stepped.

A failover is one request's way through its candidates. The driver asks `next`, does what it says, and tells `record`
how an attempt ended. The rules, in their order:

1. Never the same candidate twice while an untried one is usable.
2. Going on to another provider costs nothing where that provider is known to work. Where that is not known, it costs
   a token of the retry budget that all requests share, so that an outage of everybody is not amplified. Without a
   token one request at a time goes ahead, and the others go on to whoever is known to work; where nobody is, they
   wait until it has shown whether the provider works. Where it has just shown the contrary, no request goes.
3. No candidate is usable because all are full: queue, for a bounded time.
4. No candidate is usable because all cool down, or are probed by other requests: wait for the earliest of them if it
   is near, for `WAIT_MAX_S` in all. Waiting costs no token.
5. None of them is near: try the one that failed longest ago (the panic rule). After a failure that costs a token,
   which is waited for while requests succeed. A cooldown that the provider named is kept: it is not cut short here.
   One that needs a person is the last choice.
6. All were tried: come back to them after growing waits, `RETRIES` times at most, each for a token. Nobody is asked
   again who was too slow: it would begin the same work anew.
7. A prompt that was too long goes on only to candidates that are known to have a larger context.
8. A candidate whose provider is paused meanwhile is passed over, as if it were not there.
9. What a provider can't take that was asked in another one's place is no answer while that one may be back soon.
10. Else it is over; `exhausted.py` says what the client is told.

The phases of a failover. It only ever moves down this table; phases may be left out.

    phase       what it means                                           what `next` may still do
    ASKING      untried candidates are asked in their order             everything
    WAITED      the time to wait for near recoveries is used up         try, queue, panic, come back
    PANICKED    what cools down was tried: only tokens buy another try  everything
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
from msgspec.structs import replace

from balancer.model import Broken, Candidate, Outcome, RefusalClass, Unfit
from balancer.policy.classify import judge_of, lasting, too_long
from balancer.policy.narrow import takes_less
from balancer.policy.retry_budget import Budget
from balancer.policy.verdicts import Mark, Verdict
from balancer.script import Cause

RETRIES = 2
"""How often a request may come back to candidates that have failed it already. What two more tries some seconds apart
don't mend, a third rarely does, and each is traffic for a provider in trouble."""

FIRST_WAIT_S = 0.5
"""How long to wait before coming back, at most: the jitter is full. Each further wait is twice as long. About as long
as a burst of overload takes, and short enough that a client does not notice the first."""

NEAR_S = 5.0
"""A recovery within this time is worth waiting for: it is the first cooldown, and shorter than an answer takes."""

WAIT_MAX_S = 2 * NEAR_S
"""How long a request waits for recoveries in all. After the first wait it may be refused and need another one: with
half of this, 1 % of requests fail where three providers refuse 15 % each (simulated, 100 requests a second)."""

EARNING_S = 1.0
"""While a request has succeeded within this time, tokens come in, and one is worth waiting for."""

SHOWN_S = 0.5
"""A failure within this time shows that a provider fails now, even where none is made to cool down. Longer than an
error takes to come back, so that requests that failed over together don't all find out by themselves."""

LOOK_AGAIN_S = 0.05
"""How soon a request that waits for another's probe looks again at first: a probe is decided by its first content,
after some tenths of a second; a twentieth of a second more is not noticed."""

LOOK_AGAIN_SHARE = 0.125
"""What has taken long takes longer still: a request looks again after this share of the time that it has watched."""

LOOK_AGAIN_MAX_S = 1.0
"""The longest time between two looks. Of a silent provider it is five minutes until its probe ends: with twenty looks
a second, 34 requests that waited for that looked 271,000 times (simulated)."""


class Availability(msgspec.Struct, frozen=True, gc=False):
    """Whether a candidate may be asked right now, and what it is known for."""

    usable: bool
    """It neither cools down, nor is it probed by another request, nor paused."""
    full: bool = False
    """Its provider has no free slot."""
    cooldown_until: float = 0.0
    last_failure: float = 0.0
    """When a request last failed there, be it by its own fault."""
    proven: bool = False
    """Its content has begun lately, and it has not failed since."""
    in_flight: int = 0
    paused: bool = False
    """A person has taken its provider out."""
    named_until: float = 0.0
    """Until when the provider itself asked to be left alone; 0: it did not."""
    needs_operator: bool = False
    """It cools down until a person mends it: to ask it is hardly of use."""


Availabilities: TypeAlias = Callable[[Candidate, float], Availability]


class Try(msgspec.Struct, frozen=True, gc=False):
    """Ask this candidate; its answer has to begin within `within_s`."""

    candidate: Candidate
    within_s: float
    last_hope: bool
    """No other candidate is left that could be asked in its place: it may take its time."""


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
    all_well: bool = False
    """When it began, no candidate cooled down or was paused. It saves looking."""
    attempts: list[tuple[Candidate, Outcome, Verdict]] = []
    queued_s: float = 0.0
    """How long it has waited for slots; the driver counts it."""
    phase: Phase = ASKING
    _waited_s: float = 0.0
    """How long it has waited for recoveries."""
    _watched_s: float = 0.0
    """How long it has waited for what other requests were about to show."""
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
        standings: Standings = []
        behind_others = False
        for candidate in untried:
            state = availability(candidate, now)
            if state.usable and not state.full:
                if self.all_well and not self.attempts:  # as nearly always: nothing else has to be looked at
                    return Try(candidate, self.deadline - now, len(untried) == 1)
                if not self.attempts or self._may_go(state, now):
                    return self._try(candidate, untried, now, availability)
                behind_others = behind_others or (state.in_flight > 0 and not self.optional)
            if not state.paused:
                standings.append((candidate, state))
        if behind_others:
            return self._look_again(now)
        if not standings:
            return self._come_back(now, availability, chance)
        if any(state.full and state.cooldown_until <= now for _, state in standings):
            return self._queue(now, standings)
        return self._nobody(now, availability, chance, standings)

    def record(self, candidate: Candidate, outcome: Outcome) -> Verdict:
        """Note how a try ended, and return what follows from it."""
        verdict = judge_of(candidate, outcome)
        if not verdict.mark.good and takes_less(outcome, verdict) and self._was_passed_over(candidate):
            verdict = replace(verdict, refusal=RefusalClass.CAPABILITY, retry_elsewhere=True)
        self.attempts.append((candidate, outcome, verdict))
        if verdict.mark.good or (not verdict.retry_elsewhere and not (too_long(outcome) and self._widened(candidate))):
            self.phase = SETTLED
        return verdict

    def _was_passed_over(self, substitute: Candidate) -> bool:
        """Say whether a candidate before this one has failed in a way that passes, or was not usable."""
        failed = [c for c, _, verdict in self.attempts if verdict.mark is Mark.BAD and not verdict.needs_operator]
        return bool(failed) or any(c.priority < substitute.priority and not self._tried(c) for c in self.candidates)

    def _widened(self, narrow: Candidate) -> bool:
        """Keep only those with a larger context, besides those tried; say whether there are any."""
        size = narrow.context_window or 0
        wider = [c for c in self.candidates if (c.context_window or 0) > size and not self._tried(c)]
        self.candidates = [c for c in self.candidates if self._tried(c)] + wider
        return bool(wider)

    def _tried(self, candidate: Candidate) -> bool:
        return any(tried is candidate for tried, _, _ in self.attempts)

    def _try(self, candidate: Candidate, untried: Sequence[Candidate], now: float, availability: Availabilities) -> Try:
        """Return the step to ask an untried candidate; nobody else may be left who could be asked in time."""
        last_hope = len(untried) == 1
        if not last_hope:
            in_time = now + candidate.provider.timeouts.request_s
            others = (availability(other, now) for other in untried if other is not candidate)
            last_hope = not any(other.cooldown_until < in_time and not other.paused for other in others)
        return Try(candidate, self.deadline - now, last_hope)

    def _may_go(self, state: Availability, now: float) -> bool:
        """Say whether a usable candidate is asked after others have failed: else that would only amplify an outage."""
        if state.proven or not self._failed_before():
            return True
        shown_bad = state.last_failure > 0 and now - state.last_failure < SHOWN_S
        return (state.in_flight == 0 and not shown_bad) or self.budget.spend()

    def _failed_before(self) -> bool:
        return any(not isinstance(outcome, Unfit) for _, outcome, _ in self.attempts)

    def _queue(self, now: float, standings: Standings) -> Next:
        """Wait for a slot, or until a candidate's cooldown is over."""
        left_s = min(self.queue_s - self.queued_s, self.deadline - now)
        if left_s <= 0 or self.optional:
            self.phase = NO_SLOT
            return _DONE
        cooldowns_s = [until - now for _, state in standings if not state.full and (until := _not_before(state)) > now]
        return Wait(min([left_s, *cooldowns_s]), for_place=True)

    def _nobody(self, now: float, availability: Availabilities, chance: float, standings: Standings) -> Next:
        """All the untried cool down, or are being probed by other requests."""
        if self.optional:
            return _DONE
        if self.phase is not RETURNING and (wait := self._wait_for_recovery(now, standings)):
            return wait
        unnamed = [(candidate, state) for candidate, state in standings if state.named_until <= now]
        if not unnamed or self.phase is RETURNING:
            return self._come_back(now, availability, chance)
        free = [(state.needs_operator, state.last_failure, candidate) for candidate, state in unnamed if not state.full]
        if not free:
            return self._queue(now, unnamed)
        needs_operator, _, oldest = min(free, key=lambda one: one[:2])
        if self._failed_before():
            if self.phase is PANICKED and needs_operator:
                return self._come_back(now, availability, chance)
            if not self.budget.spend():
                return self._wait_for_token(now)
        self.phase = PANICKED
        return self._try(oldest, [candidate for candidate, _ in standings], now, availability)

    def _wait_for_recovery(self, now: float, standings: Standings) -> Wait | None:
        """Return the wait for whoever is usable first; None: nobody is near enough. A probe may end at any time."""
        look_s = min(self._look_s(), max(LOOK_AGAIN_S, WAIT_MAX_S - self._waited_s))
        lefts_s = [state.cooldown_until - now for _, state in standings if not state.usable]
        waits_s = [max(LOOK_AGAIN_S, left_s) if left_s > 0 else look_s for left_s in lefts_s]
        wait_s = min(waits_s, default=self.deadline)
        if wait_s > NEAR_S or now + wait_s >= self.deadline:
            return None
        if self._waited_s + wait_s > WAIT_MAX_S:
            self.phase = WAITED if self.phase is ASKING else self.phase
            return None
        self._waited_s += wait_s
        if wait_s == look_s:
            self._watched_s += wait_s
        return Wait(wait_s)

    def _wait_for_token(self, now: float) -> Next:
        """Wait a little for a token while requests succeed, and so earn some; where none does, it is over."""
        if now - self.budget.earned_at > EARNING_S or self._waited_s + LOOK_AGAIN_S > WAIT_MAX_S:
            return _DONE
        self._waited_s += LOOK_AGAIN_S
        return self._wait(LOOK_AGAIN_S, now)

    def _come_back(self, now: float, availability: Availabilities, chance: float) -> Next:
        """Every candidate was tried, or may not be: wait, and ask again the one that failed longest ago."""
        if (candidate := self._returning_to) is not None:
            state = availability(candidate, now)
            may_be_asked = not state.paused and state.named_until <= now  # another request may have been told meanwhile
            if state.full and may_be_asked:
                return self._queue(now, [(candidate, state)])
            self._returning_to = None
            if may_be_asked:
                return Try(candidate, self.deadline - now, last_hope=True)
        hopeful = [
            (state.last_failure, max(self._named_cooldown_s(c), state.named_until - now), c)
            for c in self.candidates
            if self._is_hopeful(c) and not (state := availability(c, now)).paused
        ]
        hopeful = [one for one in hopeful if one[1] <= NEAR_S]
        if not hopeful or self._retries == RETRIES or self.optional:
            return _DONE
        _, named_s, candidate = min(hopeful, key=lambda one: one[0])
        wait_s = max(FIRST_WAIT_S * 2.0**self._retries * chance, named_s)
        if now + wait_s >= self.deadline or not self.budget.spend():
            return _DONE
        self.phase = RETURNING
        self._retries += 1
        self._returning_to = candidate
        return Wait(wait_s)

    def _is_hopeful(self, candidate: Candidate) -> bool:
        """Say whether a candidate was tried and may say something else if it is asked again.

        A refused key, a request that it can't take, or a long cooldown of its own stay what they are. What was too slow
        would only begin anew.
        """
        said = [(outcome, verdict) for tried, outcome, verdict in self.attempts if tried is candidate]
        return bool(said) and not any(
            verdict.needs_operator
            or verdict.mark is Mark.NONE
            or (verdict.cooldown_s or 0.0) > NEAR_S
            or lasting(outcome)
            or _was_slow(outcome)
            for outcome, verdict in said
        )

    def _named_cooldown_s(self, candidate: Candidate) -> float:
        return next((v.cooldown_s or 0.0 for tried, _, v in reversed(self.attempts) if tried is candidate), 0.0)

    def _look_again(self, now: float) -> Next:
        """Wait a little for what other requests are about to show."""
        look_s = self._look_s()
        self._watched_s += look_s
        return self._wait(look_s, now)

    def _look_s(self) -> float:
        """Return how soon to look again at what other requests show: less and less often."""
        return min(max(LOOK_AGAIN_S, self._watched_s * LOOK_AGAIN_SHARE), LOOK_AGAIN_MAX_S)

    def _wait(self, seconds: float, now: float) -> Next:
        return Wait(min(seconds, max(0.0, self.deadline - now)))


def _not_before(state: Availability) -> float:
    """Return when a candidate may be asked again: its cooldown is over, and it has not just failed."""
    return max(state.cooldown_until, state.last_failure + SHOWN_S if state.last_failure else 0.0)


def _was_slow(outcome: Outcome) -> bool:
    """Say whether an attempt ended because its answer did not begin in time."""
    return isinstance(outcome, Broken) and outcome.cause in _SLOW


_SLOW = (Cause.SILENT, Cause.HEAD_TIMEOUT, Cause.IDLE_TIMEOUT)
