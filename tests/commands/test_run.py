"""`balancer run`: a client through a balancer that is there for it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balancer.commands.calling import Listener, who_answers
from balancer.commands.run import found

from .conftest import ROOT, Start, environment

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

WITHIN_S = 40.0

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


def surroundings(home: Path, **changes: str) -> dict[str, str]:
    """An empty home, and nothing of the tester's own that a client or the balancer would heed."""
    theirs = (
        "ANTHROPIC",
        "CLAUDE",
        "XDG_STATE_HOME",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "http_proxy",
        "https_proxy",
        "NO_PROXY",
    )
    known = {name: value for name, value in environment().items() if not name.startswith(theirs)}
    return known | {"HOME": str(home), "PYTHONPATH": str(ROOT / "src")} | changes


COMMAND = [sys.executable, "-m", "balancer.cli", "run"]


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Run:
    def begin(*flags: str, cwd: Path = home, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *flags], cwd=cwd, env=surroundings(home, **env), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip

    return begin


def eventually_gone(port: int) -> None:
    ends = time.monotonic() + WITHIN_S
    while who_answers(f"http://127.0.0.1:{port}") is not Listener.NOBODY:
        assert time.monotonic() < ends
        time.sleep(0.02)


SHOW = ("--client", "sh", "--", "-c")


def test_the_client_gets_both_variables_and_its_exit_code_is_ours(run: Run, port: int) -> None:
    script = 'echo "$ANTHROPIC_BASE_URL $ANTHROPIC_AUTH_TOKEN $1"; exit 7'
    ended = run("--port", str(port), *SHOW, script, "sh", "an argument")

    assert ended.returncode == 7
    assert ended.stdout == f"http://127.0.0.1:{port} balancer an argument\n"
    assert "started in the background" in ended.stderr
    assert "the answers are simulated" in ended.stderr
    assert who_answers(f"http://127.0.0.1:{port}") is Listener.NOBODY


def test_a_client_that_a_signal_ends(run: Run, port: int) -> None:
    assert run("--port", str(port), *SHOW, "kill -TERM $$").returncode == 143


def test_the_balancer_answers_the_client(run: Run, port: int, config_file: Path) -> None:
    ask = """
import json, os, urllib.request
body = json.dumps({"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}).encode()
headers = {"content-type": "application/json", "authorization": "Bearer " + os.environ["ANTHROPIC_AUTH_TOKEN"]}
request = urllib.request.Request(os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", body, headers)
print(json.load(urllib.request.urlopen(request))["content"][0]["text"])
"""
    keyed = config_file.read_text() + "  auth: {keys: [a-key-of-this-balancer]}\n"
    config_file.write_text(keyed)
    ended = run("--config", str(config_file), "--port", str(port), "--client", sys.executable, "--", "-c", ask)

    assert (ended.returncode, "'quick'" in ended.stdout) == (0, True), ended.stderr
    assert "a-key-of" not in ended.stderr


def test_any_free_port(run: Run) -> None:
    ended = run("--port", "0", *SHOW, 'echo "$ANTHROPIC_BASE_URL"')

    assert ended.returncode == 0
    assert int(ended.stdout.rpartition(":")[2]) > 0


def test_one_that_runs_is_used_and_left(run: Run, start: Start, config_file: Path) -> None:
    url = start("--port", "0").url()
    ended = run("--port", url.rpartition(":")[2], *SHOW, 'echo "$ANTHROPIC_BASE_URL"', cwd=config_file.parent)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{url}\n", "")
    assert who_answers(url) is Listener.BALANCER


def test_one_that_runs_with_another_configuration_is_said_so(run: Run, start: Start, config_file: Path) -> None:
    url = start("--port", "0").url()
    ended = run("--port", url.rpartition(":")[2], *SHOW, "exit 0")

    assert "has other providers (quick, slow) than" in ended.stderr


def test_a_balancer_elsewhere(run: Run, start: Start, config_file: Path, port: int) -> None:
    url = start("--port", "0").url()
    ended = run(*SHOW, 'echo "$ANTHROPIC_BASE_URL $ANTHROPIC_AUTH_TOKEN"', BALANCER_URL=url, BALANCER_KEY="theirs")
    assert (ended.returncode, ended.stdout) == (0, f"{url} theirs\n")

    nobody = run("--url", f"http://127.0.0.1:{port}", *SHOW, "exit 0")
    assert nobody.returncode == 1
    assert nobody.stderr.startswith(f"balancer: error: no balancer answers at http://127.0.0.1:{port}")


