"""Strategies: who is asked first."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from stand_ins import candidate

from balancer.model import Candidate
from balancer.policy.strategies import STRATEGIES, Load, View, peak_ewma

A, B, C = (candidate(name, priority=1) for name in "abc")
SPARE = candidate("spare", priority=2)


def order(strategy: str, candidates: list[Candidate], turn: int = 0, loads: dict[str, Load] | None = None) -> str:
    view = View(turn, random.Random(7), loads or {})
    return " ".join(c.provider.name for c in STRATEGIES[strategy](candidates, view))


def test_priority_keeps_the_order_of_the_file_among_equals() -> None:
    assert order("priority", [SPARE, B, A]) == "b a spare"


def test_round_robin_starts_one_further_at_every_turn_within_a_priority() -> None:
    assert [order("round_robin", [SPARE, A, B, C], turn) for turn in range(4)] == [
        "a b c spare",
        "b c a spare",
        "c a b spare",
        "a b c spare",
    ]


def test_least_busy_asks_who_has_fewest_in_flight() -> None:
    loads = {"a": Load(in_flight=3), "b": Load(in_flight=1), "c": Load(in_flight=2)}

    assert order("least_busy", [A, B, C], 0, loads) == "b c a"


def test_fastest_weighs_slowness_with_the_queue() -> None:
    loads = {"a": Load(0, 2.0), "b": Load(4, 0.5), "c": Load(0, 1.0)}

    assert order("fastest", [A, B, C], 0, loads) == "c a b"


def test_fastest_tries_everybody_once() -> None:
    assert order("fastest", [A, B], 0, {"a": Load(0, 0.1)}) == "b a"


def shares(strategy: str, candidates: list[Candidate]) -> Counter[str]:
    rng = random.Random(1)
    return Counter(STRATEGIES[strategy](candidates, View(0, rng))[0].provider.name for _ in range(3000))


def test_random_is_even_within_the_first_priority() -> None:
    counts = shares("random", [A, B, C, SPARE])

    assert set(counts) == {"a", "b", "c"}
    assert all(900 < count < 1100 for count in counts.values())


def test_weighted_follows_the_weights() -> None:
    counts = shares("weighted", [candidate("heavy", weight=3.0), candidate("light", weight=1.0)])

    assert 2100 < counts["heavy"] < 2400


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_returns_everybody_and_obeys_priority(strategy: str) -> None:
    ordered = STRATEGIES[strategy]([SPARE, C, A, B], View(5, random.Random(3)))

    assert {c.provider.name for c in ordered} == {"a", "b", "c", "spare"}
    assert ordered[-1] is SPARE


def test_peak_ewma_jumps_up_and_comes_down_slowly() -> None:
    up = peak_ewma(1.0, 5.0, 1.0)
    down = peak_ewma(5.0, 1.0, 10.0)

    assert up == 5.0
    assert down == pytest.approx(3.0)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_leaves_its_input_as_it_is_and_takes_one_or_none(strategy: str) -> None:
    given = [SPARE, C, A]
    STRATEGIES[strategy](given, View(1, random.Random(3)))

    assert given == [SPARE, C, A]
    assert STRATEGIES[strategy]([A], View(1, random.Random(3))) == [A]
    assert STRATEGIES[strategy]([], View(1, random.Random(3))) == []


@pytest.mark.parametrize("strategy", ["least_busy", "fastest"])
def test_equals_take_turns(strategy: str) -> None:
    assert [order(strategy, [A, B, C], turn) for turn in range(3)] == ["a b c", "b c a", "c a b"]


def test_weights_count_within_a_priority_alone() -> None:
    counts = shares("weighted", [candidate("light", priority=1), candidate("heavy", priority=2, weight=100.0)])

    assert counts == {"light": 3000}


PEAKS = {
    # known, sample, elapsed: expected
    "the first": (0.0, 2.0, 0.0, 2.0),
    "an equal one": (2.0, 2.0, 5.0, 2.0),
    "a slower one, at once": (1.0, 5.0, 0.0, 5.0),
    "a faster one after half of its life": (5.0, 1.0, 10.0, 3.0),
    "faster ones in quick succession count a tenth": (5.0, 1.0, 0.0, 4.6),
    "a faster one after very long": (5.0, 1.0, 1e6, 1.0),
}


@pytest.mark.parametrize(("known_s", "sample_s", "elapsed_s", "expected"), PEAKS.values(), ids=PEAKS)
def test_peak_ewma(known_s: float, sample_s: float, elapsed_s: float, expected: float) -> None:
    assert peak_ewma(known_s, sample_s, elapsed_s) == pytest.approx(expected)
