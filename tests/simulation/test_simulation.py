"""Simulations in which no rule may be broken; `make simulate` plays a hundred times as many."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from mutation.plant import ROOT, Fault, faults
from simulation.__main__ import told
from simulation.plan import FLAVOURS, REQUESTS
from simulation.story import Story
from simulation.world import Result, simulate

LIST = Path(__file__).with_name("faults.toml")
SEEDS = 15
"""In each of the batches below: together they are 12,000 requests."""


@pytest.mark.parametrize("batch", range(8))
def test_no_rule_is_broken(batch: int) -> None:
    for seed in range(batch * SEEDS, (batch + 1) * SEEDS):
        result = simulate(seed)
        if result.violations:
            pytest.fail(told(result), pytrace=False)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_sort_of_providers_is_played(flavour: str) -> None:
    result = simulate(7, flavour)

    assert (result.violations, result.requests, result.flavour) == ([], REQUESTS, flavour)
    assert result.attempts > REQUESTS / 4


def test_where_every_provider_is_healthy_nothing_fails() -> None:
    results = [simulate(seed, "healthy") for seed in range(20)]

    assert sum(result.broken for result in results) == 0


@pytest.mark.live
def test_a_seed_is_played_the_same_way_in_every_process() -> None:
    command = [sys.executable, "-m", "simulation", "6", "--digest"]
    path = os.pathsep.join(str(ROOT / folder) for folder in ("src", "tests"))

    said = [
        subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=50,
        ).stdout
        for hash_seed in ("1", "2")
    ]

    assert said[0] == said[1]
    assert said[0].splitlines() == [f"{seed} {simulate(seed).story.digest()}" for seed in range(6)]


def test_a_broken_rule_is_told_with_its_story_and_how_to_play_it_again() -> None:
    story = Story()
    story.tell(1.0, "#4", "asks %s", "a")
    story.tell(1.5, "#5", "asks %s", "b")
    story.tell(2.0, "state", "CooldownStarted %s", "a")
    story.tell(2.0, "#4", "VIOLATION: %s", "a is asked twice")
    result = Result(17, "outage", 100, 50, 1, 0, ["a is asked twice"], story, {"#4"})

    assert told(result, "outage").splitlines() == [
        "seed 17 (outage)",
        "     1.000  #4     asks a",
        "     2.000  state  CooldownStarted a",
        "     2.000  #4     VIOLATION: a is asked twice",
        "- a is asked twice",
        "again, with all requests: make simulate ARGS=\"--seed 17 --flavour 'outage'\"",
    ]


PLANTED = faults(LIST)


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: f"{fault.file}: {fault.name}")
def test_every_fault_can_be_planted_and_changes_something_that_still_compiles(fault: Fault) -> None:
    text = (ROOT / "src" / "balancer" / fault.file).read_text()

    assert ast.dump(ast.parse(fault.planted(text))) != ast.dump(ast.parse(text))


def test_the_list_covers_what_is_simulated() -> None:
    assert len(PLANTED) >= 30
    assert {Path(fault.file).parts[0] for fault in PLANTED} == {"policy", "state", "relay", "coalescing", "server"}
    assert len({fault.name for fault in PLANTED}) == len(PLANTED)
    assert set(tomllib.loads(LIST.read_text())) == {"command", "page_block", "fault"}