def test_a_port_that_is_taken_is_one_clear_line(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken.settimeout(0.1)
        ended = run("--port", str(taken.getsockname()[1]), *SHOW, "exit 0")

    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "is taken by another program" in line


def test_a_wrong_configuration_is_told_and_no_client_runs(run: Run, config_file: Path) -> None:
    config_file.write_text("providers: 1\n")
    ended = run("--config", str(config_file), *SHOW, "echo ran")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "providers.yaml:1" in ended.stderr


def test_without_a_client_it_says_how_to_get_one(run: Run) -> None:
    ended = run(PATH="/nowhere")

    assert ended.returncode == 127
    assert "npm install -g @anthropic-ai/claude-code" in ended.stderr
    assert run("--client", "no-such-client").returncode == 127


def test_a_client_that_its_installer_put_off_the_path_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", "/nowhere")
    assert found("claude") is None
    client = home / ".local" / "bin" / "claude"
    client.parent.mkdir(parents=True)
    client.write_text("#!/bin/sh\n")
    client.chmod(0o755)

    assert found("claude") == str(client)


def begun(home: Path, port: int, script: str, **streams: Any) -> subprocess.Popen[str]:
    command = [*COMMAND, "--port", str(port), *SHOW, script]
    process = subprocess.Popen(
        command, cwd=home, env=surroundings(home), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, **streams,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_the_client_and_the_balancer_ends_after_it(
    home: Path, port: int, number: signal.Signals
) -> None:
    script = f"trap 'echo trapped; exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
    with begun(home, port, script) as process:
        assert who_answers(f"http://127.0.0.1:{port}") is Listener.BALANCER
        process.send_signal(number)

        assert process.wait(WITHIN_S) == 9
        assert process.stdout is not None
        assert process.stdout.read() == "trapped\n"
    assert who_answers(f"http://127.0.0.1:{port}") is Listener.NOBODY


def test_the_balancer_is_gone_when_we_are_killed(home: Path, port: int) -> None:
    with begun(home, port, "echo ready; exec sleep 60", process_group=0) as process:
        os.killpg(process.pid, signal.SIGKILL)
    eventually_gone(port)


def test_the_balancer_stays_for_another_client(home: Path, port: int) -> None:
    waits = "echo ready; trap 'exit 0' TERM; while :; do sleep 0.05; done"
    with begun(home, port, waits) as first, begun(home, port, waits) as second:
        first.terminate()
        assert first.wait(WITHIN_S) == 0
        assert who_answers(f"http://127.0.0.1:{port}") is Listener.BALANCER
        second.terminate()
        assert second.wait(WITHIN_S) == 0
    eventually_gone(port)


# The real client


CLIENT = {"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "CLAUDE_CODE_MAX_RETRIES": "1"}


def test_the_real_client_answers_at_once(claude_code: Path, run: Run, port: int) -> None:
    ended = run("--port", str(port), "--client", str(claude_code), "--", "-p", "say hi", **CLIENT)

    assert ended.returncode == 0, ended.stderr
    assert "This is a simulated answer" in ended.stdout


def test_the_real_client_with_an_api_key_of_the_users_and_a_proxy(claude_code: Path, run: Run, port: int) -> None:
    env = CLIENT | {
        "ANTHROPIC_API_KEY": "sk-ant-fake",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    ended = run(
        "--port", str(port), "--client", str(claude_code), "--", "-p", "say hi", **env, CLAUDE_CODE_USE_BEDROCK="1"
    )

    assert ended.returncode == 0, ended.stderr
    assert "This is a simulated answer" in ended.stdout


def test_the_real_client_whose_settings_name_another_address(
    claude_code: Path, run: Run, home: Path, port: int
) -> None:
    (home / ".claude").mkdir()
    saved = home / ".claude" / "settings.json"
    saved.write_text(json.dumps({"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}}))
    (home / "claude").symlink_to(claude_code)
    ended = run("--port", str(port), "--client", str(home / "claude"), "--", "-p", "say hi", **CLIENT)

    assert ended.returncode == 0, ended.stderr
    assert "This is a simulated answer" in ended.stdout
    assert f"{saved} sets ANTHROPIC_BASE_URL to another address; this run uses http://127.0.0.1:{port}" in ended.stderr


def test_a_failed_client_is_failed(claude_code: Path, run: Run, port: int) -> None:
    ended = run("--port", str(port), "--client", str(claude_code), "--", "--no-such-flag", **CLIENT)

    assert ended.returncode == 1
    assert "no-such-flag" in ended.stderr


def test_a_provider_that_takes_the_clients_login_leaves_it_to_the_client(
    claude_code: Path, run: Run, port: int, tmp_path: Path
) -> None:
    """Logged out, the client says so; with a credential of its own it is answered, and that is what it sends."""
    file = tmp_path / "own.yaml"
    file.write_text(
        f"""\
providers:
  - {{name: own, type: anthropic, base_url: "http://127.0.0.1:9", auth_value: passthrough}}
  - {{name: then, type: simulated, simulated_config: {{latency: 0, speed: 0}}}}
model_routes: {{"*": [{{provider: own, priority: 1}}, {{provider: then, priority: 2}}]}}
settings: {{log_file: "{tmp_path}/log.jsonl"}}
"""
    )
    flags = ("--config", str(file), "--port", str(port), "--client", str(claude_code), "--", "-p", "say hi")
    without = run(*flags, **CLIENT)
    assert "Not logged in" in without.stdout + without.stderr
    assert "so no token is set" in without.stderr

    own = run(*flags, **CLIENT, CLAUDE_CODE_OAUTH_TOKEN="sk-ant-oat01-fake")
    assert own.returncode == 0, own.stdout + own.stderr
    assert "This is a simulated answer" in own.stdout
