"""The log file, the terminal and the libraries' loggers, together."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from balancer.telemetry.background import WriterLimits
from balancer.telemetry.levels import Level
from balancer.telemetry.logs import Logs

from .conftest import ended


@dataclass
class Settings:
    log_file: str | None
    log_level: str = "INFO"
    log_color: bool = False


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "logs.jsonl"


@pytest.fixture
def logs(path: Path) -> Iterator[Logs]:
    logs = Logs(Settings(str(path)))
    yield logs
    logs.close()


def events_in(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_is_in_the_file_and_on_the_terminal(
    logs: Logs, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.take(ended())
    logs.close()

    assert [line["event"] for line in events_in(path)] == ["request_ended"]
    assert "after a 529" in capsys.readouterr().out


def test_what_libraries_say_is_written_down_without_the_words_of_errors(logs: Logs, path: Path) -> None:
    """An error's words may hold an address with a password, or a header."""
    try:
        secret = "sk-ant-secret"
        raise ValueError(secret)
    except ValueError:
        logging.getLogger("library").exception("it failed")
    logs.close()

    [line] = events_in(path)
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "library", "it failed")
    assert "ValueError" in str(line["traceback"])
    assert "sk-ant-secret" not in path.read_text()


def test_streams_that_are_broken_on_purpose_are_not_said_twice(logs: Logs, path: Path) -> None:
    logging.getLogger("uvicorn.error").error("ASGI callable returned without completing response.")
    logging.getLogger("uvicorn.error").error("something else")
    logs.close()

    assert [line["message"] for line in events_in(path)] == ["something else"]


def test_a_closed_log_no_longer_listens(logs: Logs, path: Path) -> None:
    logs.close()

    assert not [h for h in logging.getLogger().handlers if type(h).__name__ == "Records"]


def test_a_reload_may_change_the_level(logs: Logs, path: Path) -> None:
    logs.apply(Settings(str(path), log_level="ERROR"))

    logs.take(ended())
    logs.take(ended(outcome="failed"))
    logs.close()

    assert [line["level"] for line in events_in(path)] == ["ERROR"]
    assert logs.console.level is Level.ERROR


@pytest.mark.parametrize(("before", "after", "kept"), [("INFO", "ERROR", ["early"]), ("ERROR", "INFO", ["late"])])
def test_a_changed_level_is_for_what_comes_after_it(
    path: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, kept: list[str]
) -> None:
    """That the configuration was changed is logged by the old one's level."""
    logs = Logs(Settings(str(path), before))
    logs.take(ended(model="early"))
    logs.apply(Settings(str(path), after))
    logs.take(ended(model="late"))
    logs.close()

    assert [line["model"] for line in events_in(path)] == kept
    shown = capsys.readouterr().out
    assert [word for word in ("early", "late") if word in shown] == kept


@pytest.mark.parametrize("max_waiting", [0, 1])
def test_a_changed_level_is_not_lost_however_much_is_waiting(path: Path, max_waiting: int) -> None:
    logs = Logs(Settings(str(path)), WriterLimits(max_waiting=max_waiting, flush_every_s=60))
    for _ in range(5):
        logs.take(ended())
    logs.apply(Settings(str(path), "ERROR"))
    logs.close()

    assert logs.file is not None
    assert (logs.file.level, logs.console.level) == (Level.ERROR, Level.ERROR)


def test_without_a_file_there_is_only_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logs = Logs(Settings(None))

    logs.take(ended())
    logs.close()

    assert "claude-x" in capsys.readouterr().out


def test_entries_that_are_not_taken_in_time_are_counted_in_the_file_and_on_the_terminal(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = Logs(Settings(str(path)), WriterLimits(max_waiting=1, flush_every_s=60))
    for _ in range(9):
        logs.take(ended())
    logs.close()

    gap, *kept = events_in(path)
    lacking = int(str(gap["message"]).split()[0])
    assert [line["event"] for line in kept] == ["request_ended"] * (9 - lacking)
    assert lacking in (7, 8), "one waits; one more may have been taken from the queue meanwhile"
    assert f"{lacking} lines are not shown" in capsys.readouterr().out
