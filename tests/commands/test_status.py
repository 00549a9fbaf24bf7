"""The providers of a balancer that runs, as a table."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from balancer.cli import main
from balancer.commands.status import table

from .conftest import Start, ask


@pytest.mark.live
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


def test_where_no_balancer_answers_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--url", "http://127.0.0.1:9"]) == 1

    assert "no balancer answers at http://127.0.0.1:9" in capsys.readouterr().err


def test_a_provider_that_rests_and_its_last_error() -> None:
    provider: dict[str, Any] = {
        "name": "[red]a",
        "type": "anthropic",
        "state": "resting",
        "resting_for_s": 42.4,
        "in_flight": 1,
        "requests": 9,
        "successes": 7,
        "failures": 2,
        "latency": {"first_substance_s": 0.5},
        "tokens": {"input": 1200, "output": 30},
        "last_error": {"status": 529, "kind": "overloaded_error", "message": "529 overloaded_error busy\x1b[2J"},
    }
    view = {"healthy_providers": 0, "total_providers": 1, "selection_strategy": "priority", "providers": [provider]}
    console = Console(width=160, record=True, file=io.StringIO())

    console.print(table(view))

    told = console.export_text()
    for words in ("[red]a", "resting 42 s", "0.50 s", "1,200/30", "529 overloaded_error busy [2J"):
        assert words in told
    assert told.count("529") == 1
    assert "\x1b" not in told


def test_it_can_be_read_in_a_small_terminal() -> None:
    provider: dict[str, Any] = {
        "name": "a-provider-s-name", "type": "simulated", "state": "healthy", "in_flight": 1, "requests": 1900, "successes": 7,
        "failures": 2, "latency": {"first_substance_s": 0.5}, "tokens": {"input": 25, "output": 44}, "last_error": None,
    }  # fmt: skip
    view = {"healthy_providers": 1, "total_providers": 1, "selection_strategy": "priority", "providers": [provider]}
    console = Console(width=80, record=True, file=io.StringIO())

    console.print(table(view))

    told = console.export_text()
    for words in ("a-provider-s-name", "simulated", "healthy", "1900", "25/44"):
        assert words in told
