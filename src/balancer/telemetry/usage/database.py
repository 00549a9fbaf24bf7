"""Where the ledger is kept: an SQLite file, or PostgreSQL by SQLAlchemy. The SQL is the same for both.

Calls block; they are made in threads of their own. Values go by name (`:name`), which both understand.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

Row = Sequence[Any]
Values = Mapping[str, Any]

BUSY_S = 5.0
"""How long a write waits for another process's."""

AGAIN_S = 0.02


class Database(Protocol):
    """What the ledger needs of a database. Errors are `OSError`: the database's own are turned into it."""

    def run(self, statements: Iterable[tuple[str, Sequence[Values]]]) -> None:
        """Run statements, each with its rows of values, in one transaction; no values: once."""
        ...

    def insert(self, table: str, names: Sequence[str], rows: Sequence[Row]) -> None:
        """Insert rows, whose values are in the order of `names`, in one transaction; those that are there stay."""
        ...

    def rows(self, statement: str, values: Values) -> list[Row]:
        """Return what a query gives."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Sqlite:
    """An SQLite file, readable by its owner alone. Several processes may write to it.

    A transaction takes the lock for writing when it begins: only there SQLite waits for other processes. One that read
    first, and then wants to write, is refused at once.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
            self._connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
            self._write_ahead()
            # Whole after a crash of the process; a power cut may lose the last rows.
            self._connection.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error as error:
            raise OSError(f"{path}: {error}") from None
        self._lock = threading.Lock()
        """One connection serves the thread that writes and those that ask."""

    def _write_ahead(self) -> None:
        """Have readers and a writer not wait for each other. SQLite itself does not wait for others who do so, too."""
        until = time.monotonic() + BUSY_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() >= until:
                    raise
                time.sleep(AGAIN_S)

    def run(self, statements: Iterable[tuple[str, Sequence[Values]]]) -> None:
        self._transaction([(statement, values or ({},)) for statement, values in statements])

    def insert(self, table: str, names: Sequence[str], rows: Sequence[Row]) -> None:
        # By place: by name takes half as long again.
        self._transaction([(_insertion(table, names, ("?" for _ in names)), rows)])

    def _transaction(self, statements: Sequence[tuple[str, Any]]) -> None:
        connection = self._connection
        try:
            with self._lock, connection:
                connection.execute("BEGIN IMMEDIATE")
                for statement, values in statements:
                    connection.executemany(statement, values)
        except sqlite3.Error as error:
            raise OSError(str(error)) from None

    def rows(self, statement: str, values: Values) -> list[Row]:
        try:
            with self._lock:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise OSError(str(error)) from None

    def close(self) -> None:
        self._connection.close()


class Sqlalchemy:
    """A database that SQLAlchemy reaches: `postgresql+psycopg://...`."""

    def __init__(self, url: str) -> None:
        try:
            sqlalchemy: Any = importlib.import_module("sqlalchemy")  # an extra: only who uses it needs it
        except ImportError:
            raise OSError("settings.usage names a database: install balancer[postgres]") from None
        self._sql = sqlalchemy
        try:
            self._engine = sqlalchemy.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 5})
        except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
            raise OSError(_without_url(error)) from None

    def run(self, statements: Iterable[tuple[str, Sequence[Values]]]) -> None:
        try:
            with self._engine.begin() as connection:
                for statement, values in statements:
                    connection.execute(self._sql.text(statement), [dict(row) for row in values] or None)
        except self._sql.exc.SQLAlchemyError as error:
            raise OSError(_without_url(error)) from None

    def insert(self, table: str, names: Sequence[str], rows: Sequence[Row]) -> None:
        statement = _insertion(table, names, (f":{name}" for name in names))
        self.run([(statement, [dict(zip(names, row, strict=True)) for row in rows])])

    def rows(self, statement: str, values: Values) -> list[Row]:
        try:
            with self._engine.connect() as connection:
                return [tuple(row) for row in connection.execute(self._sql.text(statement), dict(values))]
        except self._sql.exc.SQLAlchemyError as error:
            raise OSError(_without_url(error)) from None

    def close(self) -> None:
        self._engine.dispose()


def _insertion(table: str, names: Sequence[str], values: Iterable[str]) -> str:
    columns, places = ", ".join(names), ", ".join(values)
    return f"INSERT INTO {table} ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING"  # noqa: S608 - our own names


def _without_url(error: Exception) -> str:
    """Return the kind of an error: its words may hold the password."""
    cause = getattr(error, "orig", None) or error
    return f"the database can't be used ({type(cause).__name__})"


def opened(where: str | Path) -> Database:
    """Open the ledger's database: a path is an SQLite file. Raises `OSError`."""
    return Sqlite(where) if isinstance(where, Path) else Sqlalchemy(where)
