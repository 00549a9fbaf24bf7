"""The demo shows what it promises, without key, file or terminal."""

from __future__ import annotations

import sys

import pytest

from .conftest import ROOT, Start


@pytest.mark.live
@pytest.mark.parametrize("verbose", [False, True])
def test_the_demo_answers_everybody(start: Start, verbose: bool) -> None:
    argv = [sys.executable, "-m", "balancer.cli", "demo", *(["-v"] if verbose else [])]
    running = start(argv=argv, PYTHONPATH=str(ROOT / "src"))

    running.until("With providers of your own")  # 15 s by itself
    assert running.ended() == 0
    told = "\n".join(running.out)
    scenarios = [line for line in running.out if line.startswith("3 of 3  ")]
    assert len(scenarios) == 10
    assert scenarios[0] == scenarios[-1] == "3 of 3  -            nothing fails"
    assert scenarios[1] == "3 of 3  hidden       main answers 529 (overloaded)"
    assert scenarios[-2].startswith("3 of 3  asked again  main breaks the connection")
    assert "30 of 30 requests answered" in told
    assert ("after main 529" in told) is verbose
    assert ("INFO" in told) is verbose
    assert max(map(len, scenarios)) <= 80
    assert running.err == []
