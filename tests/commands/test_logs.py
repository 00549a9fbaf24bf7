"""The log for people, as a command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from telemetry.conftest import ended

from balancer.cli import main
from balancer.commands import logs
from balancer.config import load
from balancer.events import Attempt, CooldownStarted, RequestBegan, RequestEnded
from balancer.telemetry.jsonlines import line
from balancer.telemetry.logfile import LogFile

from .conftest import ROOT, SIMULATED, Running, Start, ask, environment

NOW = time.time()


def well(number: int, ago_s: float = 0.0) -> RequestEnded:
    return ended(
        id=f"req_{number:08x}aaaa",
        wall=time.time() - ago_s,
        attempts=(Attempt("b", "claude-x", "completed", "stream", 1.0, 200),),
    )


def failed(number: int, ago_s: float = 0.0) -> RequestEnded:
    return ended(id=f"req_{number:08x}ffff", wall=time.time() - ago_s)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs.jsonl"


def write(path: Path, *entries: object) -> None:
    with path.open("ab") as file:
        for entry in entries:
            file.write(entry if isinstance(entry, bytes) else line(entry))  # type: ignore[arg-type]


def shown(path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> list[str]:
    assert main(["logs", "--file", str(path), *flags]) == 0
    return capsys.readouterr().out.splitlines()


def ids(lines: list[str]) -> list[int]:
    return [int(row.split()[-1], 16) for row in lines if not row.startswith("---")]


def test_the_last_requests_in_columns(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(path, *(well(number) for number in range(80)))

    lines = shown(path, capsys)
    assert ids(lines) == list(range(30, 80))
    assert len({row.index("ok  first token") for row in lines}) == 1
    assert ids(shown(path, capsys, "-n", "3")) == [77, 78, 79]
    assert shown(path, capsys, "-n", "0") == []


def test_a_beginning_is_told_by_its_end(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        path, RequestBegan("req_00000001", NOW, "messages", "m", True, 1), well(1), CooldownStarted(NOW, "a", 8, "x", 1)
    )

    first, second = shown(path, capsys)
    assert first.endswith("00000001")
    assert "a failed: x; cooldown 8.0 s" in second


def test_rotated_files_are_read_on(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(path.with_name("logs.jsonl.2"), well(1))
    write(path.with_name("logs.jsonl.1"), well(2), well(3))
    write(path, well(4))

    assert ids(shown(path, capsys)) == [1, 2, 3, 4]
    assert ids(shown(path, capsys, "--since", "1h")) == [1, 2, 3, 4]
    assert ids(shown(path, capsys, "-n", "2")) == [3, 4]


def test_only_those_that_failed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(path, well(1), failed(2), CooldownStarted(NOW, "a", 8, "x", 1), well(3), failed(4))

    assert ids(shown(path, capsys, "--failed")) == [2, 4]
    assert ids(shown(path, capsys, "--failed", "-n", "1")) == [4]


def test_since_a_time(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(path, *(well(number, 60 * (100 - number)) for number in range(100)))

    assert ids(shown(path, capsys, "--since", "10.5m")) == list(range(90, 100))
    assert ids(shown(path, capsys, "--since", "10.5m", "-n", "2")) == [98, 99]
    assert len(shown(path, capsys, "--since", "10h")) == 100, "all of them, not the last 50"


def test_another_day_is_named(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(path, well(1, 3 * 86_400), well(2, 3 * 86_400), well(3))

    lines = shown(path, capsys)
    days = [time.strftime("--- %Y-%m-%d", time.localtime(NOW - ago)) for ago in (3 * 86_400, 0)]
    assert [lines[0], lines[3]] == days
    assert ids(lines) == [1, 2, 3]


def test_broken_lines_are_counted_and_passed_over(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(path, well(1), b"\x1b[2Jhello\n", b"\n", b'{"event":"request_ended"}\n', well(2), line(well(3))[:50])

    assert main(["logs", "--file", str(path)]) == 0
    told = capsys.readouterr()
    assert ids(told.out.splitlines()) == [1, 2]
    assert told.err == f"balancer: 2 lines of {path} can't be read\n"


def test_one_request_by_the_beginning_of_its_id(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = RequestBegan("req_00000002ffff", time.time() - 3, "messages", "claude-x", True, 4096, "", "claude-cli/2")
    write(path.with_name("logs.jsonl.1"), well(1), began)
    write(path, *(well(number) for number in range(100, 200)), failed(2), well(3))

    for wanted in ("req_00000002ffff", "00000002", "req_00000002"):
        told = "\n".join(shown(path, capsys, wanted))
        assert "request    req_00000002ffff" in told
        assert "4,096 bytes" in told
        assert "1. a (claude-x)  0.05 s, refused in stage wait: 529 overloaded_error" in told


def test_a_request_that_is_not_there(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(path, well(1))

    assert main(["logs", "--file", str(path), "abc\x1b[2J"]) == 1
    assert main(["logs", "--file", str(path), "req_"]) == 1
    assert "has no request whose id begins with 'abc\\x1b[2J'" in capsys.readouterr().err


def test_of_several_the_newest_is_shown_and_the_others_are_named(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(path, well(0x11), well(0x12))

    assert main(["logs", "--file", str(path), "0000001"]) == 0
    told = capsys.readouterr()
    assert "request    req_00000012aaaa" in told.out
    assert "other ids begin so too: req_00000011aaaa" in told.err


def test_where_there_is_no_log(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["logs", "--file", str(path)]) == 1
    assert f"there is no log {path} yet" in capsys.readouterr().err

    assert main(["logs", "--file", str(tmp_path)]) == 1
    assert f"the log {tmp_path} can't be read" in capsys.readouterr().err

    file = tmp_path / "p.yaml"
    file.write_text(SIMULATED + "  log_file: null\n")
    assert main(["logs", "--config", str(file)]) == 1
    assert "settings.log_file is null" in capsys.readouterr().err

    assert main(["logs", "--config", "none.yaml"]) == 2


def test_the_log_is_found_where_the_balancer_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, state, beside = tmp_path / "here", tmp_path / "state", tmp_path / "beside"
    for folder in (here, beside):
        folder.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    (beside / "p.yaml").write_text(SIMULATED)
    config = load(beside / "p.yaml", {})
    assert logs.path_of(config) == Path("logs/logs.jsonl")

    for seconds, folder in enumerate((state / "balancer", beside, here)):
        (folder / "logs").mkdir(parents=True)
        (folder / "logs" / "logs.jsonl").write_text("")
        os.utime(folder / "logs" / "logs.jsonl", (1000 + seconds, 1000 + seconds))
        found = logs.path_of(config)
        assert found is not None
        assert found.absolute() == folder / "logs" / "logs.jsonl"


@pytest.fixture
def following(start: Start, path: Path) -> Iterator[Running]:
    write(path, well(1))
    running = start(
        argv=[sys.executable, "-m", "balancer.cli", "logs", "-f", "--file", str(path)], PYTHONPATH=str(ROOT / "src")
    )
    running.until("00000001")
    yield running
    running.process.send_signal(signal.SIGINT)
    assert running.ended() == 130
    assert running.err == []


@pytest.mark.live
def test_new_lines_are_followed_over_a_rotation(following: Running, path: Path) -> None:
    log = LogFile(path, max_bytes=len(line(well(1))) * 3)
    for number in range(2, 30):
        log.append(line(well(number)))
        following.until(f"{number:08x}")
    log.close()

    assert path.with_name("logs.jsonl.2").exists()
    assert ids(following.out) == list(range(1, 30))


@pytest.mark.live
def test_a_log_that_is_not_there_yet_is_waited_for(start: Start, path: Path) -> None:
    argv = [sys.executable, "-m", "balancer.cli", "logs", "-f", "--failed", "--file", str(path)]
    running = start(argv=argv, PYTHONPATH=str(ROOT / "src"))
    running.until("waiting for it")
    write(path, well(1), failed(2))

    assert running.until("00000002")
    running.process.send_signal(signal.SIGINT)
    assert running.ended() == 130
    assert ids(running.out) == [2]


@pytest.mark.live
@pytest.mark.parametrize("flags", [["-f"], ["--since", "1h"]])
def test_it_ends_quietly_when_its_reader_has_gone(path: Path, flags: list[str]) -> None:
    write(path, *(well(number) for number in range(2000)))
    command = [sys.executable, "-m", "balancer.cli", "logs", "--file", str(path), *flags]
    env = environment(PYTHONPATH=str(ROOT / "src"))
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()  # and nothing more is written to the log

        assert process.wait(20) == 0
        assert process.stderr.read() == b""


@pytest.mark.live
def test_what_a_balancer_writes_is_read(
    start: Start, config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config_file.parent)
    running = start("--port", "0")
    url = running.url()
    assert main(["drill", "quick", "--fault", "529", "--url", url]) == 0
    ask(url, max_tokens=5)
    running.until("after quick 529")
    capsys.readouterr()

    assert main(["logs", "--failed"]) == 0
    (row,) = capsys.readouterr().out.splitlines()
    assert re.search(r"claude-x +slow +ok  total .*  after quick 529( \(drill\))?  [0-9a-f]{8}$", row)
    assert main(["logs", row.split()[-1]]) == 0
    told = capsys.readouterr().out
    assert "1. quick (claude-x)" in told
    assert "529 overloaded_error" in told
    events = [json.loads(text)["event"] for text in Path("logs/logs.jsonl").read_text().splitlines()]
    assert "drilled" in events
