"""One simulation, from its first request to its end: the real policy, state, relay and coalescing on virtual time."""

from __future__ import annotations

import asyncio
import random
import traceback
from dataclasses import dataclass
from typing import Any

import virtual_time
from simulation import plan as planning
from simulation.clients import SimulatedClient
from simulation.plan import Ask, Order, Plan
from simulation.rules import Rules
from simulation.story import Story
from simulation.upstream import SimulatedTransport

from balancer import claude_code, config, events
from balancer.coalescing.key import Key
from balancer.coalescing.shared import InFlight
from balancer.config import Config
from balancer.model import Candidate, Operation, Outcome, Request, Route
from balancer.policy.verdicts import Verdict
from balancer.relay.relay import Relay
from balancer.server.access import Admitted
from balancer.server.connections import Connections
from balancer.server.endpoint import Messages
from balancer.server.limits import ClientLimits
from balancer.state.fleet import Fleet

SETTLED_S = 3600.0
"""After the last answer so much time passes until what is left is looked at."""


TICK_S = 1e-9
"""Every turn of the event loop takes so long, as real ones do, if longer."""


NOBODY = Key(0, "nobody", False, "", b"", (), b"")


class WatchedFleet(Fleet):
    """The real state, which tells the rules what it was asked and told."""

    def __init__(self, configuration: Config, bus: events.Bus, rng: random.Random, rules: Rules) -> None:
        super().__init__(configuration, bus, rng)
        self._rules = rules

    def candidates(self, request: Request, route: Route, now: float) -> tuple[list[Candidate], bool]:
        ordered, pinned = super().candidates(request, route, now)
        self._rules.ordered(request, ordered, pinned, now)
        return ordered, pinned

    def observe(self, candidate: Candidate, outcome: Outcome, verdict: Verdict, **more: Any) -> None:
        super().observe(candidate, outcome, verdict, **more)
        self._rules.observed(candidate, outcome, verdict, more["now"])


@dataclass(slots=True)
class Result:
    """What came of one simulation."""

    seed: int
    flavour: str
    requests: int
    attempts: int
    failed: int
    """Requests that failed before content, and not by their own fault."""
    broken: int
    violations: list[str]
    story: Story
    about: set[str]


