"""The command line: what it takes, and what it says no to."""

from __future__ import annotations

import pytest

from balancer import __version__
from balancer.cli import build, main


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"balancer {__version__}\n"


def test_without_a_command_it_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0

    told = capsys.readouterr().out
    for command in ("serve", "check", "explain", "status", "demo", "drill"):
        assert f"    {command} " in told


WRONG = {
    "no such command": ["fly"],
    "a port that is none": ["serve", "--port", "70000"],
    "no workers": ["serve", "--workers", "0"],
    "a level that is none": ["serve", "--log-level", "loud"],
    "no model": ["explain"],
    "a drill of nobody": ["drill"],
    "a drill of nothing": ["drill", "main"],
    "an unknown fault": ["drill", "main", "--fault", "meltdown"],
    "on and off": ["drill", "main", "--fault", "529", "--off"],
    "no duration": ["drill", "main", "--fault", "529", "--for", "soon"],
    "no requests": ["drill", "main", "--fault", "529", "--requests", "0"],
}


@pytest.mark.parametrize("argv", WRONG.values(), ids=WRONG)
def test_what_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)

    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_the_flags_of_serve() -> None:
    args = build().parse_args(["serve", "--config", "f", "--port", "0", "--workers", "3", "--log-level", "debug"])

    assert (args.config, args.host, args.port, args.workers, args.log_level) == ("f", None, 0, 3, "DEBUG")
