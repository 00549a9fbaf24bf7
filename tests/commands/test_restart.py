"""`balancer restart`, with a balancer that runs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from live.harness import free_port

from balancer.cli import main

from .conftest import ROOT, Start, ask, get

pytestmark = pytest.mark.live


def test_new_processes_serve_when_it_returns(
    start: Start, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = start("--port", "0")
    url = running.url()
    before_s = get(url, "/")[1]["uptime_s"]

    assert main(["restart", "--url", url]) == 0
    assert "new processes serve" in capsys.readouterr().out
    assert get(url, "/")[1]["uptime_s"] < before_s + 1
    assert ask(url)["type"] == "message"
    running.process.send_signal(signal.SIGTERM)
    assert running.ended() == 0


def test_what_another_program_has_started_cannot_be_restarted(
    start: Start, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "src.main:app", "--host", "127.0.0.1", "--port", str(port)]
    start(argv=argv, cwd=ROOT, BALANCER_CONFIG=str(config_file)).until("Uvicorn running on")

    assert main(["restart", "--url", f"http://127.0.0.1:{port}"]) == 1
    assert "not started by `balancer serve`" in capsys.readouterr().err
    assert main(["restart", "--url", "http://127.0.0.1:1"]) == 1
