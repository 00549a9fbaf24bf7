"""How the program is called depends on how it is installed, and each form starts this very program."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import missing

from balancer.commands.invocation import form, hint

from .conftest import ROOT, environment


def executable(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def chosen(home: Path, **known: str | None) -> str:
    rest = {"started_as": "", "on_path": None, "script": str(home / "none" / "balancer")}
    return form(**(rest | known), source=home / "repo" / "src", cwd=home)  # type: ignore[arg-type]


def test_installed_and_on_the_path_it_has_its_name(home: Path) -> None:
    script = executable(home / "venv" / "bin" / "balancer")
    link = home / "bin" / "balancer"
    link.parent.mkdir()
    link.symlink_to(script)

    assert chosen(home, on_path=script, script=script) == "balancer"
    assert chosen(home, on_path=str(link), script=script) == "balancer", "as uv and pipx install it"
    assert chosen(home, on_path=str(link), started_as=script) == "balancer"


def test_another_program_of_that_name_is_not_suggested(home: Path) -> None:
    script = executable(home / "venv" / "bin" / "balancer")
    other = executable(home / "other" / "balancer")

    assert chosen(home, on_path=other, script=script) == "venv/bin/balancer"


def test_as_it_was_typed(home: Path) -> None:
    typed = executable(home / "my folder" / "balancer")

    assert chosen(home, started_as=typed) == "'my folder/balancer'"


def test_out_of_the_repository(home: Path) -> None:
    executable(home / "repo" / "balancer")
    executable(home / "venv" / "bin" / "balancer")

    assert chosen(home, started_as="src/main.py", script=str(home / "venv/bin/balancer")) == "repo/balancer"
    linked = home / "bin" / "balancer"
    linked.parent.mkdir()
    linked.symlink_to(home / "repo" / "balancer")
    assert chosen(home, on_path=str(linked)) == "balancer"
    beside = form("", None, "none", home / "repo" / "src", home / "repo")
    assert beside == "./balancer"
    elsewhere = form("", None, "none", home / "repo" / "src", Path("/"))
    assert elsewhere == str(home / "repo" / "balancer")


def test_without_any_script_python_starts_it(home: Path) -> None:
    assert chosen(home).endswith(" -m balancer.cli")


def test_a_hint_is_quoted_for_a_shell() -> None:
    assert hint("explain", "a b").endswith("explain 'a b'")


STARTED = {
    "python src/main.py": [sys.executable, "src/main.py", "--help"],
    "python -m balancer.cli": [sys.executable, "-m", "balancer.cli", "--help"],
    "the installed script": [str(Path(sys.executable).with_name("balancer")), "--help"],
}


@pytest.mark.live
@pytest.mark.parametrize("argv", STARTED.values(), ids=STARTED)
@pytest.mark.parametrize("activated", [True, False])
def test_what_it_says_can_be_run(argv: list[str], activated: bool) -> None:
    """The first command of the help, as a shell runs it in the same place."""
    if not os.access(argv[0], os.X_OK):
        missing(argv[0], "run: make setup")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin" if activated else "/usr/bin:/bin"
    env = environment(PATH=path, PYTHONPATH=str(ROOT / "src"))
    told = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    (example,) = re.findall(r"^  (\S.*) serve(?: --port 9000)?$", told, re.MULTILINE)
    program = shlex.split(example)

    shown = subprocess.run([*program, "version"], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("balancer ")
