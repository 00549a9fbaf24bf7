"""The ledger: what a row says, that nothing is lost but what it counts, and that its trouble is nobody else's."""

from __future__ import annotations

import sqlite3
import stat
import time
from pathlib import Path

import pytest

from balancer.events import Attempt, RequestEnded
from balancer.model import Usage
from balancer.policy.prices import Price
from balancer.telemetry.usage import ledger as keeping
from balancer.telemetry.usage.database import Sqlite
from balancer.telemetry.usage.ledger import COLUMNS, VERSION, Ledger, migrate, place, row

PRICE = Price(3, 15)


def ended(number: int = 1, wall: float = 1.8e9, **fields: object) -> RequestEnded:
    known: dict[str, object] = {
        "id": f"req_{number}",
        "wall": wall,
        "operation": "messages",
        "model": "claude-sonnet-4-5",
        "stream": True,
        "status": 200,
        "outcome": "ok",
        "duration_s": 1.5,
        "provider": "a",
        "provider_model": "claude-sonnet-4-5",
        "usage": Usage(1000, 100, 500, 300),
        "attempts": (Attempt("a", "m", "completed", "stream", 1.4),),
        "session": "s1",
        "project": "acme",
        "client": "0123",
        "key": "team",
        "route": "*sonnet*",
    }
    return RequestEnded(**{**known, **fields})  # type: ignore[arg-type]


class Clock:
    at_s = 100.0

    def now(self) -> float:
        return self.at_s


def ledger(folder: Path, clock: Clock | None = None, wall: float = 1.8e9, keep_days: int = 400) -> Ledger:
    made = Ledger(folder / "logs" / "usage.sqlite3", lambda: wall, (clock or Clock()).now, flush_s=0.0)
    made.apply([{"*sonnet*": PRICE}], {"a": 2.0}, keep_days)
    return made


def read(folder: Path, what: str = "*") -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / "logs" / "usage.sqlite3") as connection:
        return connection.execute(f"SELECT {what} FROM requests ORDER BY ended").fetchall()


def test_a_row_says_who_asked_what_was_used_and_what_it_cost(tmp_path: Path) -> None:
    kept = ledger(tmp_path)
    kept.take(ended())
    kept.close()

    assert read(tmp_path, "id, model, provider, route, key_name, client, session, project, outcome, stream") == [
        ("req_1", "claude-sonnet-4-5", "a", "*sonnet*", "team", "0123", "s1", "acme", "ok", 1)
    ]
    ((cost, five, hour, attempts),) = read(tmp_path, "cost_usd, cache_write_5m_tokens, cache_write_1h_tokens, attempts")
    assert cost == pytest.approx(2.0 * (1000 * 3 + 100 * 15 + 500 * 0.3 + 300 * 3.75) / 1e6)
    assert (five, hour) == (300, None)
    assert '"outcome":"completed"' in str(attempts)
    assert stat.S_IMODE((tmp_path / "logs" / "usage.sqlite3").stat().st_mode) == 0o600


def test_a_row_has_the_order_of_the_columns() -> None:
    assert tuple(row(ended(), PRICE, 1.0)) == COLUMNS


def test_the_two_caches_are_told_apart() -> None:
    told = row(ended(usage=Usage(0, 0, 0, 300, cache_creation_1h_tokens=200)), PRICE, 1.0)
    assert (told["cache_write_5m_tokens"], told["cache_write_1h_tokens"]) == (100, 200)
    assert told["cost_usd"] == pytest.approx((100 * 3.75 + 200 * 6) / 1e6)


@pytest.mark.parametrize(
    ("event", "price", "cost"),
    [
        (ended(), None, None),
        (ended(dedup="follower"), PRICE, 0.0),
        (ended(usage=Usage(), outcome="failed"), PRICE, 0.0),
        (ended(usage=Usage(), outcome="failed"), None, 0.0),
    ],
)
def test_what_nobody_charges_for_costs_nothing_and_an_unknown_price_is_none(
    event: RequestEnded, price: Price | None, cost: float | None
) -> None:
    assert row(event, price, 1.0)["cost_usd"] == cost


def test_a_request_is_counted_once(tmp_path: Path) -> None:
    kept = ledger(tmp_path)
    for _ in range(3):
        kept.take(ended())
    kept.close()
    assert len(read(tmp_path)) == 1


def test_rows_survive_a_start_and_several_processes_write_to_one_file(tmp_path: Path) -> None:
    first, second = ledger(tmp_path), ledger(tmp_path)
    for number in range(50):
        (first, second)[number % 2].take(ended(number))
    first.close()
    second.close()
    third = ledger(tmp_path)
    third.take(ended(99))
    third.close()
    assert len(read(tmp_path)) == 51


def test_old_rows_are_forgotten(tmp_path: Path) -> None:
    now = 1.8e9
    kept = ledger(tmp_path, wall=now, keep_days=10)
    for number, days in enumerate((11, 9, 0)):
        kept.take(ended(number, wall=now - days * 86400))
        kept.rows("SELECT 1", {})
    kept.close()
    assert read(tmp_path, "id") == [("req_1",), ("req_2",)]


def test_rows_wait_for_a_ledger_that_cant_be_written_which_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    (tmp_path / "logs").write_text("no folder")
    kept = ledger(tmp_path, clock)
    for number in (1, 2):
        kept.take(ended(number))
        _until(lambda: len(kept._unwritten) == number)  # noqa: B023
    (tmp_path / "logs").unlink()
    clock.at_s += 60
    kept.take(ended(3))
    kept.close()

    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2, told
    assert "can't be written" in told[0]
    assert "no requests are missing" in told[1]
    assert len(read(tmp_path)) == 3
    assert kept.lost == 0


def test_what_can_not_wait_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "WAITING_MAX", 2)
    (tmp_path / "logs").write_text("no folder")
    kept = ledger(tmp_path)
    for number in range(5):
        kept.take(ended(number))
    kept.close()
    assert kept.lost == 5, "three too many, and two that the end has found waiting"


def test_workers_that_start_at_once_lose_nothing(tmp_path: Path) -> None:
    for attempt in range(12):
        folder = tmp_path / str(attempt)
        all_of_them = [ledger(folder) for _ in range(4)]
        for number in range(40):
            all_of_them[number % 4].take(ended(number))
        for one in all_of_them:
            one.close()
        assert len(read(folder)) == 40


def test_the_file_is_no_link_to_another(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "usage.sqlite3").symlink_to(tmp_path / "other")
    kept = ledger(tmp_path)
    kept.take(ended())
    kept.close()
    assert kept.lost == 1
    assert not (tmp_path / "other").exists()


def test_a_newer_ledger_is_left_alone(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "usage.sqlite3")
    migrate(database)
    migrate(database)
    assert database.rows("SELECT version FROM ledger_version", {}) == [(VERSION,)]
    database.run([("UPDATE ledger_version SET version = 99", ())])
    with pytest.raises(OSError, match="version 99"):
        migrate(database)
    database.close()


@pytest.mark.parametrize(
    ("usage", "log_file", "expected"),
    [
        (None, "logs/logs.jsonl", Path("logs/usage.sqlite3")),
        (None, None, None),
        ("off", "logs/logs.jsonl", None),
        ("postgresql+psycopg://x", None, "postgresql+psycopg://x"),
    ],
)
def test_where_it_is_kept(usage: str | None, log_file: str | None, expected: object) -> None:
    assert place(usage, log_file) == expected


def _until(holds: object, within_s: float = 10.0) -> None:
    ends = time.monotonic() + within_s
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < ends
        time.sleep(0.01)
