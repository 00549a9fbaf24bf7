"""The databases of the ledger: errors are `OSError`, and never hold a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.telemetry.usage.database import Sqlalchemy, Sqlite, opened


def test_a_transaction_is_whole_or_not_at_all(tmp_path: Path) -> None:
    database = opened(tmp_path / "x.sqlite3")
    assert isinstance(database, Sqlite)
    database.run([("CREATE TABLE t (a INTEGER)", ())])
    with pytest.raises(OSError, match="no such table"):
        database.run([("INSERT INTO t VALUES (:a)", ({"a": 1}, {"a": 2})), ("INSERT INTO none VALUES (1)", ())])
    assert database.rows("SELECT a FROM t WHERE a > :least", {"least": 0}) == []
    database.close()


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite3").write_text("no database at all, but long enough to be looked at" * 40)
    with pytest.raises(OSError, match=r"x\.sqlite3"):
        opened(tmp_path / "x.sqlite3")


def test_what_is_missing_or_wrong_with_a_url_is_said_without_its_password() -> None:
    with pytest.raises(OSError, match=r"balancer\[postgres\]|can't be used") as wrong:
        Sqlalchemy("nonsense+psycopg://user:secret-word@host/x")
    assert "secret-word" not in str(wrong.value)
