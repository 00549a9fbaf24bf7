"""How many requests fail while providers fail by chance, each for itself: the whole relay, in virtual time.

The best that three providers can do, each of which refuses 15 % of requests whatever the others do, is that 0.34 %
of requests find all three refusing.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from frames import DELTA, START, STOP, TEXT
from msgspec.structs import replace
from stand_ins import Taker, request
from virtual_time import run
from worlds import SSE, error

from balancer import config, events
from balancer.clock import Clock
from balancer.model import WireRequest
from balancer.policy.failover import WAIT_MAX_S
from balancer.relay.relay import Relay
from balancer.script import Cause, Data, Fail, Pause, Step
from balancer.state.fleet import Fleet
from balancer.transport import Transport

CONFIG = """
providers:
  - {name: a, type: anthropic, base_url: "http://127.0.0.1:1001", auth_value: sk-a}
  - {name: b, type: anthropic, base_url: "http://127.0.0.1:1002", auth_value: sk-b}
  - {name: c, type: anthropic, base_url: "http://127.0.0.1:1003", auth_value: sk-c}
model_routes:
  "*": [{provider: a, priority: 1}, {provider: b, priority: 2}, {provider: c, priority: 3}]
"""

FAILURES: tuple[list[Step], ...] = (
    error(529, "overloaded_error", "Overloaded"),
    error(500, "api_error", "Internal server error"),
    error(429, "rate_limit_error", "Too many requests"),
    [Fail(Cause.RESET)],
    [SSE, Data(START), Fail(Cause.RESET)],
)


class Chance:
    """Providers that refuse a share of requests by chance, and answer the others: content after 0.3 s, then 0.7 s."""

    def __init__(self, rng: random.Random, share: float) -> None:
        self._rng = rng
        self.share = share
        self.asked = 0

    def _steps(self) -> Iterator[Step]:
        yield Pause(self._rng.uniform(0.02, 0.2))
        if self._rng.random() < self.share:
            yield from self._rng.choice(FAILURES)
            return
        yield from (SSE, Data(START), Pause(0.2), Data(TEXT + DELTA), Pause(0.7), Data(STOP))

    @asynccontextmanager
    async def exchange(self, wire: WireRequest, *, connect_s: float, head_s: float) -> AsyncIterator[Any]:
        self.asked += 1
        played = replace(wire, script=self._steps)
        async with Transport().exchange(played, connect_s=connect_s, head_s=head_s) as answer:
            yield answer


async def shares(
    seed: int, requests: int, per_s: float, share: float, settings: str = ""
) -> tuple[Counter[int], float, list[float]]:
    """Return the statuses that clients got, the attempts a request, and how long each request took to be answered."""
    rng = random.Random(seed)
    loop = asyncio.get_running_loop()
    bus = events.Bus()
    took: list[float] = []
    bus.add(lambda event: took.append(event.duration_s) if isinstance(event, events.RequestEnded) else None)
    fleet = Fleet(config.parse(CONFIG + settings, "providers.yaml", {}), bus, rng)
    providers = Chance(rng, share)
    relay = Relay(fleet, providers, Clock(loop.time, lambda: 1.8e9 + loop.time()))
    told: Counter[int] = Counter()

    async def client(number: int) -> None:
        taker = Taker()
        body = b'{"model":"m","messages":[],"seed":%d}' % number  # the same body again would be the same request
        await relay.answer(request(body, id=f"req_{number}", model=rng.choice(("opus", "sonnet", "haiku"))), taker)
        told[taker.status if taker.end == "whole" and b'"type":"error"' not in taker.body else -1] += 1

    clients = []
    for number in range(requests):
        clients.append(asyncio.create_task(client(number)))
        await asyncio.sleep(rng.expovariate(per_s))
    await asyncio.gather(*clients)
    return told, providers.asked / requests, sorted(took)


@pytest.mark.parametrize("per_s", [5.0, 60.0])
def test_of_three_providers_that_refuse_by_chance_hardly_a_request_finds_none(per_s: float) -> None:
    told, attempts, _ = run(shares(1, 2000, per_s, 0.15))

    assert 2000 - told[200] <= 0.005 * 2000, told
    assert attempts <= 1.25, "it takes 1.17 to find an answer behind such refusals"


@pytest.mark.parametrize("settings", ["", "settings: {failure_cooldown: 2}"])
def test_an_outage_of_everybody_is_not_amplified(settings: str) -> None:
    told, attempts, took = run(shares(1, 500, 20.0, 1.0, settings))

    assert told[200] == 0
    assert attempts * 500 <= 1.2 * 500 + 10
    assert took[-1] <= WAIT_MAX_S + 5.0, "nobody waits long in vain"
