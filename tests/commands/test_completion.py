"""Pressing Tab, in the shells themselves where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import missing

from balancer.cli import build
from balancer.commands import completion
from balancer.dialects.simulated import faults as drills

from .conftest import ROOT, environment

FILE = """\
providers: [{name: alpha, type: simulated}, {name: beta, type: simulated}]
model_routes:
  "claude-x": [{provider: alpha, model: other-y}]
  "*": [{provider: beta}]
"""


def completed(line: str, cwd: Path) -> list[str]:
    """Return what is offered at the end of a line, as argcomplete's hook asks for it."""
    env = environment(
        _ARGCOMPLETE="1", COMP_LINE=line, COMP_POINT=str(len(line)), COMP_TYPE="63", _ARGCOMPLETE_SHELL="bash",
        _ARGCOMPLETE_SUPPRESS_SPACE="1", _ARGCOMPLETE_STDOUT_FILENAME=str(cwd / "offered"), PYTHONPATH=str(ROOT / "src"),
    )  # fmt: skip
    subprocess.run([sys.executable, "-m", "balancer.cli"], cwd=cwd, env=env, check=True, timeout=30)
    return (cwd / "offered").read_text().split("\x0b")


OFFERED = {
    "commands": ("balancer s", ["serve", "status"]),
    "flags": ("balancer status --w", ["--watch"]),
    "providers": ("balancer drill a", ["alpha"]),
    "faults": ("balancer drill alpha --fault error_", [name for name in drills.FAULTS if name.startswith("error_")]),
    "models": ("balancer explain ", ["claude-x", "other-y", "--config", "--error", "--status", "--provider"]),
    "shells": ("balancer completion f", ["fish"]),
    "commands to be explained": ("balancer help ver", ["version"]),
    "levels": ("balancer serve --log-level W", ["WARNING"]),
}


@pytest.mark.live
@pytest.mark.parametrize(("line", "words"), OFFERED.values(), ids=OFFERED)
def test_what_is_offered(line: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "providers.yaml").write_text(FILE)

    offered = {word.strip() for word in completed(line, tmp_path)}
    assert set(words) <= offered
    assert offered <= set(words) | {"-h", "--help"}


def test_a_wrong_configuration_offers_no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "providers.yaml").write_text("providers: 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BALANCER_CONFIG", raising=False)

    assert completion.providers() == []
    assert completion.models() == []


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_shell_gets_its_hook(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert completion.run(build().parse_args(["completion", shell])) == 0

    hook = capsys.readouterr().out
    assert "balancer" in hook
    assert "argcomplete" in hook.lower()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_hook_is_taken_by_its_shell(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        missing(shell, f"install your system's package {shell}")
    completion.run(build().parse_args(["completion", shell]))
    hook = tmp_path / "hook"
    prelude = "autoload -U compinit; compinit -u -D\n" if shell == "zsh" else ""
    hook.write_text(prelude + capsys.readouterr().out)

    ended = subprocess.run([shell, str(hook)], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_bash_completes_a_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    completion.run(build().parse_args(["completion", "bash"]))
    script = tmp_path / "script"
    script.write_text(
        capsys.readouterr().out
        + 'COMP_WORDS=(balancer stat); COMP_CWORD=1; COMP_LINE="balancer stat"; COMP_POINT=13; COMP_TYPE=9\n'
        + 'function_name=$(complete -p balancer | sed "s/.*-F \\([^ ]*\\).*/\\1/")\n'
        + '"$function_name" balancer stat balancer\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    program = tmp_path / "balancer"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}/src" exec "{sys.executable}" -m balancer.cli "$@"\n')
    program.chmod(0o755)
    env = environment(PATH=f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")

    told = subprocess.run(["bash", str(script)], capture_output=True, text=True, env=env, timeout=30, check=True)
    assert told.stdout.strip() == "status"
