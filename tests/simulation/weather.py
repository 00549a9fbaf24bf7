"""How the simulated providers are over time: healthy, flaky, limited, down."""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, field

from simulation import answers


@dataclass(frozen=True, slots=True)
class Phase:
    """How a provider is for a while."""

    words: str
    share: float = 0.0
    """The share of exchanges that go wrong."""
    kinds: tuple[str, ...] = ()
    """How (`answers.FAULTS`)."""
    latency_s: float = 0.2
    """How long a good answer takes to begin."""
    lasts_s: float = 0.0
    """For how long a limit is named; 0: until the phase is over."""

    @property
    def healthy(self) -> bool:
        return not self.share


@dataclass(slots=True)
class Weather:
    """The phases of one provider, one after the other; the last has no end."""

    phases: list[Phase]
    begins: list[float] = field(default_factory=lambda: [0.0])
    """When each begins; the first at 0."""

    def at(self, now: float) -> Phase:
        return self.phases[bisect_right(self.begins, now) - 1]

    def ends(self, now: float) -> float:
        """Return when the phase of `now` is over."""
        index = bisect_right(self.begins, now)
        return self.begins[index] if index < len(self.begins) else now + 60.0

    def healthy_all_along(self, since: float, until: float) -> bool:
        """Say whether every exchange from `since` to `until` would go well."""
        first, last = bisect_right(self.begins, since) - 1, bisect_right(self.begins, until)
        return all(phase.healthy for phase in self.phases[max(0, first) : last])


def healthy(rng: random.Random) -> Phase:
    return Phase("healthy", latency_s=rng.choice((0.01, 0.1, 0.4, 1.0)))


def flaky(rng: random.Random) -> Phase:
    kinds = tuple(rng.sample(sorted(answers.FAULTS), rng.randrange(1, 6)))
    return Phase("flaky", rng.choice((0.1, 0.3, 0.7)), kinds, rng.choice((0.05, 0.3)))


def limited(rng: random.Random) -> Phase:
    kinds = tuple(rng.sample(("429 named", "429 named in ms", "529 named", "503 named"), rng.randrange(1, 3)))
    return Phase("limited", 1.0, kinds, 0.05)


def down(rng: random.Random) -> Phase:
    kinds = tuple(rng.sample(sorted(answers.PASSING), rng.randrange(1, 4)))
    return Phase("down", 1.0, kinds, rng.choice((0.01, 0.2)))


def out_of_order(rng: random.Random) -> Phase:
    kind = rng.choice(sorted({**answers.ACCOUNT, **answers.LIMITS}))
    return Phase("out of order", 1.0, (kind,), 0.05)


def breaking(rng: random.Random) -> Phase:
    return Phase("breaking", rng.choice((0.3, 1.0)), tuple(answers.BREAKS), 0.1)


def slow(rng: random.Random) -> Phase:
    return Phase("slow", rng.choice((0.5, 1.0)), ("slow",), 2.0)


_KINDS = (flaky, limited, down, out_of_order, breaking, slow)


def changing(rng: random.Random, span_s: float) -> Weather:
    """Return a provider that is healthy for about half of the time."""
    weather = Weather([])
    weather.begins.clear()
    at = 0.0
    while at < span_s or not weather.phases:
        weather.phases.append(healthy(rng) if rng.random() < 0.5 else rng.choice(_KINDS)(rng))
        weather.begins.append(at)
        at += rng.expovariate(4.0 / span_s) + 0.1
    return weather


def steady(phase: Phase) -> Weather:
    """Return a provider that never changes."""
    return Weather([phase])


def failing(rng: random.Random) -> Weather:
    """Return a provider that is down all the time. It says so: who waits for silence looks again twenty times a second."""
    if rng.random() < 0.2:
        return steady(out_of_order(rng))
    kinds = tuple(rng.sample(sorted(set(answers.PASSING) - answers.SILENT), rng.randrange(1, 4)))
    return steady(Phase("down", 1.0, kinds, rng.choice((0.01, 0.2))))


def independent(share: float) -> Weather:
    """Return a provider that fails this share of requests, each by chance."""
    return steady(Phase("independent faults", share, ("529", "500", "reset", "refused", "error event"), 0.2))
