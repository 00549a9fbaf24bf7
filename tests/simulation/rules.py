"""What must hold at every step, whatever happens: judged from outside, by what was asked, said and got."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from simulation import received
from simulation.answers import Blame
from simulation.clients import SILENT_MAX_S, STUCK_MAX_S, SimulatedClient
from simulation.knowledge import Key, Knowledge, needed, tested
from simulation.plan import Ask, Plan
from simulation.story import Story
from simulation.upstream import EDGE_S, Exchange, SimulatedTransport, is_takable

from balancer.events import CooldownStarted, Event, ProviderWoken, RequestBegan, RequestEnded
from balancer.model import Broken, Candidate, Completed, Outcome, Refused, Request
from balancer.policy.verdicts import Scope, Verdict
from balancer.script import NOTHING_SENT, Cause, Fail
from balancer.server.progress import FINISHED, LEFT
from balancer.state.fleet import Fleet

NAMED_MAX_S = 900.0
FIRST_S = 5.0
"""The first ordinary cooldown, without jitter."""
OPERATOR_MAX_S = 3600.0
TIMEOUTS = (Cause.CONNECT_TIMEOUT, Cause.HEAD_TIMEOUT, Cause.IDLE_TIMEOUT, Cause.SILENT)
SHOWN_S = 0.5
"""For so long after a failure no further request need be risked on a provider."""
READ_EVERY = 10
"""In every so many simulations some streams are read word by word."""
BUDGET = 10
EXTRA = 1.2


@dataclass(slots=True)
class Run:
    """One request's way through its candidates, as seen from outside."""

    client: SimulatedClient
    request_id: str
    arrived: float
    candidates: list[Candidate] = field(default_factory=list)
    pinned: bool = False
    ordered_at: float = -1.0
    exchanges: list[Exchange] = field(default_factory=list)
    outcomes: list[tuple[Candidate, Outcome, Verdict]] = field(default_factory=list)
    too_long: bool = False
    ended: RequestEnded | None = None

    @property
    def deadline(self) -> float:
        ask = self.client.ask
        longest_s = 3.0 if ask.counts else 300.0 if ask.stream else 600.0
        if ask.timeout_s is not None and ask.timeout_s > 10.0 and not ask.counts:
            longest_s = min(longest_s, ask.timeout_s - 5.0)
        return self.arrived + longest_s

    def tried(self, candidate: Candidate) -> bool:
        return any(tried is candidate for tried, _, _ in self.outcomes)