class World:
    """One balancer with its providers and clients."""

    def __init__(self, plan: Plan) -> None:
        self.loop = virtual_time.loop()
        self.plan = plan
        self.story = Story()
        self.transport = SimulatedTransport(plan.upstreams, random.Random(plan.seed + 1), self.story, self.loop)
        self.rules = Rules(plan, self.story, self.transport, self.loop)
        bus = events.Bus()
        bus.add(self.rules.told)
        parsed = config.parse(plan.config, "providers.yaml", {})
        self.fleet = WatchedFleet(parsed, bus, random.Random(plan.seed + 2), self.rules)
        self.rules.fleet = self.fleet
        self.relay = Relay(self.fleet, self.transport, self.loop.clock)
        in_flight = InFlight(parsed.settings.deduplication.max_bytes, self.loop.time)
        self._in_flight = in_flight
        self._messages = Messages(self.relay, in_flight, 1, ClientLimits(), self.loop, Connections())
        self._tasks: dict[asyncio.Task[None], None] = {}
        """A dict: a set of tasks has another order in every process."""
        self.clients: list[SimulatedClient] = []

    async def play(self) -> Result:
        """Let everything happen, and return what came of it."""
        self.loop.set_exception_handler(self._crashed)
        for ask in self.plan.asks:
            self.loop.call_at(ask.at, self._arrive, ask)
        for order in self.plan.orders:
            self.loop.call_at(order.at, self._carry_out, order)
        if self.plan.stops_at is not None:
            self.loop.call_at(self.plan.stops_at, self._stop)
        await asyncio.sleep(self.plan.asks[-1].at)
        while self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(SETTLED_S)
        self.rules.all_over()
        self._in_flight.find(NOBODY)  # what has served its time is forgotten as soon as somebody looks
        if self._in_flight.held_bytes:
            self.rules.violate(f"{self._in_flight.held_bytes} bytes of shared answers are left when all is over")
        return self._result()

    def _result(self) -> Result:
        ended = [run.ended for run in self.rules.runs if run.ended is not None]
        return Result(
            self.plan.seed,
            self.plan.flavour,
            len(self.plan.asks),
            len(self.transport.exchanges),
            self.rules.failed,
            sum(one.outcome == "broken_stream" for one in ended),
            self.rules.violations,
            self.story,
            self.rules.about,
        )

    def _arrive(self, ask: Ask) -> None:
        """A client asks."""
        client = SimulatedClient(ask, self.story, self.loop)
        self.clients.append(client)
        what = "a count" if ask.counts else "a stream" if ask.stream else "a message"
        self.story.tell(self.loop.time(), client.who, "asks for %s of %s (%s)", what, ask.model, ask.nature)
        task = self.loop.create_task(self._answer(ask, client))
        self.transport.clients[task] = client
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        if ask.leaves_s is not None:
            self.loop.call_later(ask.leaves_s, client.leave)

    async def _answer(self, ask: Ask, client: SimulatedClient) -> None:
        operation = Operation.COUNT_TOKENS if ask.counts else Operation.MESSAGES
        task = asyncio.current_task()
        assert task is not None
        try:
            await self._messages.answer(_admitted(ask), operation, b"", _body(ask), client, task)
        except asyncio.CancelledError:
            if self.plan.stops_at is None and client.ask.reads_all:
                self.rules.violate("a task was cancelled, and its client had not left", client.who)
        except Exception:
            self.rules.violate(f"the balancer crashed: {traceback.format_exc()}", client.who)
        if self.fleet.draining:
            await client.abort()  # a connection ends with its task
        await virtual_time.settled()  # what writes to the client beside this task may have to cut its connection yet
        self.rules.ended(client)

    def _carry_out(self, order: Order) -> None:
        """A person orders something."""
        self.story.tell(self.loop.time(), "person", "%s %s", order.word, order.provider)
        wall, orders = self.loop.clock.wall(), self.fleet.orders
        if order.word == "wake":
            orders.wake(order.provider, wall)
        elif order.word == "pause":
            orders.pause(order.provider, wall)
        elif order.word == "resume":
            orders.resume(order.provider, wall)
        else:
            before = self.fleet.config.providers
            self.fleet.reload(config.parse(order.config, "providers.yaml", {}), wall)
            for name, provider in self.fleet.config.providers.items():
                if name in before and before[name].secret != provider.secret:
                    self.rules.known.forget(name)
                    self.rules.known.secrets[name] = provider.secret
                    self.rules.went_well(name)

    def _stop(self) -> None:
        """The balancer is stopped: what is under way is cut off."""
        self.story.tell(self.loop.time(), "person", "stop")
        self.fleet.draining = True
        for task in list(self._tasks):
            task.cancel()

    def _crashed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.rules.violate(f"the event loop: {context.get('message')} {context.get('exception')!r}")


def _admitted(ask: Ask) -> Admitted:
    headers = [(b"content-type", b"application/json")]
    if ask.claude_code:
        headers.append((b"user-agent", claude_code.USER_AGENT + b"1.0.0 (external, cli)"))
    if ask.session:
        headers.append((claude_code.SESSION_HEADER, ask.session.encode()))
    if ask.timeout_s is not None:
        headers.append((claude_code.TIMEOUT_HEADER, b"%d" % ask.timeout_s))
    return Admitted("", tuple(headers), dict(headers))


def _body(ask: Ask) -> bytes:
    number = ask.number if ask.same_as is None else ask.same_as
    stream = b"true" if ask.stream else b"false"
    return b'{"model":"%b","max_tokens":%d,"stream":%b,"messages":[{"role":"user","content":"question %d"}]}' % (
        ask.model.encode(),
        100 + number % 400,
        stream,
        number,
    )


def simulate(seed: int, flavour: str = "", requests: int = planning.REQUESTS) -> Result:
    """Play the simulation of this seed from its beginning to its end."""
    drawn = planning.draw(seed, flavour, requests)

    async def played() -> Result:
        return await World(drawn).play()

    return virtual_time.run(played(), TICK_S)
