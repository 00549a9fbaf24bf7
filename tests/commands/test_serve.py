"""Serving, as users start and stop it."""

from __future__ import annotations

import fcntl
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .conftest import ROOT, Running, Start, ask, connected, environment, get, post

pytestmark = pytest.mark.live


def until_draining(url: str) -> None:
    while get(url, "/ready")[0] != 503:
        pass


def stop(running: Running) -> int:
    running.process.send_signal(signal.SIGTERM)
    return running.ended()


def test_without_a_file_simulated_providers_serve_and_it_says_what_to_do(start: Start) -> None:
    running = start("--port", "0")
    url = running.url()

    assert "simulated answer" in ask(url)["content"][0]["text"]
    told = "\n".join(running.out)
    assert "3 providers" in told
    assert "There is no providers.yaml. To write one: " in told
    assert stop(running) == 0
    assert running.err == []


def test_it_says_what_it_serves_and_no_secret(start: Start, tmp_path: Path) -> None:
    (tmp_path / "providers.yaml").write_text(
        """\
providers:
  - {name: one, type: anthropic, base_url: "https://one.example.com/v1", auth_type: api_key, auth_value: sk-secret-1}
  - {name: two, type: anthropic, base_url: "https://two.example.com", auth_value: "${KEY_OF_TWO}", enabled: false}
model_routes:
  "*": [{provider: one, model: passthrough, priority: 1}]
"""
    )
    running = start("--port", "0", KEY_OF_TWO="sk-secret-2")
    running.url()

    told = "\n".join(running.out)
    for words in ("2 providers", "one", "anthropic", "https://one.example.com", "1 route", "disabled"):
        assert words in told
    assert stop(running) == 0
    assert "sk-secret" not in "\n".join(running.out + running.err)


