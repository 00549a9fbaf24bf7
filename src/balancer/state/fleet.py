"""What requests share. `Fleet` is the front; behind it each part of the state has one owner.

    `fleet.health`      what has failed, cools down, or is probed       `health.HealthTable`
    `fleet.admission`   slots, the queue for them, requests in flight   `admission.Admission`
    `fleet.stats(name)` counters, latency, tokens of a provider         `stats.StatsTable`
    `fleet.pins`        conversations and their providers               `pins.Pins`
    `fleet.resources`   batches, files, skills and their providers      `resources.Resources`
    `fleet.responses`   stored responses of OpenAI's API, likewise      `resources.Resources`
    `fleet.orders`      what people order: wake, pause, resume, faults  `orders.Orders`
    `fleet.budget`      retries that an outage may still cost           `policy.retry_budget.Budget`
    `fleet.refused_credentials`    of clients, told once for each       `credentials.RefusedCredentials`
    `fleet.local_faults`           shortages of this machine            `local_faults.LocalFaults`

`Fleet` itself holds the configuration, and puts candidates in order. Configuration is not state: a reload replaces
`config` whole, while what was learnt stays with its owner under the provider's name. Everything runs on one event
loop, and no method awaits between reading and changing, so there are no locks.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import xxhash
from msgspec.structs import replace as replace_fields

from balancer import config as configuration
from balancer import dialects
from balancer.config import Config, inventory
from balancer.events import Bus, Reloaded
from balancer.model import Candidate, Operation, Outcome, Request, Route, Target
from balancer.policy import deadlines
from balancer.policy.circuit import CooldownPolicy
from balancer.policy.exhausted import Failure, is_lasting
from balancer.policy.failover import Failover
from balancer.policy.preference import checking_first, refuses_thinking, same_organization_first
from balancer.policy.retry_budget import Budget
from balancer.policy.routes import Routing
from balancer.policy.statements import statement
from balancer.policy.strategies import STRATEGIES, Strategy, View, priority
from balancer.policy.verdicts import Mark, Proof, Trouble, Verdict
from balancer.redact import EMPTY, Inventory
from balancer.state.admission import Admission, Place, SlotQueue
from balancer.state.credentials import RefusedCredentials
from balancer.state.health import HealthTable
from balancer.state.local_faults import LocalFaults
from balancer.state.orders import Orders
from balancer.state.pins import Pins
from balancer.state.prepared import Prepared, Rules, candidates_of, remembered_candidates
from balancer.state.resources import Resources
from balancer.state.stats import Loads, ProviderStats, StatsTable
from balancer.wire import safeguards
from balancer.wire.history import carries_thinking


class Fleet:
    """The providers as they are now, and what all requests share."""

    config: Config
    """What the file says. Requests under way keep the one with which they began."""
    routing: Routing
    secrets: Inventory = EMPTY
    """Every secret of the file, and the latest that were in it: none may be in anything that leaves the balancer."""
    rules: Rules
    safety_judge: Route | None = None
    """The way to the model that gives the verdicts that other providers don't; None: nobody does."""
    _strategy: Strategy
    _candidates: Callable[[str, str, str], tuple[Candidate, ...]]
    """Returns the candidates by pattern, model and operation; what was asked for last is remembered."""

    def __init__(self, config: Config, bus: Bus, rng: random.Random) -> None:
        queue = SlotQueue()
        self.bus = bus
        self.rng = rng
        self.generation = 0
        """How often the configuration was replaced."""
        self.needs_restart: tuple[str, ...] = ()
        """Settings that a reload brought and only a restart puts into effect."""
        self.refused: tuple[str, ...] = ()
        """What is wrong with the configuration that was read last, where that is not the one in force."""
        self._started_with = config.settings
        self.draining = False
        self.drain_announced = False
        """It is about to drain, and `/ready` says so; requests are still served."""
        self.on_news: Callable[[], None] = _nothing
        """Is called when another worker has changed what is known of a provider."""
        self.on_key_refused: Callable[[str], None] = _nobody
        """Is called with the name of a provider that has refused its key, cooldown or not."""
        self._configured: dict[str, None] = {}
        self._former: tuple[str, ...] = ()
        """Secrets of former configurations, the latest last."""
        self.budget = Budget()
        self.refused_credentials = RefusedCredentials()
        self.local_faults = LocalFaults()
        self.resources = Resources()
        self.responses = Resources()
        self._stats = StatsTable(ProviderStats)
        self.health, self.admission, self.pins = self._parts(queue)
        self.orders = Orders(self._stats, self.health, bus, queue.wake)
        self._turns: dict[tuple[str, Operation], int] = {}
        self._apply(Prepared.of(config))

    def _parts(self, queue: SlotQueue) -> tuple[HealthTable, Admission, Pins]:
        """Return what workers may share. Is called once, at the beginning."""
        health = HealthTable(self._stats, self.bus, self.rng, queue.wake)
        return health, Admission(self._stats, health, queue), Pins()

    def learn(self) -> None:
        """Learn what other workers have told. Here there are none."""

    def may_probe(self, provider: str) -> bool:
        """Say whether it is for this worker to ask a provider that cools down what costs nothing."""
        return True

    # Configuration

    def reload(self, config: Config | Prepared, wall: float, *, logs: bool = True) -> tuple[str, ...]:
        """Put a configuration in force, and return in words what changed. `logs`: nobody else tells of it."""
        old, prepared = self.config, config if isinstance(config, Prepared) else Prepared.of(config, self.config)
        if prepared.old is not old:  # another one has come into force meanwhile
            prepared = Prepared.of(prepared.config, old)
        config, changes = prepared.config, prepared.changes
        for name, provider in config.providers.items():
            before = old.providers.get(name)
            if before and not before.is_asked_like(provider):
                self.health.forget(name)  # what was answered to the old one says nothing about the new one
                self._stats[name].begin_anew(
                    another_server=before.type != provider.type or before.base_url != provider.base_url
                )
        self._apply(prepared)
        self.refused = ()
        self.generation += 1
        self.needs_restart = configuration.needs_restart(self._started_with, config.settings)
        if logs:
            self.bus.emit(Reloaded(wall, self.generation, changes, self.needs_restart))
        return changes

    def listens(self, host: str, port: int, *, reuse_port: bool) -> None:
        """Note what the sockets were opened for that this process was given: a changed setting does not move them."""
        opened = {"host": host, "port": port, "reuse_port": reuse_port}
        self._started_with = self._started_with.model_copy(update=opened)
        self.needs_restart = configuration.needs_restart(self._started_with, self.config.settings)

    def _apply(self, prepared: Prepared) -> None:
        """Put it in force. All that a reload changes here stands in this method; `App.put_in_force` has the rest."""
        config = self.config = prepared.config
        settings = config.settings
        self.routing, self.rules = prepared.routing, prepared.rules
        now = prepared.configured
        former = (*self._former, *self._configured)
        self._former = tuple(secret for secret in dict.fromkeys(former) if secret not in now)[-FORMER_KEPT:]
        self._configured = now
        self.secrets = prepared.secrets
        if self._former:
            self.secrets = Inventory((*now, *self._former), inventory.public(config))
        if (judge := settings.safety_judge) is not None:
            self.safety_judge = Route("settings.safety_judge", (Target(judge.provider, judge.model),))
        else:
            self.safety_judge = None
        self._strategy = STRATEGIES[settings.selection_strategy]
        self._candidates = remembered_candidates(config)
        self.health.apply(CooldownPolicy(settings.cooldown_s, settings.cooldown_constant), prepared.only_models)
        self.pins.apply(enabled=settings.sticky.enabled, ttl_s=settings.sticky.ttl)
        self.orders.apply(config.providers)
        limits, several = settings.limits, len(settings.auth.keys) > 1
        self.admission.apply(max_in_flight=limits.max_in_flight, queue_s=limits.queue_s, fair=several)

    # Candidates

    def route(self, model: str) -> Route | None:
        """Return the route of a model's name; None: no pattern matches it."""
        return self.routing.match(model)

    def candidates(self, request: Request, route: Route, now: float) -> tuple[list[Candidate], bool]:
        """Return the candidates in the order in which they are to be asked, and whether a pin decided who is first.

        Usable ones come first, ordered by the strategy; then those that cool down, by priority.
        """
        everybody = self._everybody(route, request.model, request.operation)
        if self.health.paused:
            everybody = tuple(c for c in everybody if c.provider.name not in self.health.paused)
        if request.grant is not None and request.grant.providers:
            everybody = tuple(c for c in everybody if c.provider.name in request.grant.providers)
        pinned = None if request.conversation is None else self.pins.find(request, route, now)
        health = self.health
        if len(everybody) == 1 and not health.entries:
            return list(everybody), pinned == everybody[0].provider.name
        usable: list[Candidate] = []
        cooling: list[Candidate] = []
        if health.entries:
            ailing = health.entries.providers
            for c in everybody:
                fit = c.provider.name not in ailing or health.availability(c, now).usable
                (usable if fit else cooling).append(c)
        else:
            usable.extend(everybody)
        if len(usable) > 1 and self._strategy is not priority:  # that is the order they are in already
            taking = (route.pattern, request.operation)  # who counts before each request must not take its turn
            if pinned is None:
                self._turns[taking] = self._next_turn(taking)
            usable = self._strategy(usable, View(self._turns.get(taking, 0), self.rng, Loads(self._stats)))
        if request.asks_check and len(usable) > 1:
            usable = checking_first(usable, self._doubt)
        ordered = usable + cooling if cooling else usable
        if pinned is None:
            return ordered, False
        held = next((c for c in usable if c.provider.name == pinned), None)
        if held is None:
            return self._near(request, ordered, pinned), False
        if request.asks_check and self._doubt(held) == CHECKS_NOTHING > self._doubt(ordered[0]):
            return ordered, False  # its cache is not worth a session in which no action can be checked
        if held is not ordered[0]:
            ordered = [held] + [c for c in ordered if c is not held]
        return ordered, True

    def _next_turn(self, taking: tuple[str, Operation]) -> int:
        return self._turns.get(taking, -1) + 1

    def _doubt(self, candidate: Candidate) -> int:
        """Return how doubtful it is that a candidate returns verdicts on actions, as `safeguards.Known` has it."""
        if not dialects.get(candidate.provider.type).checks_actions:
            return CHECKS_NOTHING
        known = self._stats[candidate.provider.name].provider_state.get(safeguards.Known)
        return 0 if known is None else known.doubt(candidate.model)

    def _near(self, request: Request, candidates: list[Candidate], home: str) -> list[Candidate]:
        """Return the candidates with those first, within each priority, of the organization of the provider `home`.

        That matters to a request that carries thinking, and to it alone.
        """
        organization = self._stats[home].organization
        if not organization or not carries_thinking(request.body):
            return candidates
        return same_organization_first(candidates, organization, self._organization)

    def leaves_reasoning(self, request: Request, provider: str, other: str) -> bool:
        """Return whether a request's reasoning is lost that goes from a provider to another one.

        That is so where both are known to belong to organizations, and not to the same.
        """
        one, another = self._stats[provider].organization, self._stats[other].organization
        return bool(one and another and one != another) and carries_thinking(request.body)

    def _organization(self, candidate: Candidate) -> str:
        return self._stats[candidate.provider.name].organization

    def _everybody(self, route: Route, model: str, operation: Operation) -> tuple[Candidate, ...]:
        """Return the candidates of a route, by priority, then in the order of the file."""
        try:
            return self._candidates(route.pattern, model, operation.word)
        except KeyError:  # a reload has taken the route away
            return candidates_of(self.config, route, model, operation)

    # A request's way

    def admit(self, client: str = "") -> Admission | Place:
        """Return a place in the balancer as a whole for a request of this client, to be held with `with`."""
        admission = self.admission
        return admission.place(client) if admission.fair else admission

    def failover(self, request: Request, candidates: list[Candidate], now: float) -> Failover:
        """Return the failover of a request that arrived at `now`."""
        rules, stream_s = self.rules, deadlines.STREAM_MAX_S
        if rules.longest_s > stream_s:
            stream_s = max([stream_s, *(candidate.provider.timeouts.request_s for candidate in candidates)])
        deadline = now + deadlines.overall_s(request, rules.whole_answer_s, stream_s)
        all_well = not self.health.entries and not self.health.paused
        # Counting is optional: there is an estimate.
        return Failover(candidates, deadline, self.budget, rules.queue_s, request.operation.counts, all_well)

    def choose_again(self, request: Request, route: Route, failover: Failover, outcome: Outcome, now: float) -> None:
        """After an attempt that failed: put those first that the request's reasoning still counts at.

        A refusal of thinking would be repeated within the same organization: none of it is asked any more.
        """
        candidate = failover.attempts[-1][0]
        tried = {id(attempt[0]) for attempt in failover.attempts}
        asked = [c for c in failover.candidates if id(c) in tried]
        left = [c for c in failover.candidates if id(c) not in tried]
        organization = self._organization(candidate)
        if left and organization and refuses_thinking(outcome):
            failover.candidates = asked + [c for c in left if self._organization(c) != organization]
        elif len(left) > 1:
            home = self.pins.find(request, route, now) or failover.attempts[0][0].provider.name
            failover.candidates = asked + self._near(request, left, home)

    def observe(
        self,
        candidate: Candidate,
        outcome: Outcome,
        verdict: Verdict,
        *,
        began: float,
        now: float,
        wall: float,
        injected: bool = False,
        request: Request | None = None,
    ) -> None:
        """Learn from an attempt that began at `began` and ended with this outcome at `now`.

        `injected`: it met a fault that was ordered (`Orders.inject`). `request`: what the attempt was for.
        """
        if verdict.mark.good:
            self._stats[candidate.provider.name].succeeded(now - began)
            self.budget.earn(now)
            if not self.health.entries or self._was_replaced(candidate):
                return
            witness, said = 0, None
        elif (verdict.mark is Mark.NONE and verdict.proof is not Proof.UNSURE) or self._was_replaced(candidate):
            return
        else:
            witness = _witness(request)
            if verdict.mark is Mark.BAD:
                self._stats[candidate.provider.name].failed(outcome, verdict, wall)
                if verdict.needs_operator is Trouble.KEY:
                    self.on_key_refused(candidate.provider.name)
            if verdict.evidence and request is not None and _quotes(verdict.evidence, request):
                verdict = replace_fields(verdict, mark=Mark.NONE, proof=Proof.UNSURE)
            said = statement(outcome, now, self.secrets)
        self.health.observe(candidate, verdict, began, now, wall, injected=injected, witness=witness, said=said)
        if injected:
            self.orders.met(candidate.provider.name, now, wall)

    def _was_replaced(self, candidate: Candidate) -> bool:
        """Say whether a reload has changed a provider since it was asked: what it said is of the past then."""
        present = self.config.providers.get(candidate.provider.name)
        return present is not candidate.provider and (present is None or not present.is_asked_like(candidate.provider))

    def unasked(self, request: Request, failover: Failover, now: float) -> tuple[list[Failure], float | None]:
        """Return what is known against the candidates that were not asked, and the seconds until waiting helps.

        With them are the providers of the route that are paused, and those that are disabled if there are no others.
        """
        health = self.health
        asked = {id(candidate) for candidate, _, _ in failover.attempts}
        failures = health.failures((c for c in failover.candidates if id(c) not in asked), now)
        known = {c.provider.name for c in failover.candidates}
        route = self.route(request.model)
        enabled = self._everybody(route, request.model, request.operation) if route is not None else ()
        if request.grant is not None and request.grant.providers:
            enabled = tuple(c for c in enabled if c.provider.name in request.grant.providers)
        failures += health.failures((c for c in enabled if c.provider.name in health.paused - known), now)
        if route is not None and not failures and not asked:
            names = dict.fromkeys(target.provider for target in route.targets)
            failures += [Failure(name, needs_operator=Trouble.DISABLED) for name in names]
        lasting = {id(candidate) for candidate, outcome, verdict in failover.attempts if is_lasting(outcome, verdict)}
        passing = [candidate for candidate in failover.candidates if id(candidate) not in lasting]
        return failures, health.recovery_s(passing, now)

    def stats(self, name: str) -> ProviderStats:
        """Return a provider's statistics."""
        return self._stats[name]


def _witness(request: Request | None) -> int:
    """Return what names a request as the cause of a failure: equal bodies are one request. 0: there is none."""
    return xxhash.xxh3_64_intdigest(request.body or request.id.encode()) or 1 if request is not None else 0


def _quotes(words: str, request: Request) -> bool:
    """Say whether a provider's words stand in the request too: they may be no more than quoted from it."""
    spoken = words.lower()
    heads = (value for _, value in request.headers)
    return spoken.encode() in request.body.lower() or any(spoken.encode() in value.lower() for value in heads)


FORMER_KEPT = 8
"""So many secrets of former configurations are kept out of everything, too: requests that use them are under way."""


def _nobody(provider: str) -> None:
    """Do nothing about a key that was refused."""


CHECKS_NOTHING = 2
"""It is known to return no verdicts on actions."""


def _nothing() -> None:
    return
