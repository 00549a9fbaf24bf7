"""Strategies: in which order usable candidates are asked. A table of functions.

Every strategy obeys priority first (lower is asked earlier) and differs within a priority only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TypeAlias

import msgspec

from balancer.model import Candidate


class Load(msgspec.Struct, frozen=True, gc=False):
    """What strategies may know of a provider."""

    in_flight: int = 0
    first_content_s: float = 0.0
    """Peak EWMA of the time to first content; 0: never asked."""


class View(msgspec.Struct, frozen=True):
    """What a strategy looks at besides the candidates."""

    turn: int
    """Counts the conversations (or plain requests) of this route."""
    rng: random.Random
    """Chance, as an argument."""
    loads: Mapping[str, Load] = msgspec.field(default_factory=dict)
    """By provider name."""

    def load(self, candidate: Candidate) -> Load:
        return self.loads.get(candidate.provider.name, _IDLE)


_IDLE = Load()

Strategy: TypeAlias = Callable[[Sequence[Candidate], View], list[Candidate]]
"""`(usable candidates, view) -> all of them, best first`."""


def priority(candidates: Sequence[Candidate], view: View) -> list[Candidate]:
    """Lowest number first; the order of the file among equals."""
    return sorted(candidates, key=_priority)


def round_robin(candidates: Sequence[Candidate], view: View) -> list[Candidate]:
    """Within each priority, start one further at every turn."""
    return _within(candidates, lambda peers: peers[view.turn % len(peers) :] + peers[: view.turn % len(peers)])


def shuffled(candidates: Sequence[Candidate], view: View) -> list[Candidate]:
    """Within each priority, in random order."""
    return _within(candidates, lambda peers: view.rng.sample(peers, len(peers)))


def weighted(candidates: Sequence[Candidate], view: View) -> list[Candidate]:
    """Within each priority, in random order, heavier ones earlier in proportion to their weight.

    Sorting by `u ** (1 / weight)` draws without replacement by weight (Efraimidis and Spirakis, 2006).
    """
    return _within(candidates, lambda peers: sorted(peers, key=lambda c: -(view.rng.random() ** (1.0 / c.weight))))


def least_busy(candidates: Sequence[Candidate], view: View) -> list[Candidate]:
    """Within each priority, fewest requests in flight first; equals take turns."""
    return _within(round_robin(candidates, view), lambda peers: sorted(peers, key=lambda c: view.load(c).in_flight))


def fastest(candidates: Sequence[Candidate], view: View) -> list[Candidate]:
    """Within each priority, by the time to first content times the queue that the request would join.

    A provider that was never asked counts as instant, so that each is tried once.
    """

    def cost(candidate: Candidate) -> float:
        load = view.load(candidate)
        return load.first_content_s * (load.in_flight + 1)

    return _within(round_robin(candidates, view), lambda peers: sorted(peers, key=cost))


STRATEGIES: dict[str, Strategy] = {
    "priority": priority,
    "round_robin": round_robin,
    "random": shuffled,
    "weighted": weighted,
    "least_busy": least_busy,
    "fastest": fastest,
}


def _priority(candidate: Candidate) -> int:
    return candidate.priority


def _within(candidates: Sequence[Candidate], order: Callable[[list[Candidate]], list[Candidate]]) -> list[Candidate]:
    if len(candidates) == 1:
        return list(candidates)
    ordered: list[Candidate] = []
    for _, group in groupby(sorted(candidates, key=_priority), key=_priority):
        ordered += order(list(group))
    return ordered


EWMA_DECAY_S = 10.0
"""How fast an old slowness is forgotten."""


def peak_ewma(known_s: float, sample_s: float, elapsed_s: float) -> float:
    """Return the peak EWMA of a time after `sample_s`, `elapsed_s` after the last one.

    It jumps up to a slow sample at once and comes down slowly (Finagle's PeakEwma).
    """
    if sample_s >= known_s:
        return sample_s
    keep: float = 2.0 ** (-elapsed_s / EWMA_DECAY_S)
    keep = min(keep, 0.9)  # samples in quick succession still count
    return known_s * keep + sample_s * (1 - keep)
