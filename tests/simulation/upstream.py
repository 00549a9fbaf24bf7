"""The simulated transport: it takes the place of sockets alone. Who answers what is drawn when it is asked."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from simulation import answers
from simulation.answers import Asked, Behaviour, Blame
from simulation.clients import SimulatedClient
from simulation.plan import Upstream
from simulation.story import Story

from balancer.model import WireRequest
from balancer.script import NOTHING_SENT, Cause, Data, Fail, Head, Step
from balancer.transport import TransportError, UpstreamResponse

EDGE_S = 1e-6
"""Times that are nearer to each other than this count as the same: they are sums of floats."""


class Referee(Protocol):
    """Who is told of every exchange, and judges it."""

    def asked(self, exchange: Exchange) -> None:
        """An exchange begins."""
        ...

    def content_began(self, exchange: Exchange) -> None:
        """Content of its answer has come."""
        ...

    def closed(self, exchange: Exchange) -> None:
        """An exchange is over."""
        ...


class Exchange(UpstreamResponse):
    """One request to one provider, and its answer."""

    flows = True

    def __init__(self, transport: SimulatedTransport, wire: WireRequest, connect_s: float, head_s: float) -> None:
        self._transport = transport
        self._loop = transport.loop
        self._limits_s = connect_s, head_s
        self._next = 0
        self._over = False
        self._seen = b""
        self.shown = False
        """Content of its answer has come."""
        self.said_error = False
        """An error event of its answer has come."""
        self.given_up = False
        """The balancer has concluded that it failed."""
        self.began = self.ended = self._loop.time()
        self.number = len(transport.exchanges)
        self.upstream: Upstream = transport.by_port[wire.origin.port]
        self.client = transport.clients[asyncio.current_task()]
        body = b"".join(wire.body)
        at = body.index(b'"model":"') + 9
        self.model = body[at : body.index(b'"', at)].decode()
        self.counts = wire.target.endswith(b"count_tokens")
        self.behaviour = transport.behaviour(self)

    @property
    def steps(self) -> list[answers.Timed]:
        return self.behaviour.steps

    async def __aenter__(self) -> Self:
        self._transport.begin(self)
        try:
            await self._head()
        except BaseException:
            self._transport.end(self)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._transport.end(self)

    async def _head(self) -> None:
        connect_s, head_s = self._limits_s
        at, step = self.steps[0]
        if isinstance(step, Fail) and step.cause in NOTHING_SENT:
            await self._wait(at, min(connect_s, head_s), Cause.CONNECT_TIMEOUT)
            raise TransportError(step.cause)
        await self._wait(at, head_s, Cause.HEAD_TIMEOUT)
        if not isinstance(step, Head):
            raise _broken(step)
        self._next = 1
        self.status, self.headers = step.status, step.headers

    async def _wait(self, at: float, within_s: float, cause: Cause) -> None:
        """Wait until `at` seconds after the beginning; after `within_s` it fails for this cause."""
        now = self._loop.time()
        left_s = self.began + at - now
        if left_s <= EDGE_S:
            return
        if left_s > within_s:
            await asyncio.sleep(within_s)
            raise TransportError(cause, sent=cause is not Cause.CONNECT_TIMEOUT, headed=self.status > 0)
        await asyncio.sleep(left_s)

    def read_nowait(self) -> bytes | None:
        while self._next < len(self.steps):
            at, step = self.steps[self._next]
            if self.began + at > self._loop.time() + EDGE_S or not isinstance(step, Data):
                return None
            self._next += 1
            if step.data:
                return self._read(step.data)
        return b""

    def _read(self, data: bytes) -> bytes:
        """Note what is read of the answer."""
        if data.startswith(b"event: error\n"):
            self.said_error = True
        if not self.shown:
            self._seen += data
            at = self._seen.find(b"content_block_delta")
            if (at >= 0 and b"\n\n" in self._seen[at:]) or (
                self.behaviour.whole and self._seen == self.behaviour.content
            ):
                self.shown = True
                if self._transport.referee is not None and not self.counts:
                    self._transport.referee.content_began(self)
        return data

    async def read(self, within_s: float) -> bytes:
        if self._over:
            self._transport.breaches.append(f"exchange {self.number} is read after its end")
        while self._next < len(self.steps):
            at, step = self.steps[self._next]
            await self._wait(at, within_s, Cause.IDLE_TIMEOUT)
            if not isinstance(step, Data):
                raise _broken(step)
            self._next += 1
            if step.data:
                return self._read(step.data)
        return b""

    async def flow(self, give: Callable[[bytes], bool], within_s: float) -> None:
        while self._next < len(self.steps):
            at, step = self.steps[self._next]
            ready = self.began + at <= self._loop.time() + EDGE_S
            await self._wait(at, within_s, Cause.IDLE_TIMEOUT)
            if not isinstance(step, Data):
                raise _broken(step)
            if ready or self._next == len(self.steps) - 1:
                return
            self._next += 1
            if step.data and not give(self._read(step.data)):
                return


def _broken(step: Step) -> TransportError:
    return TransportError(step.cause if isinstance(step, Fail) else Cause.PROTOCOL, sent=True, headed=True)


class SimulatedTransport:
    """What relays ask instead of sockets."""

    def __init__(
        self, upstreams: list[Upstream], rng: random.Random, story: Story, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.by_port = {one.port: one for one in upstreams}
        self.loop = loop
        self.clients: dict[asyncio.Task[Any] | None, SimulatedClient] = {}
        """Whose request the task answers."""
        self.exchanges: list[Exchange] = []
        self.open: dict[str, int] = {one.name: 0 for one in upstreams}
        """How many exchanges are under way, by provider."""
        self.breaches: list[str] = []
        self.referee: Referee | None = None
        self._rng = rng
        self._story = story

    def exchange(self, wire: WireRequest, *, connect_s: float, head_s: float) -> Exchange:
        return Exchange(self, wire, connect_s, head_s)

    def begin(self, exchange: Exchange) -> None:
        name = exchange.upstream.name
        self.exchanges.append(exchange)
        self.open[name] += 1
        self._story.tell(
            exchange.began,
            exchange.client.who,
            "asks %s for %s (exchange %d), who will do: %s",
            name,
            exchange.model,
            exchange.number,
            exchange.behaviour.kind,
        )
        if self.referee is not None:
            self.referee.asked(exchange)

    def end(self, exchange: Exchange) -> None:
        self.open[exchange.upstream.name] -= 1
        exchange.ended = self.loop.time()
        if self.referee is not None:
            self.referee.closed(exchange)

    def behaviour(self, exchange: Exchange) -> Behaviour:
        """Draw what the provider does with this request."""
        upstream, ask, now, rng = exchange.upstream, exchange.client.ask, exchange.began, self._rng
        phase = upstream.weather.at(now)
        mark = f"q{ask.number}x{exchange.number}{upstream.name}"
        if not phase.share or rng.random() >= phase.share:
            asked = Asked(mark, ask.stream, ask.counts, phase.latency_s * (0.5 + rng.random()), rng)
            return _answer(upstream, ask.nature, asked)
        named_s = math.ceil(upstream.weather.ends(now) - now) if phase.words == "limited" else rng.choice(_NAMED_S)
        asked = Asked(mark, ask.stream, ask.counts, phase.latency_s * (0.5 + rng.random()), rng, named_s)
        return answers.FAULTS[rng.choice(phase.kinds)](asked)


_NAMED_S = (0.0, 1.0, 4.0, 30.0, 1200.0)


def _answer(upstream: Upstream, nature: str, asked: Asked) -> Behaviour:
    """Return how a provider that is healthy answers a request of this nature."""
    if nature == "bad":
        kinds = list(answers.BAD_REQUESTS.values())
        return kinds[int(asked.mark[1 : asked.mark.index("x")]) % len(kinds)](asked)
    if nature == "long" and not upstream.wide:
        return answers.TOO_LONG(asked)
    if nature == "beta" and not upstream.knows_beta:
        return answers.UNKNOWN_BETA(asked)
    return answers.good(asked)


def is_takable(upstream: Upstream, nature: str) -> bool:
    """Say whether a healthy provider answers a request of this nature with an answer."""
    if nature == "long":
        return upstream.wide
    return nature != "bad" and (nature != "beta" or upstream.knows_beta)


__all__ = ["Blame", "Exchange", "Referee", "SimulatedTransport", "is_takable"]
