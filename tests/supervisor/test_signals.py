"""Signals mean the same in every way of starting."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands.conftest import ROOT, Start, ask, connected, environment, get, post, start

from .processes import FILE, children, log, until

__all__ = ["start"]  # a fixture

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "providers.yaml"
    path.write_text(FILE)
    path.chmod(0o600)
    return path


def test_hangup_reads_the_file_and_breaks_no_stream_and_a_restart_is_done_once(start: Start, file: Path) -> None:
    running = start("--port", "0")
    url = running.url()
    connection = connected(url)
    answer = post(connection, model="claude-slow", stream=True, max_tokens=60)
    answer.readline()

    file.write_text(FILE.replace("quick", "another"))
    running.process.send_signal(signal.SIGHUP)
    until(lambda: get(url, "/providers")[1]["providers"][0]["name"] == "another")
    running.process.send_signal(signal.SIGUSR2)
    running.process.send_signal(signal.SIGUSR2)
    until(lambda: children(running))
    file.write_text(FILE.replace("quick", "third"))
    until(lambda: ask(url)["type"] and get(url, "/")[1]["uptime_s"] < 3)
    running.process.send_signal(signal.SIGHUP)
    until(lambda: get(url, "/providers")[1]["providers"][0]["name"] == "third")
    assert len(children(running)) == 1

    worker = children(running)[0]
    running.process.send_signal(signal.SIGTERM)
    assert b"message_stop" in answer.read(), "both of them let answers end"
    connection.close()
    assert running.ended() == 0
    assert not Path(f"/proc/{worker}").exists()
    assert running.err == []


def test_a_new_process_that_cannot_start_leaves_the_old_one_alone(start: Start, file: Path, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "sitecustomize.py").write_text(
        "import os\nif 'BALANCER_WORKER' in os.environ:\n    os._exit(7)\n"
    )
    running = start("--port", "0", PYTHONPATH=str(tmp_path / "code"))
    url = running.url()
    connection = connected(url)
    connection.request("POST", "/admin/restart", "{}", {"content-type": "application/json"})
    answer = connection.getresponse()
    told = json.load(answer)
    connection.close()

    assert answer.status == 503
    assert "the old processes go on" in told["error"]["message"]
    assert ask(url)["type"] == "message"
    running.process.send_signal(signal.SIGTERM)
    assert running.ended() == 0


@pytest.mark.parametrize("nohup", [False, True])
def test_a_terminal_that_is_closed_ends_it_unless_it_was_told_to_stay(file: Path, tmp_path: Path, nohup: bool) -> None:
    argv = [sys.executable, str(ROOT / "src" / "main.py"), "--port", "0"]
    code = "import os, signal, sys\n"
    code += "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" if nohup else ""
    code += "os.execv(sys.argv[1], sys.argv[1:])"
    ours, theirs = pty.openpty()
    name = os.ttyname(theirs)
    leader = f"import os, sys; os.setsid(); os.open({name!r}, os.O_RDWR); os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, "-c", leader, sys.executable, "-c", code, *argv]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = next(line for line in process.stdout if "ANTHROPIC_BASE_URL" in line).strip().partition("=")[2]
        os.close(theirs)
        os.close(ours)
        if nohup:
            until(lambda: ask(url)["type"] == "message")
            process.send_signal(signal.SIGHUP)
            until(lambda: log(tmp_path, "reloaded"))
            process.terminate()
        assert process.wait(20) == 0
