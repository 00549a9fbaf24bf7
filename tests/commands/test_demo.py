"""The demo shows what it promises, without key, file or terminal."""

from __future__ import annotations

import sys

import pytest

from .conftest import ROOT, Start


@pytest.mark.live
def test_the_demo_answers_everybody(start: Start) -> None:
    running = start(argv=[sys.executable, "-m", "balancer.cli", "demo"], PYTHONPATH=str(ROOT / "src"))

    assert running.ended() == 0
    told = "\n".join(running.out)
    assert "main 529 -> second ok" in told
    assert "masked" in told
    assert "main answers again" in told
    assert "30 of 30 requests answered" in told
    assert running.err == []
