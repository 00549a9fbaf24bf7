"""What `balancer env` prints can be evaluated, and nothing else is on stdout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from balancer.cli import main

from .conftest import environment


@pytest.fixture(autouse=True)
def _nothing_of_the_testers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BALANCER_URL", "BALANCER_KEY", "BALANCER_CONFIG", "BALANCER_HOST", "BALANCER_PORT", "HOST", "PORT",
                 "ANTHROPIC_AUTH_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def printed(capsys: pytest.CaptureFixture[str], *flags: str) -> list[str]:
    assert main(["env", *flags]) == 0
    return capsys.readouterr().out.splitlines()


def test_both_variables(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys) == [
        "export ANTHROPIC_BASE_URL=http://127.0.0.1:8080",
        "export ANTHROPIC_AUTH_TOKEN=balancer",
    ]


def test_the_flags_say_where_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        'providers: [{name: a, type: simulated}]\nmodel_routes: {"*": [{provider: a}]}\nsettings: {port: 9100, auth: {keys: [a-key-of-ours]}}\n'
    )

    assert printed(capsys, "--config", str(file), "--shell", "fish") == [
        "set -gx ANTHROPIC_BASE_URL 'http://127.0.0.1:9100'",
        "set -gx ANTHROPIC_AUTH_TOKEN 'a-key-of-ours'",
    ]
    assert printed(capsys, "--host", "0.0.0.0", "--port", "9")[0] == "export ANTHROPIC_BASE_URL=http://127.0.0.1:9"
    assert printed(capsys, "--url", "box:7")[0] == "export ANTHROPIC_BASE_URL=http://box:7"
    assert printed(capsys, "--shell", "powershell")[0] == "$env:ANTHROPIC_BASE_URL = 'http://127.0.0.1:8080'"


def test_a_shell_takes_them(capsys: pytest.CaptureFixture[str]) -> None:
    script = "\n".join(printed(capsys, "--port", "9")) + '\necho "$ANTHROPIC_BASE_URL $ANTHROPIC_AUTH_TOKEN"'

    told = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, text=True, env=environment(), check=True)
    assert told.stdout == "http://127.0.0.1:9 balancer\n"


def test_nothing_is_printed_where_the_address_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--port", "0"]) == 2
    assert main(["env", "--config", "none.yaml"]) == 2

    told = capsys.readouterr()
    assert told.out == ""
    assert "--port" in told.err
    assert "none.yaml" in told.err
