"""The command line: what it takes, and what it says no to."""

from __future__ import annotations

import pytest

from balancer import __version__
from balancer.cli import build, main


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_it_says_its_version(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([flag])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"balancer {__version__}\n"


def test_version_and_help_are_commands_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"balancer {__version__}\n"
    assert main(["help"]) == 0
    whole = capsys.readouterr().out
    assert main([]) == 0
    assert capsys.readouterr().out == whole
    assert main(["help", "serve"]) == 0
    assert capsys.readouterr().out.startswith("usage: balancer serve")


def test_a_flag_may_stand_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "no-such-file.yaml", "check"]) == 2

    assert "no-such-file.yaml" in capsys.readouterr().err


def test_without_a_command_it_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0

    told = capsys.readouterr().out
    for command in ("run", "env", "serve", "check", "explain", "status", "logs", "drill", "demo", "completion", "help"):
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
    "an id and following": ["logs", "-f", "abc"],
    "an id among those that failed": ["logs", "--failed", "abc"],
    "no time": ["logs", "--since", "soon"],
    "one provider and a file": ["serve", "--to", "https://a.example", "--config", "f"],
    "a type of nothing": ["serve", "--type", "openai"],
    "no shell": ["env", "--shell", "csh"],
    "no requests": ["drill", "main", "--fault", "529", "--requests", "0"],
}


@pytest.mark.parametrize("argv", WRONG.values(), ids=WRONG)
def test_what_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)

    assert ended.value.code == 2
    assert "balancer: error: " in capsys.readouterr().err


def test_the_flags_of_serve() -> None:
    args = build().parse_args(["serve", "--config", "f", "--port", "0", "--workers", "3", "--log-level", "debug"])

    assert (args.config, args.host, args.port, args.workers, args.log_level) == ("f", None, 0, 3, "DEBUG")
