"""The lines of logs.jsonl."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from balancer.events import CooldownStarted, ProviderRecovered, Reloaded, RequestBegan, RequestEnded
from balancer.telemetry.jsonlines import JsonLines, line
from balancer.telemetry.levels import Level, LogLine

from .conftest import ended


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_a_line_holds_all_of_a_request(request_ended: RequestEnded) -> None:
    logged = json.loads(line(request_ended))

    assert list(logged)[:4] == ["time", "level", "event", "id"]
    assert logged["time"] == "2027-01-15T08:00:00.125Z"
    assert (logged["level"], logged["event"], logged["status"]) == ("INFO", "request_ended", 200)
    assert [(a["provider"], a["outcome"], a.get("reason")) for a in logged["attempts"]] == [
        ("a", "refused", "529 overloaded_error"),
        ("b", "completed", None),
    ]
    assert logged["usage"]["input_tokens"] == 100
    assert logged["first_substance_s"] == 0.42
    assert logged["duration_s"] == 3.25


def test_a_request_gives_a_line_when_it_begins_and_one_when_it_ends(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "logs" / "logs.jsonl")

    log(RequestBegan("req_1", 1.0, "messages", "claude-x", True, 400))
    log(ended(id="req_1"))
    log.close()

    assert [(logged["event"], logged["id"]) for logged in lines(tmp_path / "logs" / "logs.jsonl")] == [
        ("request_began", "req_1"),
        ("request_ended", "req_1"),
    ]


def test_log_level_keeps_out_what_matters_less(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "l", Level.WARNING)

    log(ended())
    log(ended(outcome="failed"))
    log(ProviderRecovered(1.0, "a"))
    log(CooldownStarted(1.0, "a", 60.0, "529", 1))
    log(CooldownStarted(1.0, "a", 600.0, "401", 1, needs_operator=True))
    log(Reloaded(1.0, 2))
    log.close()

    assert [logged["level"] for logged in lines(tmp_path / "l")] == ["ERROR", "WARNING", "ERROR"]


@pytest.mark.parametrize(
    "nasty",
    [
        "\x1b[31mred\x1b[0m",
        "\x9b31m",
        "\x7f",
        "\u202eback",
        "\u2066over\u2069",
        "\u200f",
        "\u061c",
        "line\nbreak",
        "\u2028",
        "\x00",
    ],
)
def test_no_terminal_obeys_what_a_client_wrote(nasty: str) -> None:
    written = line(ended(model=f"claude{nasty}")).decode()

    assert written.endswith("\n")
    assert written[:-1].isprintable()
    assert json.loads(written)["model"] == f"claude{nasty}"


def test_ordinary_letters_stay_readable() -> None:
    assert "modèle-日本€" in line(ended(model="modèle-日本€")).decode()


def test_a_log_that_cant_be_written_is_reported_once_and_written_again_as_soon_as_it_can_be(tmp_path: Path) -> None:
    blocker = tmp_path / "logs"
    blocker.write_text("not a folder")
    stderr = Stderr()
    log = JsonLines(blocker / "logs.jsonl", stderr=stderr)

    log(ended(id="lost"))
    assert stderr.reported.wait(2)
    log(ended(id="lost too"))
    blocker.unlink()
    log(ended(id="kept"))
    log.close()

    assert stderr.getvalue().count("can't be written") == 1
    assert lines(blocker / "logs.jsonl")[-1]["id"] == "kept"
    assert "can be written again" in stderr.getvalue()


def test_lines_that_are_lost_are_counted_and_told_of_when_there_is_room_again(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.symlink_to("/dev")  # a link in the place of the file itself would be refused
    stderr, short = Stderr(), threading.Event()
    log = JsonLines(folder / "full", stderr=stderr)
    log.on_shortage = lambda kind: short.set() if kind == "disk" else None
    for _ in range(3):
        log(ended(id="lost"))
    assert short.wait(2)
    assert stderr.reported.wait(2)
    assert log.lost == 3

    folder.unlink()
    log(ended(id="kept"))
    log.close()

    told, kept = lines(folder / "full")
    assert (told["event"], told["level"], kept["id"]) == ("said", "ERROR", "kept")
    assert told["message"] == "3 lines before this one were not written: No space left on device"
    assert "3 lines before this one" in stderr.getvalue()
    assert log.lost == 3


class Stderr(io.StringIO):
    """A stderr that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.reported = threading.Event()

    def flush(self) -> None:
        self.reported.set()


@pytest.mark.parametrize(
    ("wall", "time"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (0.9999, "1970-01-01T00:00:00.999Z"),
        (1.9999, "1970-01-01T00:00:01.999Z"),
        (1_764_078_894.123, "2025-11-25T13:54:54.123Z"),
        (1_764_078_894.001, "2025-11-25T13:54:54.001Z"),
        (1_764_078_894.999, "2025-11-25T13:54:54.999Z"),
    ],
)
def test_a_date_has_the_milliseconds_of_the_clock(wall: float, time: str) -> None:
    logged = json.loads(line(LogLine(wall, Level.INFO, "test", "hello")))

    assert (logged["time"], logged["wall"]) == (time, wall)