def test_wrong_configuration_is_told_in_full_and_nothing_is_served(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text("providers:\n  - {name: a, type: antropic}\nsettings:\n  prot: 1\n")
    running = start("--config", str(path), "--port", "0")

    assert running.ended() == 2
    told = "\n".join(running.err)
    assert "providers.yaml:2:" in told
    assert "providers.yaml:4:" in told
    assert "did you mean" in told
    assert running.out == []


def test_a_port_that_is_taken_is_one_clear_line(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = start("--port", str(taken.getsockname()[1]))

        assert running.ended() == 1
    assert len(running.err) == 1
    assert "can't listen on 127.0.0.1:" in running.err[0]


def test_a_flag_goes_over_the_environment_and_that_over_the_file(
    start: Start, tmp_path: Path, config_file: Path
) -> None:
    config_file.write_text(config_file.read_text() + "  port: 1\n  log_level: WARNING\n  log_color: false\n")
    running = start("--port", "0", PORT="2", LOG_LEVEL="DEBUG")
    url = running.url()
    ask(url)

    assert urlsplit(url).port not in (1, 2)
    assert "DEBUG" in running.until("DEBUG")
    assert stop(running) == 0


def test_sigterm_lets_an_answer_end(start: Start, config_file: Path) -> None:
    running = start("--port", "0")
    connection = connected(running.url())
    answer = post(connection, model="claude-slow", stream=True, max_tokens=12)
    first = answer.readline()

    running.process.send_signal(signal.SIGTERM)
    rest = answer.read()
    connection.close()

    assert b"message_start" in first
    assert b"event: message_stop" in rest
    assert running.ended() == 0
    assert running.err == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_whoever_comes_while_it_drains_is_told(start: Start, config_file: Path, workers: str) -> None:
    running = start("--port", "0", "--workers", workers)
    url = running.url()
    answers = []
    for _ in range(4):  # every worker has some
        connection = connected(url)
        answers.append((connection, post(connection, model="claude-slow", stream=True, max_tokens=30)))
        answers[-1][1].readline()

    running.process.send_signal(signal.SIGTERM)
    until_draining(url)
    late = connected(url)
    answer = post(late, stream=True)
    told = json.load(answer)
    late.close()

    assert (answer.status, answer.getheader("retry-after"), told["error"]["type"]) == (503, "1", "api_error")
    assert told["request_id"] == answer.getheader("x-balancer-request-id")
    assert answer.getheader("connection") == "close"
    for connection, stream in answers:
        assert b"event: message_stop" in stream.read()
        connection.close()
    assert running.ended() == 0
    assert running.err == []


def test_a_second_signal_does_not_wait(start: Start, config_file: Path) -> None:
    running = start("--port", "0")
    url = running.url()
    connection = connected(url)
    answer = post(connection, model="claude-slow", stream=True, max_tokens=1000)
    answer.readline()

    running.process.send_signal(signal.SIGTERM)
    until_draining(url)  # it has heard the first signal
    running.process.send_signal(signal.SIGTERM)

    assert running.ended() == 0
    connection.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a pipe can be set on Linux only")
def test_a_terminal_that_takes_nothing_holds_up_neither_answers_nor_the_end(config_file: Path) -> None:
    argv = [sys.executable, str(ROOT / "src" / "main.py"), "--port", "0"]
    with subprocess.Popen(argv, cwd=config_file.parent, env=environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        banner = iter(process.stdout.readline, b"")
        url = next(line for line in banner if b"ANTHROPIC_BASE_URL" in line).decode().strip().partition("=")[2]
        for _ in range(120):
            ask(url)
        process.send_signal(signal.SIGTERM)

        assert process.wait(20) == 0


def test_one_provider_without_a_file(start: Start, tmp_path: Path, config_file: Path) -> None:
    behind = start("--port", "0")
    flags = ["--to", behind.url(), "--type", "anthropic", "--key-env", "MY_KEY", "--model", "another-model"]
    empty = tmp_path / "empty"
    empty.mkdir()
    for workers in ("1", "2"):
        running = start("--port", "0", "--workers", workers, *flags, cwd=empty, MY_KEY="sk-a-secret-of-mine")
        url = running.url()

        assert "(model another-model)" in ask(url)["content"][0]["text"]
        assert get(url, "/providers")[1]["providers"][0]["name"] == "local"
        assert stop(running) == 0
        assert running.err == []
        assert "sk-a-secret" not in "\n".join(running.out)
        assert [path.name for path in empty.iterdir()] == ["logs"]


WRONG_FLAGS = {
    "a variable that is not set": (["--to", "https://a.example", "--key-env", "MY_KEY"], "MY_KEY is not set"),
    "no variable": (["--to", "https://a.example"], "--key-env VAR is missing"),
    "no URL": (["--to", "a.example", "--key-env", "SET"], "--to: base_url must begin with https:// or http://"),
    "a file besides": (["--to", "https://a.example", "--config", "x"], "leave out --config"),
    "no --to": (["--key-env", "SET"], "--key-env says more about --to URL"),
}


@pytest.mark.parametrize(("flags", "words"), WRONG_FLAGS.values(), ids=WRONG_FLAGS)
def test_one_provider_that_can_not_be_served(start: Start, flags: list[str], words: str) -> None:
    running = start("--port", "0", *flags, SET="sk-a-secret-of-mine")

    assert running.ended() == 2
    assert running.err[0].startswith("balancer: error: ")
    assert words in running.err[0]
    assert running.out == []


def test_a_host_that_a_shell_has_set_is_not_listened_on(start: Start, config_file: Path) -> None:
    running = start("--port", "0", HOST=socket.gethostname())
    url = running.url()

    assert url.startswith("http://127.0.0.1:")
    assert ask(url)["type"] == "message"


def test_what_happened_is_in_the_log_file(start: Start, tmp_path: Path, config_file: Path) -> None:
    running = start("--port", "0")
    ask(running.url())
    stop(running)

    events = [json.loads(line) for line in (tmp_path / "logs" / "logs.jsonl").read_text().splitlines()]
    assert [told["event"] for told in events] == ["request_began", "request_ended"]
    assert events[1]["provider"] == "quick"
    assert events[1]["usage"]["output_tokens"] > 0


def test_several_workers(start: Start, config_file: Path) -> None:
    running = start("--port", "0", "--workers", "2", "--config", str(config_file))
    url = running.url()

    assert ask(url)["type"] == "message"
    assert stop(running) == 0


WAYS = {
    "python src/main.py": ([sys.executable, "src/main.py", "--port", "0"], ROOT),
    "cd src && python main.py": ([sys.executable, "main.py", "--port", "0"], ROOT / "src"),
}


@pytest.mark.parametrize(("argv", "cwd"), WAYS.values(), ids=WAYS)
def test_the_ways_to_start(start: Start, config_file: Path, argv: list[str], cwd: Path, tmp_path: Path) -> None:
    running = start(argv=argv, cwd=cwd, BALANCER_CONFIG=str(config_file), BALANCER_LOG_FILE=str(tmp_path / "l"))
    status, body = get(running.url(), "/")

    assert (status, body["status"]) == (200, "ok")
    assert stop(running) == 0


def test_uvicorn_serves_it_uninstalled(start: Start, config_file: Path) -> None:
    """-I -S would go too far: site-packages hold uvicorn. Only our own package must not be on the path."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = [sys.executable, "-m", "uvicorn", "src.main:app", "--host", "127.0.0.1", "--port", str(port)]
    running = start(argv=argv, cwd=ROOT, BALANCER_CONFIG=str(config_file))
    running.until("Uvicorn running on")

    assert ask(f"http://127.0.0.1:{port}")["type"] == "message"