class Rules:
    """Judges one simulation. What it finds stands in `violations`, and in the story."""

    def __init__(
        self, plan: Plan, story: Story, transport: SimulatedTransport, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.plan = plan
        self.story = story
        self.transport = transport
        self.loop = loop
        self.known = Knowledge()
        self.violations: list[str] = []
        self.about: set[str] = set()
        """Whose requests the violations are about."""
        self.runs: list[Run] = []
        self.fleet: Fleet
        self.failed = 0
        """Requests that failed before any content, by no fault of their own."""
        self._by_task: dict[asyncio.Task[Any] | None, Run] = {}
        self._by_id: dict[str, Run] = {}
        self._ended: dict[str, int] = {}
        self._followers: set[str] = set()
        self._probes: dict[int, list[Key]] = {}
        self._last_bad: dict[Key, float] = {}
        self._gone: dict[asyncio.Future[None], float] = {}
        """Who stopped waiting for a slot and is still in the queue, and since when."""
        self._failed_at: dict[Key, float] = {}
        """Of those, the failures that were held against just this."""
        self._bad_since: dict[str, float] = {}
        self._openings: dict[Key, dict[int, None]] = {}
        """Which questions have opened a circuit in a row, without any content between."""
        self._reads = plan.seed % READ_EVERY == READ_EVERY - 1
        self._opened: dict[Key, int] = {}
        """How often each circuit was opened."""
        self._failed_on: dict[int, set[str]] = {}
        """Who has failed on which question."""
        self._explored = 0
        """Attempts after a failure, at a provider of which nobody knew how it was at that time."""
        transport.referee = self

    def violate(self, rule: str, who: str = "") -> None:
        """Note that a rule is broken; `who`: whose request it is about."""
        self.violations.append(rule)
        if who:
            self.about.add(who)
        self.story.tell(self.loop.time(), who or "RULE", "VIOLATION: %s", rule)

    # Events

    def told(self, event: Event) -> None:
        """Hear an event of the balancer."""
        now = self.loop.time()
        if isinstance(event, RequestBegan):
            self._began(event, now)
        elif isinstance(event, RequestEnded):
            self._over(event)
        else:
            if isinstance(event, CooldownStarted):
                self._cools_down(event, now)
            if isinstance(event, ProviderWoken):
                self.went_well(event.provider)
            self.known.told(event, now)
            self._tell(event, now)

    def _tell(self, event: Event, now: float) -> None:
        provider = getattr(event, "provider", "")
        cooldown = f" for {event.cooldown_s:.3f} s: {event.reason}" if isinstance(event, CooldownStarted) else ""
        scope = getattr(event, "scope", "")
        self.story.tell(now, "state", "%s %s %s%s", type(event).__name__, provider, scope, cooldown)

    def _began(self, event: RequestBegan, now: float) -> None:
        task = asyncio.current_task()
        run = Run(self.transport.clients[task], event.id, now)
        self._by_task[task] = self._by_id[event.id] = run
        self.runs.append(run)

    def _over(self, event: RequestEnded) -> None:
        run = self._by_id[event.id]
        if run.ended is not None:
            self.violate("a request ended twice", run.client.who)
        run.ended = event
        self._nobody_stays_in_the_queue()
        run.client.followed = event.dedup == "follower"
        self.story.tell(
            self.loop.time(), run.client.who, "is over: %s %d after %d attempts%s",
            event.outcome, event.status, len(event.attempts), f" ({event.dedup})" if event.dedup else "",
        )  # fmt: skip

    def _nobody_stays_in_the_queue(self) -> None:
        """Whoever stops waiting for a slot leaves the queue in the same moment."""
        now = self.loop.time()
        gone = [freed for freed in self.fleet.admission._queue.waiting if freed.cancelled()]
        self._gone = {freed: self._gone.get(freed, now) for freed in gone}
        if any(since < now - EDGE_S for since in self._gone.values()):
            self.violate("a request is in the queue for a slot that does not wait any more")

    def _cools_down(self, event: CooldownStarted, now: float) -> None:
        """Check who is to blame for a cooldown, and how long it lasts."""
        max_s, constant = self.plan.cooldown
        run = self._by_task.get(asyncio.current_task())
        key = (event.provider, event.scope, event.model)
        exchange = run.exchanges[-1] if run is not None and run.exchanges else None
        if run is None or exchange is None or exchange.upstream.name != event.provider:
            self.violate(f"{event.provider} cools down, and no exchange with it was the reason")
            return
        self._is_to_blame(exchange, now, run)
        named_s = min(exchange.behaviour.named_s or 0.0, NAMED_MAX_S)
        open_until = self.known.until.get(key, 0.0)
        longest_s = OPERATOR_MAX_S if event.needs_operator else max(max_s, named_s)
        if event.cooldown_s > max(longest_s, open_until - now) + EDGE_S:
            self.violate(f"{event.provider} cools down for {event.cooldown_s} s, longer than allowed", run.client.who)
        if now < open_until - EDGE_S:
            return  # it was open: only prolonged
        asked = run.client.ask.number if run.client.ask.same_as is None else run.client.ask.same_as
        met = self._openings.setdefault(key, {})
        met[asked] = None
        shortest_s = 0.8 * FIRST_S / 4  # among good answers
        if len(met) > 2 and exchange.behaviour.blame is not Blame.ACCOUNT:
            shortest_s = 0.8 * FIRST_S * 2.0 ** (len(met) - 3)  # some may have been of another kind
        least_s = 600.0 if event.needs_operator else max_s if constant else min(shortest_s, 0.8 * max_s)
        ever = self._opened[key] = self._opened.get(key, 0) + 1
        most_s = max(named_s, max_s if constant or event.needs_operator else 1.2 * FIRST_S * 2.0 ** (ever - 1))
        if event.cooldown_s > most_s + EDGE_S and not event.needs_operator:
            self.violate(f"{event.provider} cools down for {event.cooldown_s} s at failure {ever}", run.client.who)
        if event.cooldown_s < max(least_s, named_s) - EDGE_S:
            self.violate(f"{event.provider} cools down for {event.cooldown_s} s, which is too short", run.client.who)

    def _is_to_blame(self, exchange: Exchange, now: float, run: Run) -> None:
        behaviour = exchange.behaviour
        decided = now - exchange.began >= behaviour.decided_s - EDGE_S
        if run.client.progress is LEFT and not self._has_followers(run) and not decided:
            self.violate(f"{exchange.upstream.name} cools down because a client left", run.client.who)
        if decided and behaviour.blame in (Blame.NOBODY, Blame.REQUEST, Blame.CAPABILITY):
            self.violate(f"{exchange.upstream.name} cools down after '{behaviour.kind}'", run.client.who)

    # A request's way

    def ordered(self, request: Request, candidates: list[Candidate], pinned: bool, now: float) -> None:
        """Hear in which order a request's candidates are to be asked."""
        run = self._by_id[request.id]
        run.candidates, run.pinned, run.ordered_at = list(candidates), pinned, now

    def asked(self, exchange: Exchange) -> None:
        """Judge that a provider is asked now."""
        run = self._by_task[asyncio.current_task()]
        name, now, who = exchange.upstream.name, exchange.began, run.client.who
        run.exchanges.append(exchange)
        candidate = next(c for c in run.candidates if c.provider.name == name and c.model == exchange.model)
        if run.client.gone and not self._has_followers(run):
            self.violate(f"{name} is asked although the client has left", who)
        if now > run.deadline + EDGE_S:
            self.violate(f"{name} is asked after the deadline", who)
        if name in self.known.paused:
            self.violate(f"{name} is asked although it is paused", who)
        limit = candidate.provider.max_in_flight
        if limit is not None and self.transport.open[name] > limit:
            self.violate(f"{name} has {self.transport.open[name]} requests, more than its {limit}", who)
        if (
            len(run.exchanges) > 1
            and self.transport.open[name] == 1
            and now - self._bad_since.get(name, -1.0) > SHOWN_S
        ):
            self._explored += 1
        in_flight = self.fleet.stats(name).in_flight
        if in_flight != self.transport.open[name]:
            self.violate(f"{in_flight} requests are counted at {name}, and {self.transport.open[name]} are there", who)
        self._is_next(run, candidate, now)
        self._keeps_named(run, candidate, now)
        probed = self._probes[exchange.number] = self.known.half_open(candidate, now)
        for key in probed:
            self.known.probes[key] = self.known.probes.get(key, 0) + 1

    def _is_next(self, run: Run, candidate: Candidate, now: float) -> None:
        """Nobody may be asked who is tried or in trouble while another is neither; and better priorities come first."""
        name, who = candidate.provider.name, run.client.who
        others = [
            other
            for other in run.candidates
            if other is not candidate and not run.tried(other) and self._is_free(other, now)
        ]
        if run.too_long or not others:
            return
        free = others[0].provider.name
        if run.tried(candidate):
            self.violate(f"{name} is asked twice although {free} is untried and usable", who)
        elif self.known.usable(candidate, now) is False:
            self.violate(f"{name} is asked although it is in cooldown or being probed, and {free} is usable", who)
        if not run.outcomes and not run.client.ask.session and now == run.ordered_at:
            better = [other.provider.name for other in others if other.priority < candidate.priority]
            if better:
                self.violate(f"{name} is asked before {better[0]}, which has a better priority", who)

    def _is_free(self, candidate: Candidate, now: float) -> bool:
        limit = candidate.provider.max_in_flight
        full = limit is not None and self.transport.open[candidate.provider.name] >= limit
        return not full and self.known.usable(candidate, now) is True

    def _keeps_named(self, run: Run, candidate: Candidate, now: float) -> None:
        """A time that a provider named is kept, whoever is left to ask."""
        for key in needed(candidate):
            if (until := self.known.named.get(key, 0.0)) > now + EDGE_S:
                name = candidate.provider.name
                self.violate(f"{name} is asked {until - now:.3f} s before the time that it named", run.client.who)

    def content_began(self, exchange: Exchange) -> None:
        """Hear that content has come: what is probed works, whoever probes it, unless it has failed since this began."""
        name, model = exchange.upstream.name, exchange.model
        keys: tuple[Key, ...] = ((name, "provider", ""), (name, "model", model))
        self.went_well(name)
        since = {key for key in keys if exchange.began >= self._failed_at.get(key, 0.0)}  # an older one shows nothing
        self.known.shown.update(key for key in since if self.known.probes.get(key))

    def went_well(self, provider: str) -> None:
        """A provider has begun to answer, or is to count as if it had: the next failure is the first in a row."""
        for key in [key for key in self._openings if key[0] == provider]:
            del self._openings[key]

    def closed(self, exchange: Exchange) -> None:
        """Hear that an exchange is over."""
        for key in self._probes.pop(exchange.number, ()):
            self.known.probes[key] -= 1
            if not self.known.probes[key]:
                self.known.shown.discard(key)

    def observed(self, candidate: Candidate, outcome: Outcome, verdict: Verdict, now: float) -> None:
        """Judge what the balancer has concluded from an attempt."""
        run = self._by_task[asyncio.current_task()]
        exchange, who = run.exchanges[-1], run.client.who
        run.outcomes.append((candidate, outcome, verdict))
        exchange.given_up = not isinstance(outcome, Completed)
        run.too_long = run.too_long or (run.client.ask.nature == "long" and exchange.behaviour.blame is Blame.REQUEST)
        words = verdict.reason or "completed"
        self.story.tell(now, who, "concludes of %s: %s, %s", candidate.provider.name, verdict.mark.value, words)
        blame, decided = exchange.behaviour.blame, now - exchange.began >= exchange.behaviour.decided_s - EDGE_S
        if isinstance(outcome, Broken) and outcome.cause is Cause.CRASHED:
            self.violate(f"the balancer crashed while asking {candidate.provider.name}: {outcome.detail}", who)
        if isinstance(outcome, Completed):
            if blame is not Blame.NOBODY:
                self.violate(f"'{exchange.behaviour.kind}' counts as a good answer", who)
            if not self.known.was_replaced(candidate):
                self._closes(candidate, exchange, who)
            return
        if exchange.said_error and not isinstance(outcome, Refused):
            self.violate(f"{candidate.provider.name} said that it failed, and {words} is told instead", who)
        timed_out = isinstance(outcome, Broken) and outcome.cause in TIMEOUTS
        if timed_out:
            self._was_patient(run, exchange, now)
        if blame in (Blame.REQUEST, Blame.CAPABILITY) and decided and not timed_out:
            if verdict.mark.value != "none":
                self.violate(f"'{exchange.behaviour.kind}' is held against {candidate.provider.name}", who)
            return
        if blame is Blame.NOBODY and not timed_out:
            self.violate(f"a good answer of {candidate.provider.name} counts as a failure: {verdict.reason}", who)
        if not self.known.was_replaced(candidate):
            self._opens(run, candidate, outcome, verdict, now)

    def _was_patient(self, run: Run, exchange: Exchange, now: float) -> None:
        upstream = exchange.upstream
        least_s = min(upstream.request_timeout_s, upstream.idle_s, 5.0, (run.deadline - exchange.began) / 2)
        if now - exchange.began < least_s - EDGE_S:
            self.violate(f"{upstream.name} was given up after {now - exchange.began:.3f} s", run.client.who)

    def _closes(self, candidate: Candidate, exchange: Exchange, who: str) -> None:
        """A good answer ends what was held against the candidate, unless that is newer."""
        for key in tested(candidate):
            if key in self.known.until and self._last_bad.get(key, 0.0) < exchange.began:
                self.violate(f"{candidate.provider.name} has answered, and its circuit is not closed", who)

    def _opens(self, run: Run, candidate: Candidate, outcome: Outcome, verdict: Verdict, now: float) -> None:
        """A failure begins a cooldown, of the scope and length that it stands for."""
        exchange, who = run.exchanges[-1], run.client.who
        name, behaviour = candidate.provider.name, exchange.behaviour
        scopes, suspect = _scopes(exchange, outcome), self._is_suspect(run, name)
        if verdict.mark.value != "bad":
            self.violate(f"'{behaviour.kind}' is not held against {name}", who)
            return
        if verdict.scope.value not in scopes:
            self.violate(f"'{behaviour.kind}' counts for the {verdict.scope.value} of {name}, not the {scopes[0]}", who)
        keys = [(name, scope, candidate.model if scope == "model" else "") for scope in scopes]
        self._bad_since[name] = now
        for key in keys:
            self._last_bad[key] = now
            if len(keys) == 1 or self.known.until.get(key, 0.0) > now:
                self.known.shown.discard(key)
                self._failed_at[key] = now
        until = max(self.known.until.get(key, 0.0) for key in keys)
        if until <= now and self.plan.cooldown[0] and not suspect:
            self.violate(f"{name} failed by '{behaviour.kind}', and does not cool down", who)
        if behaviour.named_s and isinstance(outcome, Refused) and not suspect:
            named_until = now + min(behaviour.named_s, NAMED_MAX_S)
            kept = (key for key in keys if self.known.until.get(key, 0.0) >= named_until - EDGE_S)
            key = next(kept, keys[0])  # the narrower scope first
            self.known.named[key] = max(self.known.named.get(key, 0.0), named_until)
            if until < named_until - EDGE_S:
                self.violate(f"{name} named {behaviour.named_s} s, and cools down for {until - now:.3f} s", who)

    def _is_suspect(self, run: Run, name: str) -> bool:
        """Note who has failed on a question; say whether another had before: then it may be the question's fault."""
        ask = run.client.ask
        failed = self._failed_on.setdefault(ask.number if ask.same_as is None else ask.same_as, set())
        failed.add(name)
        return len(failed) > 1

    def _has_followers(self, run: Run) -> bool:
        """Say whether another client waits for the same answer."""
        ask = run.client.ask
        first = ask.number if ask.same_as is None else ask.same_as
        return any(
            (other.ask.same_as if other.ask.same_as is not None else other.ask.number) == first
            and other is not run.client
            and other.progress not in FINISHED
            and not other.gone
            for other in self.transport.clients.values()
        )

    # Ends

    def ended(self, client: SimulatedClient) -> None:
        """Judge what a client has got, once nothing more comes."""
        who, ask = client.who, client.ask
        for breach in client.breaches:
            self.violate(breach, who)
        if client.progress not in FINISHED and client.progress is not LEFT:
            self.violate(f"its answer never ended: {client.progress.value}", who)
            return
        for breach in received.breaches(client, self.transport.exchanges, read=self._reads and ask.number % 5 == 0):
            self.violate(breach, who)
        if ask.stream and ask.reads_all and client.longest_silence_s > SILENT_MAX_S:
            self.violate(f"its client heard nothing for {client.longest_silence_s:.3f} s", who)
        if client.longest_wait_s > STUCK_MAX_S:
            self.violate(f"it read nothing for {client.longest_wait_s:.3f} s, and was not cut off", who)
        run = next((run for run in reversed(self.runs) if run.client is client), None)
        if run is None or client.progress is LEFT:
            return
        if run.ended is None:
            self.violate("its end was not told", who)
            return
        got = received.outcome(client)
        if run.ended.outcome not in got and ask.reads_all:
            self.violate(f"it is told as '{run.ended.outcome}', and its client has: {' or '.join(got)}", who)
        if run.ended.outcome == "failed" and not client.followed:
            self._had_to_fail(run)
        if client.followed and run.ended.outcome in ("failed", "broken_stream") and ask.reads_all:
            self._had_to_share_a_failure(run)
        stopped = self.plan.stops_at is not None
        if "broken_stream" in got and not client.followed and not stopped and ask.reads_all and run.exchanges:
            behaviour = run.exchanges[-1].behaviour
            if behaviour.whole and behaviour.kind == "good":
                self.violate("a good answer reached its client broken", who)

    def _had_to_share_a_failure(self, run: Run) -> None:
        """Who shares another's answer has the whole of it, whatever becomes of the other's client."""
        question = _question(run.client.ask)
        shared = [each for each in self.transport.exchanges if _question(each.client.ask) == question]
        last = shared[-1] if shared and self.plan.stops_at is None else None
        if last is not None and not last.given_up and last.ended >= run.arrived and last.behaviour.kind == "good":
            self.violate("it shared a good answer, and did not get it", run.client.who)

    def _had_to_fail(self, run: Run) -> None:
        """A request may fail only if nobody could have answered it."""
        ask, now, who = run.client.ask, self.loop.time(), run.client.who
        if self.plan.stops_at is not None and now >= self.plan.stops_at:
            return
        self.failed += 1
        late_s = now - run.deadline
        if not ask.reads_all:
            return  # it was told later than it was decided
        if late_s > 1.0 and run.ordered_at >= 0:
            self.violate(f"it failed {late_s:.1f} s after its deadline", who)
        if late_s > -0.1 or self.fleet.admission.full:
            return
        for candidate in run.candidates:
            name, upstream = candidate.provider.name, self.transport.by_port[candidate.provider.origin.port]
            if (
                is_takable(upstream, ask.nature)
                and upstream.weather.healthy_all_along(run.arrived - 1.0, now)
                and self.known.closed(candidate)
                and self.known.troubled.get(name, -1.0) < run.arrived
                and self._bad_since.get(name, -1.0) < run.arrived - SHOWN_S
                and self._is_free(candidate, now)
            ):
                self.violate(f"it failed although {name} was healthy and usable", who)

    def all_over(self) -> None:
        """Judge what is left when everything has ended."""
        fleet = self.fleet
        left = {
            "requests in the balancer": fleet.admission.in_flight,
            "requests at providers": sum(fleet.stats(one.name).in_flight for one in self.plan.upstreams),
            "exchanges": sum(self.transport.open.values()),
            "probes": len(fleet.health.probes),
            "requests that wait for a slot": len(fleet.admission._queue.waiting),
        }
        for words, count in left.items():
            if count:
                self.violate(f"{count} {words} are left when all is over")
        for breach in self.transport.breaches:
            self.violate(breach)
        leaders = [run for run in self.runs if not run.client.followed]
        attempts = len(self.transport.exchanges) - self._explored
        if self.plan.flavour == "outage" and attempts > EXTRA * len(leaders) + BUDGET:
            self.violate(f"{attempts} attempts for {len(leaders)} requests in a total outage")


def _question(ask: Ask) -> int:
    return ask.number if ask.same_as is None else ask.same_as


def _scopes(exchange: Exchange, outcome: Outcome) -> tuple[str, ...]:
    """Return what a failure may be held against: overload is the model's until a second model meets it."""
    behaviour = exchange.behaviour
    blame, step = behaviour.blame, behaviour.steps[0][1]
    if blame is Blame.ACCOUNT:
        return (Scope.PROVIDER.value,)
    unsent = isinstance(step, Fail) and step.cause in NOTHING_SENT
    if isinstance(outcome, Broken) and outcome.cause is Cause.CONNECT_TIMEOUT:
        unsent = True
    if exchange.counts and not unsent:
        return (Scope.COUNTING.value,)
    if not isinstance(outcome, Refused):
        return (Scope.PROVIDER.value,)
    if blame is Blame.MODEL:
        return (Scope.MODEL.value,)
    overloaded = outcome.fault.kind == "overloaded_error"
    return (Scope.MODEL.value, Scope.PROVIDER.value) if overloaded else (Scope.PROVIDER.value,)


__all__ = ["Rules", "Run", "needed"]
