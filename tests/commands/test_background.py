"""A balancer in the background: found or started, shared, and gone when nobody uses it any more."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import pytest

from balancer.commands.background import Background, NotStarted
from balancer.commands.calling import Listener, who_answers
from balancer.config import Config, load

from .conftest import SIMULATED, Start, connected, get, post

pytestmark = pytest.mark.live

WITHIN_S = 20.0


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("BALANCER_HOST", "BALANCER_PORT", "BALANCER_CONFIG", "HOST", "PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(config_file: Path) -> Config:
    return load(config_file, {})


@pytest.fixture
def url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def eventually(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


def ended(*users: Background) -> None:
    """Wait for those balancers that outlived the user that had started them."""
    for user in users:
        if user.process is not None:
            assert user.process.wait(WITHIN_S) == 0


def is_gone(url: str) -> bool:
    return who_answers(url) is Listener.NOBODY


def test_it_is_started_and_ended(config: Config, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Background(url, config) as started:
        assert started.process is not None
        assert [provider["name"] for provider in get(url, "/providers")[1]["providers"]] == ["quick", "slow"]
        assert "2 providers" in started.log.read_text()
        assert started.log.stat().st_mode & 0o077 == 0

    assert started.process.returncode == 0
    assert is_gone(url)
    assert f"started in the background on {url}; what it prints: {started.log}" in capsys.readouterr().err


def test_its_log_lies_beside_its_configuration_and_not_where_the_user_is(
    config: Config, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    with Background(url, config):
        connection = connected(url)
        post(connection).read()
        connection.close()

    assert (tmp_path / "logs" / "logs.jsonl").exists()
    assert list(project.iterdir()) == []


def test_one_that_runs_is_left_alone(start: Start, config: Config) -> None:
    url = start("--port", "0").url()

    with Background(url, config) as found:
        assert found.process is None
    assert who_answers(url) is Listener.BALANCER


def test_it_lives_until_its_last_user_has_gone(config: Config, url: str) -> None:
    first, second = Background(url, config), Background(url, config)
    first.__enter__()
    second.__enter__()
    assert second.process is None

    first.__exit__(None, None, None)
    assert who_answers(url) is Listener.BALANCER
    second.__exit__(None, None, None)
    eventually(lambda: is_gone(url))
    ended(first)


def test_two_at_once_share_one(config: Config, url: str) -> None:
    both_are_in = Event()

    def use(_: int) -> bool:
        with Background(url, config) as used:
            users.append(used)
            served.append(get(url, "/")[0])
            if len(served) == 2:
                both_are_in.set()
            assert both_are_in.wait(WITHIN_S)
            return used.process is not None

    served: list[int] = []
    users: list[Background] = []
    with ThreadPoolExecutor(2) as pool:
        started = list(pool.map(use, range(2)))
    assert sorted(started) == [False, True]
    eventually(lambda: is_gone(url))
    ended(*users)


def test_a_port_that_another_program_has_is_one_clear_line(config: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        def answer() -> None:
            with taken.accept()[0] as peer:
                peer.sendall(b"SSH-2.0-x\r\n")

        answering = Thread(target=answer)
        answering.start()
        with pytest.raises(NotStarted) as refused, Background(f"http://127.0.0.1:{port}", config):
            pass
        answering.join(WITHIN_S)

    told = str(refused.value)
    assert f"http://127.0.0.1:{port} is taken by another program" in told
    assert f"run --port {port + 1}" in told
    assert "\n" not in told


def test_what_it_said_when_it_did_not_start_is_shown(config: Config, config_file: Path, url: str) -> None:
    config_file.write_text(SIMULATED.replace("simulated", "simulatde"))

    background = Background(url, config)
    with pytest.raises(NotStarted, match="did you mean 'simulated'"), background:
        pass
    assert background.process is not None
    assert background.process.poll() == 2


def test_one_that_is_stopping_is_waited_for(start: Start, config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    running = start("--port", "0")
    url = running.url()
    connection = connected(url)
    answer = post(connection, model="claude-slow", stream=True, max_tokens=12)
    answer.readline()
    running.process.send_signal(signal.SIGTERM)
    eventually(lambda: who_answers(url) is Listener.STOPPING)

    with Background(url, config) as started:
        assert started.process is not None
        assert running.ended() == 0
    assert b"message_stop" in answer.read(), "its answer came to its end"
    connection.close()
    assert "is stopping; waiting for its end" in capsys.readouterr().err


def test_whoever_comes_while_it_ends_gets_a_new_one(config: Config, url: str) -> None:
    first = Background(url, config)
    first.__enter__()
    pid = first.process.pid if first.process else 0
    closing = Thread(target=first.__exit__, args=(None, None, None))
    closing.start()
    with Background(url, config) as second:
        status, body = get(url, "/")
        assert (status, body["status"]) == (200, "ok")
        assert second.process is None or second.process.pid != pid
    closing.join(WITHIN_S)
    eventually(lambda: is_gone(url))
    ended(first, second)


def test_nothing_is_imported_from_the_folder_it_runs_in(config: Config, url: str, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('imported')\n")

    with Background(url, config) as started:
        assert started.process is not None
    assert json.__file__ is not None
