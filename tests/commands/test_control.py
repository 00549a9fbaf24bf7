"""The commands that talk to a balancer that runs: status, drill; and the demo."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from balancer.cli import main

from .conftest import ROOT, Start
from .test_serve import ask

pytestmark = pytest.mark.live


def test_status_shows_the_providers(
    start: Start, config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    url = start("--port", "0").url()
    ask(url)

    assert main(["status", "--url", url]) == 0

    told = capsys.readouterr().out
    assert "2 of 2 providers healthy" in told
    row = next(line for line in told.splitlines() if "quick" in line)
    assert "healthy" in row


def test_a_drill_makes_a_provider_fail_and_its_end_lets_it_recover(
    start: Start, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = start("--port", "0", "--log-level", "DEBUG")
    url = running.url()

    assert main(["drill", "quick", "--fault", "529", "--requests", "1", "--url", url]) == 0
    answer = ask(url)

    assert "'slow'" in answer["content"][0]["text"]
    assert "quick 529" in running.until(" -> slow ok")
    assert main(["drill", "quick", "--off", "--url", url]) == 0
    told = capsys.readouterr().out
    assert "quick is overloaded" in told or "answers 529" in told
    assert "quick behaves again" in told


def test_a_drill_of_nobody_is_refused(start: Start, config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = start("--port", "0").url()

    assert main(["drill", "nobody", "--fault", "529", "--url", url]) == 1
    assert "quick" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["status"], ["drill", "a", "--off"]])
def test_where_no_balancer_answers_it_says_so(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*argv, "--url", "http://127.0.0.1:9"]) == 1

    assert "no balancer answers at http://127.0.0.1:9" in capsys.readouterr().err


def test_the_demo_answers_everybody(start: Start) -> None:
    """It needs no key, no terminal and no file, and says so with its exit code."""
    running = start(argv=[sys.executable, "-m", "balancer.cli", "demo"], PYTHONPATH=str(ROOT / "src"))

    assert running.ended() == 0
    told = "\n".join(running.out)
    assert "main 529 -> second ok" in told
    assert "masked" in told
    assert "27 of 27 requests answered" in told
    assert running.err == []
