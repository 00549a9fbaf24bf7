"""Making a provider fail on purpose, and letting it recover."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.cli import build, main
from balancer.commands.drill import order
from balancer.dialects.simulated import faults as drills

from .conftest import Start, ask

ORDERS = {
    "until called off": (["--fault", "529"], {"fault": "529"}),
    "for a time": (["--fault", "cut", "--for", "2m"], {"fault": "cut", "for_s": 120.0}),
    "for some requests": (["--fault", "cut", "--requests", "3"], {"fault": "cut", "requests": 3}),
    "off": (["--off"], {"fault": None}),
}


@pytest.mark.parametrize(("flags", "expected"), ORDERS.values(), ids=ORDERS)
def test_the_order(flags: list[str], expected: dict[str, object]) -> None:
    assert order(build().parse_args(["drill", "main", *flags])) == {"provider": "main"} | expected


def test_the_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drill", "--list"]) == 0

    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(drills.FAULTS)


@pytest.mark.live
def test_a_drill_makes_a_provider_fail_and_its_end_lets_it_recover(
    start: Start, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = start("--port", "0", "--log-level", "DEBUG")
    url = running.url()

    assert main(["drill", "quick", "--fault", "529", "--requests", "1", "--url", url]) == 0
    answer = ask(url, max_tokens=8)

    assert "'slow'" in answer["content"][0]["text"]
    assert "slow" in running.until("after quick 529")
    assert main(["drill", "quick", "--off", "--url", url]) == 0
    told = capsys.readouterr().out
    assert "quick answers 529 (overloaded)" in told
    assert f"drill quick --off --url {url}" in told
    assert "quick no longer fails on purpose" in told


@pytest.mark.live
def test_a_drill_of_nobody_is_refused(start: Start, config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = start("--port", "0").url()

    assert main(["drill", "nobody", "--fault", "529", "--url", url]) == 1
    assert "quick" in capsys.readouterr().err
