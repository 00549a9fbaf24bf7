"""What happens in one simulation: a configuration, providers, requests and orders, all drawn from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from simulation import weather
from simulation.weather import Weather

REQUESTS = 100
"""How many clients ask in one simulation."""

PORTS_FROM = 1001
MODELS = ("m", "n-1", "n-2")


@dataclass(slots=True)
class Upstream:
    """One provider: what the configuration says of it, and what it is like."""

    name: str
    port: int
    weather: Weather
    max_in_flight: int | None = None
    request_timeout_s: float = 10.0
    idle_s: float = 30.0
    priority: int = 1
    weight: float = 1.0
    context_window: int | None = None
    enabled: bool = True
    secret: str = "sk-first"
    wide: bool = True
    """A long prompt fits."""
    knows_beta: bool = True


@dataclass(slots=True)
class Ask:
    """One client's request."""

    number: int
    at: float
    model: str = "m"
    stream: bool = True
    counts: bool = False
    nature: str = "plain"
    """`plain`, `bad` (every provider refuses it), `long` (a small context refuses it), `beta` (some don't know it)."""
    session: str = ""
    claude_code: bool = False
    timeout_s: float | None = None
    """What the client says it waits."""
    reads_s: float = 0.0
    """How long the client takes to read what it was given."""
    stuck_after: int | None = None
    """After so many reads it reads no more."""
    leaves_s: float | None = None
    """It leaves so long after it has asked."""
    leaves_after: int | None = None
    """It leaves after so many reads."""
    same_as: int | None = None
    """It asks the same as that one."""

    @property
    def reads_all(self) -> bool:
        """It takes at once whatever it is given."""
        return not self.reads_s and self.stuck_after is None


@dataclass(slots=True)
class Order:
    """What a person orders."""

    at: float
    word: str
    """`wake`, `pause`, `resume`, `reload`."""
    provider: str = ""
    config: str = ""


@dataclass(slots=True)
class Plan:
    """Everything that is drawn before a simulation begins."""

    seed: int
    flavour: str
    upstreams: list[Upstream]
    asks: list[Ask]
    settings: dict[str, Any]
    orders: list[Order] = field(default_factory=list)
    stops_at: float | None = None
    """When the balancer is stopped, answers under way or not."""

    @property
    def config(self) -> str:
        return _config(self.upstreams, self.settings)

    @property
    def cooldown(self) -> tuple[float, bool]:
        """Return the longest ordinary cooldown, and whether every one is that long."""
        said = self.settings["failure_cooldown"]
        return (float(said["seconds"]), True) if isinstance(said, dict) else (float(said), False)


def _config(upstreams: list[Upstream], settings: dict[str, Any]) -> str:
    """Return providers.yaml. (JSON is YAML.)"""
    providers = [
        {
            "name": one.name,
            "type": "anthropic",
            "base_url": f"http://127.0.0.1:{one.port}",
            "auth_value": f"{one.secret}-{one.name}",
            "request_timeout": one.request_timeout_s,
            "stream_idle_timeout": one.idle_s,
            "enabled": one.enabled,
            **({"max_in_flight": one.max_in_flight} if one.max_in_flight else {}),
        }
        for one in upstreams
    ]
    targets = [
        {
            "provider": one.name,
            "model": "passthrough",
            "priority": one.priority,
            "weight": one.weight,
            **({"context_window": one.context_window} if one.context_window else {}),
        }
        for one in upstreams
    ]
    routes = {"m": targets, "n-*": [{**target, "model": "n"} for target in targets[::-1]]}
    return json.dumps({"providers": providers, "model_routes": routes, "settings": settings})


Draw: TypeAlias = Callable[[random.Random, float, int], Weather]

FLAVOURS: dict[str, tuple[float, Draw]] = {
    "changing": (0.60, lambda rng, span_s, index: weather.changing(rng, span_s)),
    "healthy": (0.08, lambda rng, span_s, index: weather.steady(weather.healthy(rng))),
    "outage": (0.12, lambda rng, span_s, index: weather.failing(rng)),
    "one works": (
        0.12,
        lambda rng, span_s, index: (
            weather.steady(weather.healthy(rng)) if not index else weather.changing(rng, span_s / 2)
        ),
    ),
    "independent": (0.08, lambda rng, span_s, index: weather.independent(0.15)),
}
"""By name: how often it is drawn, and how a provider is drawn in it."""


def draw(seed: int, flavour: str = "", requests: int = REQUESTS) -> Plan:
    """Return the simulation of this seed."""
    rng = random.Random(seed)
    names = list(FLAVOURS)
    flavour = flavour or rng.choices(names, [FLAVOURS[name][0] for name in names])[0]
    asks = _asks(rng, requests)
    span_s = asks[-1].at + 1.0
    count = 3 if flavour == "independent" else rng.choice((1, 2, 2, 3, 3, 4, 5))
    upstreams = [_upstream(rng, index, FLAVOURS[flavour][1](rng, span_s, index)) for index in range(count)]
    plan = Plan(seed, flavour, upstreams, asks, _settings(rng))
    if flavour == "independent":  # by it the share of requests that fail is measured: nothing else may be the reason
        plan.settings.update(failure_cooldown=60, limits={"max_in_flight": 1000, "queue_s": 10})
        for one in upstreams:
            one.max_in_flight, one.request_timeout_s = None, 10.0
        return plan
    if flavour in ("changing", "one works") and rng.random() < 0.5:
        plan.orders = _orders(rng, plan, span_s)
    if rng.random() < 0.05:
        plan.stops_at = rng.random() * span_s
    return plan


