"""Where the supervisor says what happens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from balancer.events import RequestEnded
from balancer.redact import Inventory
from balancer.supervisor.report import Report


def test_it_is_said_in_the_log_and_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(str(tmp_path / "log.jsonl"), "INFO")
    report.ended(2, 77, "hang", "signal 9 (SIGKILL)", 4.0)
    report.warn("look at it")
    report.say("all is well")
    report.close()

    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["worker_ended", "said", "said"]
    assert {k: lines[0][k] for k in ("worker", "pid", "reason", "how", "wait_s")} == {
        "worker": 2, "pid": 77, "reason": "hang", "how": "signal 9 (SIGKILL)", "wait_s": 4.0,
    }  # fmt: skip
    assert capsys.readouterr().err.splitlines() == [
        "balancer: worker 2 (pid 77) hung, and was killed: signal 9 (SIGKILL); a new one is started in 4 s",
        "balancer: look at it",
    ]


def test_without_a_log_file_stderr_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(None, "INFO")
    report.ended(1, 7, "start", "exit code 3", 0.0)
    report.close()

    assert "worker 1 (pid 7) did not start: exit code 3; a new one is started now" in capsys.readouterr().err


def test_a_secret_that_a_client_has_named_as_a_model_is_not_written_down(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    report = Report(str(path), "INFO", lambda: Inventory(["sk-of-a-provider-0123456789"]))

    report.tell(RequestEnded("r1", 1000.0, "messages", "sk-of-a-provider-0123456789", True, 0, "failed", 1.0))
    report.close()

    line = path.read_text()
    assert '"id":"r1"' in line
    assert "sk-of-a-provider" not in line
