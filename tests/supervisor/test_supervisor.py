"""Several workers as one balancer, with real processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import httpx2
import pytest
from commands.conftest import ROOT, Start, ask, connected, get, post, start

from balancer import __version__

from .processes import FILE, Load, children, log, until

__all__ = ["start"]  # a fixture

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "providers.yaml"
    path.write_text(FILE)
    path.chmod(0o600)
    return path


def metrics(url: str) -> str:
    connection = connected(url)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def until_all_serve(url: str, folder: Path, since: float = 0.0) -> None:
    """Ask until both workers have answered."""

    def seen() -> bool:
        assert ask(url)["type"] == "message"
        return {line["worker"] for line in log(folder, "request_ended") if line["wall"] > since} == {1, 2}

    until(seen)


def test_a_worker_that_dies_is_replaced_though_the_file_is_broken_and_nobody_outlives_the_supervisor(
    start: Start, file: Path, tmp_path: Path
) -> None:
    running = start("--port", "0", "--workers", "2")
    url = running.url()
    until_all_serve(url, tmp_path)
    first = children(running)

    file.write_text("providers: [\n {")
    os.kill(first[0], signal.SIGKILL)
    ended = until(lambda: log(tmp_path, "worker_ended"))[0]
    assert (ended["worker"], ended["pid"], ended["reason"]) == (1, first[0], "signal")
    assert ended["how"] == "signal 9 (SIGKILL)"
    assert "worker 1 (pid" in running.until("a new one is started now")

    until_all_serve(url, tmp_path, since=ended["wall"])
    for _ in range(20):
        assert 'balancer_worker_restarts_total{reason="signal"} 1' in metrics(url)

    file.write_text(FILE.replace("quick", "another"))
    running.process.send_signal(signal.SIGHUP)
    until(lambda: all(get(url, "/providers")[1]["providers"][0]["name"] == "another" for _ in range(8)))

    stopped = children(running)[1]
    os.kill(stopped, signal.SIGSTOP)
    began, slowest_s = time.monotonic(), 0.0
    while stopped in children(running):
        at = time.monotonic()
        assert ask(url)["type"] == "message"
        slowest_s = max(slowest_s, time.monotonic() - at)
        assert at - began < 20
    assert slowest_s < 1.5, "others take the connections of a worker that hangs"
    assert until(lambda: log(tmp_path, "worker_ended")[1:])[0]["reason"] == "hang"

    workers = until(lambda: len(pids := children(running)) == 2 and pids)
    connection = connected(url)
    answer = post(connection, model="claude-slow", stream=True, max_tokens=200)
    answer.readline()
    running.process.kill()
    running.process.wait()
    until(lambda: sum(Path(f"/proc/{pid}").exists() for pid in workers) == 1)
    assert start("--port", url.rpartition(":")[2]).url() == url, "the one that still answers has let go of the port"
    assert ask(url)["type"] == "message"
    assert b"message_stop" in answer.read()
    connection.close()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_a_worker_that_cannot_start_stops_nobody_and_is_tried_again_with_longer_waits(
    start: Start, file: Path, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    (code / "src").mkdir(parents=True)
    (code / "src" / "balancer").symlink_to(ROOT / "src" / "balancer")
    # It stands in the way of what a worker imports and the supervisor has imported already.
    running = start("--port", "0", "--workers", "2", PYTHONPATH=str(code))
    url = running.url()
    until_all_serve(url, tmp_path)
    pids = children(running)
    (code / "msgspec.py").write_text("raise ImportError('broken')")

    os.kill(pids[0], signal.SIGKILL)
    running.until("started in 1 s")
    running.until("started in 2 s")
    assert ask(url)["type"] == "message"
    running.process.send_signal(signal.SIGUSR2)
    assert "the workers that serve go on" in running.until("rolling restart given up")
    (code / "msgspec.py").unlink()
    until(lambda: len(children(running)) == 2)
    assert ask(url)["type"] == "message"

    running.process.send_signal(signal.SIGTERM)
    assert running.ended() == 0


def test_where_no_worker_can_start_it_ends_and_says_so(start: Start, file: Path, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "sitecustomize.py").write_text(
        "import os, sys\nif 'BALANCER_WORKER' in os.environ:\n    sys.exit(7)\n"
    )
    running = start("--port", "0", "--workers", "2", PYTHONPATH=str(tmp_path / "code"))

    assert running.ended() == 3
    assert not running.out, "nothing serves, so nothing says that it does"
    assert any("did not start" in line for line in running.err)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_upgrade_to_another_version_is_seen_by_nobody(
    start: Start, file: Path, tmp_path: Path, workers: str
) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    version = tmp_path / "src" / "balancer" / "__init__.py"
    argv = [sys.executable, str(tmp_path / "src" / "main.py"), "--port", "0", "--workers", workers]
    running = start(argv=argv)
    url = running.url()
    load = Load(url)

    async def upgrade() -> str:
        version.write_text(version.read_text().replace(__version__, "99.1"))
        async with httpx2.AsyncClient(timeout=60) as client:
            return (await client.post(f"{url}/admin/restart")).text

    said, streams = asyncio.run(load.during(upgrade, streams=200, tokens=60))
    assert said == '{"status":"ok"}'
    assert load.answers.keys() == {"200"}
    assert load.answers["200"] >= 1000
    assert streams == {True: 200}
    assert all(get(url, "/")[1]["version"] == "99.1" for _ in range(10))

    # And again, by signal, over what is now a supervisor with workers in either case.
    before = set(children(running))
    running.process.send_signal(signal.SIGUSR2)
    until(lambda: len(children(running)) == int(workers) and not before & set(children(running)))
    assert ask(url)["type"] == "message"
    running.process.send_signal(signal.SIGTERM)
    assert running.ended() == 0


def test_a_second_signal_ends_workers_at_once(start: Start, file: Path) -> None:
    running = start("--port", "0", "--workers", "2")
    url = running.url()
    connection = connected(url)
    answer = post(connection, model="claude-slow", stream=True, max_tokens=1000)
    answer.readline()

    running.process.send_signal(signal.SIGTERM)
    until(lambda: get(url, "/ready")[0] == 503)
    at = time.monotonic()
    running.process.send_signal(signal.SIGTERM)

    assert running.ended() == 0
    assert time.monotonic() - at < 5
    connection.close()


def test_workers_that_are_told_to_end_are_replaced_at_once_and_break_no_stream(
    start: Start, file: Path, tmp_path: Path
) -> None:
    running = start("--port", "0", "--workers", "2")
    url = running.url()
    until_all_serve(url, tmp_path)
    old = children(running)
    connection = connected(url)
    answer = post(connection, model="claude-slow", stream=True, max_tokens=250)
    answer.readline()

    for pid in old:
        os.kill(pid, signal.SIGTERM)
    until(lambda: len([pid for pid in children(running) if pid not in old]) == 2)
    assert ask(url)["type"] == "message", "it waits until a new one serves"
    assert {line["reason"] for line in until(lambda: log(tmp_path, "worker_ended")[1:])} == {"signal"}
    assert b"message_stop" in answer.read()
    connection.close()
    until(lambda: not set(old) & set(children(running)))
    running.process.send_signal(signal.SIGTERM)
    assert running.ended() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_balancer_takes_over_where_the_port_may_be_shared(start: Start, file: Path, workers: str) -> None:
    file.write_text(FILE.replace("settings: {", "settings: {reuse_port: true, "))
    first = start("--port", "0", "--workers", workers)
    url = first.url()
    load = Load(url)

    async def take_over() -> None:
        second = await asyncio.to_thread(start, "--port", url.rpartition(":")[2], "--workers", workers)
        await asyncio.to_thread(second.url)
        first.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(1)

    _, streams = asyncio.run(load.during(take_over, streams=20, tokens=30, least=200))
    assert load.answers.keys() == {"200"}
    assert streams == {True: 20}
    assert first.ended() == 0
    assert ask(url)["type"] == "message"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_requests_are_served_while_a_load_balancer_learns_that_it_drains(
    start: Start, file: Path, workers: str
) -> None:
    file.write_text(FILE.replace("settings: {", "settings: {drain_delay_s: 3, "))
    running = start("--port", "0", "--workers", workers)
    url = running.url()

    running.process.send_signal(signal.SIGTERM)
    until(lambda: get(url, "/ready")[0] == 503)
    for _ in range(10):
        assert ask(url)["type"] == "message"
    assert running.ended() == 0
