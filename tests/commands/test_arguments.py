"""The command line is read as it was meant, or answered with what would be right."""

from __future__ import annotations

import argparse

import pytest

from balancer.cli import build
from balancer.commands.arguments import commands_of, in_order, one_of, parse

MEANT = {
    "a flag before its command": (["--config", "x", "check"], ["check", "--config", "x"]),
    "with an equals sign": (["--config=x", "check", "--live"], ["check", "--config=x", "--live"]),
    "a value that is a command's name": (["--config", "check", "explain", "m"], ["explain", "--config", "check", "m"]),
    "a switch": (["--watch", "status"], ["status", "--watch"]),
    "a switch that may have a value": (["--live", "check"], ["check", "--live"]),
    "and has one": (["--live=message", "check"], ["check", "--live=message"]),
    "a short one": (["-n", "5", "logs"], ["logs", "-n", "5"]),
    "the usual order": (["check", "--config", "x"], ["check", "--config", "x"]),
    "the program's own": (["--version"], ["--version"]),
    "nothing": ([], []),
}


@pytest.mark.parametrize(("argv", "meant"), MEANT.values(), ids=MEANT)
def test_a_flag_may_stand_before_its_command(argv: list[str], meant: list[str]) -> None:
    parser = build()

    assert in_order(parser, commands_of(parser), argv) == meant


REFUSED = {
    "a command with a slip": (["stauts"], "there is no command 'stauts'; did you mean 'status'?"),
    "a command that is nothing like one": (["fly"], "there is no command 'fly'"),
    "a flag with a slip": (["check", "--confg", "x"], "there is no flag --confg; did you mean '--config'?"),
    "a flag with a slip and a value": (["check", "--confg=x"], "there is no flag --confg; did you mean '--config'?"),
    "a flag with a slip before the command": (["--confg", "x", "check"], "did you mean '--config'?"),
    "a flag of another command": (["check", "--watch"], "there is no flag --watch"),
    "a flag of another command before it": (["--watch", "check"], "there is no flag --watch"),
    "a flag alone": (["--config"], "--config is a flag of a command, and no command was given"),
    "a word too many": (["check", "x"], "'x' is one word too many"),
    "the client's arguments without their mark": (["run", "-p", "hi"], "the client's own stand behind `--`"),
    "a level": (["serve", "--log-level", "Loud"], "unknown level 'Loud'; one of DEBUG"),
    "a level with a slip": (["serve", "--log-level", "warn1ng"], "did you mean 'WARNING'?"),
    "a fault with a slip": (["drill", "a", "--fault", "refues"], "did you mean 'refuse'?"),
    "a port": (["serve", "--port", "70000"], "a port is 0 to 65535, not '70000'"),
    "a command to be explained": (["help", "stauts"], "did you mean 'status'?"),
}


@pytest.mark.parametrize(("argv", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_said_in_one_form(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(build(), argv)

    error, where = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert error.startswith("balancer: error: ")
    assert words in error
    assert where.startswith("Help: ")
    assert " help" in where


CLIENTS = {
    "nothing": (["run"], []),
    "nothing behind the mark": (["run", "--"], []),
    "some": (["run", "--port", "1", "--", "-p", "say hi"], ["-p", "say hi"]),
    "a mark of its own": (["run", "--", "a", "--", "-b"], ["a", "--", "-b"]),
    "what looks like ours": (["run", "--", "--port", "x", "--help"], ["--port", "x", "--help"]),
}


@pytest.mark.parametrize(("argv", "handed_on"), CLIENTS.values(), ids=CLIENTS)
def test_what_stands_behind_the_mark_is_the_clients(argv: list[str], handed_on: list[str]) -> None:
    assert parse(build(), argv).client_arguments == handed_on


def test_only_run_has_a_client() -> None:
    assert parse(build(), ["explain", "--", "-odd-name"]).model == "-odd-name"


def test_one_of() -> None:
    assert one_of("level", ("A", "B"), str.upper)("a") == "A"
    with pytest.raises(argparse.ArgumentTypeError, match="unknown level 'x'; one of A, B"):
        one_of("level", ("A", "B"))("x")
