"""Who serves a model, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.cli import main

FILE = """\
providers:
  - {name: a, type: simulated}
  - {name: b, type: simulated}
  - {name: c, type: simulated, enabled: false}
model_routes:
  "claude-x":
    - {provider: b, model: other, priority: 2}
    - {provider: a, model: passthrough, priority: 1}
    - {provider: c, model: passthrough, priority: 3}
  "*sonnet*":
    - {provider: a, model: passthrough, enabled: false}
    - {provider: b, model: passthrough, weight: 3}
  "*son*":
    - {provider: a, model: passthrough}
  "nobody":
    - {provider: c, model: passthrough}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(FILE)
    return path


def explained(file: Path, model: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    return main(["explain", model, "--config", str(file)]), capsys.readouterr().out


def test_an_exact_name_and_the_order(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = explained(file, "claude-x", capsys)

    assert code == 0
    assert "is the name of a route" in told
    assert told.index("1. a (simulated) is asked for 'claude-x'") < told.index("2. b (simulated) is asked for 'other'")
    assert "c: not asked: the provider is disabled" in told


def test_a_pattern_and_its_rivals(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = explained(file, "claude-sonnet-9", capsys)

    assert code == 0
    assert "matches the pattern '*sonnet*'" in told
    assert "less specific: *son*" in told
    assert "a: not asked: this line of the route is disabled" in told


def test_no_route(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = explained(file, "gpt", capsys)

    assert code == 1
    assert "404" in told
    assert "*sonnet*" in told


def test_a_route_with_nobody_left(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = explained(file, "nobody", capsys)

    assert code == 1
    assert "503" in told