def _settings(rng: random.Random) -> dict[str, Any]:
    seconds = rng.choice((5, 10, 30))
    return {
        "selection_strategy": rng.choice(
            ("priority", "priority", "round_robin", "random", "weighted", "least_busy", "fastest")
        ),
        "failure_cooldown": rng.choice((60, 60, 60, 20, 0, {"seconds": seconds, "backoff": "constant"})),
        "on_broken_stream": rng.choice(("auto", "abort", "error_event")),
        "sticky": {"enabled": rng.random() < 0.8, "ttl": rng.choice((5, 300))},
        "limits": {
            "max_in_flight": rng.choice((1000, 1000, 1000, 1000, 1000, 10)),
            "queue_s": rng.choice((0, 0.5, 2, 10)),
        },
        "deduplication": {"enabled": rng.random() < 0.8, "replay_s": rng.choice((0, 0, 2))},
    }


def _upstream(rng: random.Random, index: int, its_weather: Weather) -> Upstream:
    return Upstream(
        "abcde"[index],
        PORTS_FROM + index,
        its_weather,
        max_in_flight=rng.choice((None, None, None, None, 1, 3, 10)),
        request_timeout_s=rng.choice((2.0, 5.0, 10.0, 40.0)),
        idle_s=rng.choice((5.0, 30.0)),
        priority=rng.choice((1, 1, 2, 3)),
        weight=rng.choice((1.0, 1.0, 3.0, 0.5)),
        context_window=rng.choice((None, None, 200_000, 1_000_000)),
        wide=rng.random() < 0.5,
        knows_beta=rng.random() < 0.6,
    )


def _asks(rng: random.Random, count: int) -> list[Ask]:
    gap_s = rng.choice((0.005, 0.05, 0.5, 2.0, 5.0))
    bursts = rng.random() < 0.3
    at = 1.0
    asks: list[Ask] = []
    for number in range(count):
        at += rng.expovariate(1.0 / gap_s) if not bursts or number % 10 == 0 else 0.0
        asks.append(_ask(rng, number, at))
        if number and rng.random() < 0.06:
            asks[-1] = _again(rng, asks[rng.randrange(max(0, number - 3), number)], number, at)
    return asks


def _ask(rng: random.Random, number: int, at: float) -> Ask:
    ask = Ask(number, at, rng.choices(MODELS, (0.8, 0.15, 0.05))[0], rng.random() < 0.8)
    if rng.random() < 0.06:
        ask.counts, ask.stream = True, False
    if (chance := rng.random()) < 0.10:
        ask.nature = "bad" if chance < 0.05 else "long" if chance < 0.08 else "beta"
    if rng.random() < 0.4:
        ask.session = f"s{rng.randrange(5)}"
    ask.claude_code = rng.random() < 0.4
    if rng.random() < 0.2:
        ask.timeout_s = rng.choice((8.0, 12.0, 30.0, 300.0, 600.0))
    _manners(rng, ask)
    return ask


def _manners(rng: random.Random, ask: Ask) -> None:
    """Draw how the client reads, and whether it leaves."""
    chance = rng.random()
    if chance < 0.05:
        ask.leaves_s = rng.expovariate(1.0)
    elif chance < 0.08:
        ask.leaves_after = rng.randrange(1, 6)
    elif chance < 0.12:
        ask.reads_s = rng.choice((0.01, 1.0, 15.0))
    elif chance < 0.13:
        ask.stuck_after = rng.randrange(1, 4)


def _again(rng: random.Random, before: Ask, number: int, at: float) -> Ask:
    """Return the same question once more, from a client with manners of its own."""
    ask = Ask(number, at, before.model, before.stream, before.counts, before.nature, before.session)
    ask.claude_code, ask.timeout_s = before.claude_code, before.timeout_s
    ask.same_as = before.number if before.same_as is None else before.same_as
    _manners(rng, ask)
    return ask


def _orders(rng: random.Random, plan: Plan, span_s: float) -> list[Order]:
    names = [one.name for one in plan.upstreams]
    orders: list[Order] = []
    for _ in range(rng.randrange(1, 6)):
        at, name = rng.random() * span_s, rng.choice(names)
        word = rng.choice(("wake", "pause", "reload"))
        if word == "reload":
            orders.append(Order(at, word, config=_config(_changed(rng, plan.upstreams), plan.settings)))
            continue
        orders.append(Order(at, word, name))
        if word == "pause":
            orders.append(Order(at + rng.expovariate(5.0 / span_s), "resume", name))
    return sorted(orders, key=lambda order: order.at)


def _changed(rng: random.Random, upstreams: list[Upstream]) -> list[Upstream]:
    """Return the providers with one of them changed, as a person edits the file."""
    changed = [Upstream(**{name: getattr(one, name) for name in Upstream.__slots__}) for one in upstreams]
    one = rng.choice(changed)
    what = rng.randrange(4 if sum(other.enabled for other in changed) > 1 else 3)
    if what == 0:
        one.max_in_flight = rng.choice((None, 1, 3))
    elif what == 1:
        one.priority = rng.choice((1, 2, 3))
    elif what == 2:
        one.secret = "sk-second"
    else:
        one.enabled = False
    return changed
