"""The ledger: every finished request is a row, written in batches by a thread.

A kill of the process loses at most the last second: rows wait for `FLUSH_S`, and then are written in one transaction.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from balancer.events import Event, RequestEnded
from balancer.policy.prices import Price, Prices
from balancer.telemetry.background import BackgroundWriter, WriterLimits
from balancer.telemetry.usage.database import Database, opened

FLUSH_S = 0.5
FORGET_EVERY_S = 3600.0
RETRY_S = 5.0
"""How long a database that failed is left alone. Rows of that time wait."""

WAITING_MAX = 20_000
"""So many rows wait for a database that failed; of more the oldest are lost, and counted."""

VERSION = 1

_COLUMNS = {
    "id": "TEXT PRIMARY KEY",
    "ended": "DOUBLE PRECISION NOT NULL",
    "day": "TEXT NOT NULL",
    "operation": "TEXT NOT NULL",
    "model": "TEXT NOT NULL",
    "provider": "TEXT NOT NULL",
    "provider_model": "TEXT NOT NULL",
    "route": "TEXT NOT NULL",
    "client": "TEXT NOT NULL",
    "key_name": "TEXT NOT NULL",
    "session": "TEXT NOT NULL",
    "project": "TEXT NOT NULL",
    "stream": "INTEGER NOT NULL",
    "status": "INTEGER NOT NULL",
    "outcome": "TEXT NOT NULL",
    "dedup": "TEXT NOT NULL",
    "attempts": "TEXT NOT NULL",
    "duration_s": "DOUBLE PRECISION NOT NULL",
    "first_token_s": "DOUBLE PRECISION",
    "queued_s": "DOUBLE PRECISION NOT NULL",
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "cache_read_tokens": "BIGINT",
    "cache_write_5m_tokens": "BIGINT",
    "cache_write_1h_tokens": "BIGINT",
    "cost_usd": "DOUBLE PRECISION",
}
"""Of the table `requests`. `day` is in this machine's zone, `attempts` is JSON; no cost: the price is not known."""

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        f"CREATE TABLE IF NOT EXISTS requests ({', '.join(f'{name} {kind}' for name, kind in _COLUMNS.items())})",
        "CREATE INDEX IF NOT EXISTS requests_ended ON requests (ended)",
    ),
)
"""What makes each version of the tables out of the one before. Never change one that was released: add another."""

COLUMNS = tuple(_COLUMNS)

_JSON = msgspec.json.Encoder()


def migrate(database: Database) -> None:
    """Bring the tables up to date. Raises `OSError`, also where a newer balancer has made them.

    Several processes may do so at once: each step begins by writing down its number, which only one of them can.
    """
    with suppress(OSError):  # another process may be making it: then there is something to read
        database.run([("CREATE TABLE IF NOT EXISTS ledger_version (version INTEGER PRIMARY KEY)", ())])
    while (version := _version(database)) < len(_MIGRATIONS):
        number = ("INSERT INTO ledger_version (version) VALUES (:version)", ({"version": version + 1},))
        try:
            database.run([number, *((statement, ()) for statement in _MIGRATIONS[version])])
        except OSError:
            if _version(database) == version:  # else another process has taken this step
                raise
    if version > len(_MIGRATIONS):
        raise OSError(f"the ledger has version {version}; this balancer knows {len(_MIGRATIONS)}: start the newer one")


def _version(database: Database) -> int:
    found = database.rows("SELECT MAX(version) FROM ledger_version", {})
    return int(found[0][0] or 0) if found else 0


def row(event: RequestEnded, price: Price | None, factor: float) -> dict[str, Any]:
    """Return a finished request as a row, in the order of `COLUMNS`. `factor`: its provider's multiple of the price."""
    usage = event.usage
    hour = usage.cache_creation_1h_tokens or None
    created = usage.cache_creation_tokens
    reported = usage.input_tokens is not None or usage.output_tokens is not None
    follows = event.dedup == "follower"  # the leader's answer was paid for once
    cost = None if price is None else price.cost_usd(usage) * factor
    return {
        "id": event.id,
        "ended": event.wall,
        "day": _day(int(event.wall // 60)),
        "operation": event.operation,
        "model": event.model,
        "provider": event.provider,
        "provider_model": event.provider_model,
        "route": event.route,
        "client": event.client,
        "key_name": event.key,
        "session": event.session,
        "project": event.project,
        "stream": int(event.stream),
        "status": event.status,
        "outcome": event.outcome,
        "dedup": event.dedup,
        "attempts": _JSON.encode(event.attempts).decode(),
        "duration_s": event.duration_s,
        "first_token_s": event.first_content_s,
        "queued_s": event.queued_s,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_5m_tokens": created if hour is None or created is None else max(0, created - hour),
        "cache_write_1h_tokens": hour,
        "cost_usd": 0.0 if follows or not reported else cost,
    }


@lru_cache(maxsize=8)
def _day(minute: int) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(minute * 60))


class Ledger:
    """A listener that writes every finished request to the ledger. Trouble with it stops nothing else."""

    KINDS: tuple[type[Event], ...] = (RequestEnded,)

    def __init__(
        self,
        where: Path | str,
        wall: Callable[[], float],
        now: Callable[[], float],
        flush_s: float = FLUSH_S,
    ) -> None:
        self.lost = 0
        """How many finished requests could not be written."""
        self._unwritten: deque[tuple[Any, ...]] = deque()
        """Rows that wait for the database; only the thread that writes touches them, and `close` after it."""
        self._where = where
        self._wall, self._now = wall, now
        self._database: Database | None = None
        self._opening = threading.Lock()
        """The thread that writes and those that ask must not both open it."""
        self._prices = Prices()
        self._factors: dict[str, float] = {}
        self._keep_s = 0.0
        self._forget_at = 0.0
        self._retry_at = 0.0
        self._failure = ""
        limits = WriterLimits(flush_every_s=flush_s)
        self._writer: BackgroundWriter[RequestEnded] = BackgroundWriter("ledger", self._write, lambda _: None, limits)

    def apply(self, prices: Sequence[Mapping[str, Price]], factors: dict[str, float], keep_days: int) -> None:
        """Use these prices from now on, what each provider charges as a multiple, and this retention."""
        self._prices, self._factors, self._keep_s = Prices(*prices), factors, keep_days * 86400.0

    def take(self, event: Event) -> None:
        """Write a finished request soon. Returns at once."""
        if isinstance(event, RequestEnded) and event.operation != "models":
            self._writer.put(event)

    def rows(self, statement: str, values: dict[str, Any]) -> list[Any]:
        """Return what a query gives; blocks. Raises `OSError`."""
        return list(self._opened().rows(statement, values))

    def close(self) -> None:
        """Write what is waiting and close the database."""
        self._writer.close()
        if self._unwritten:
            self._store()
            self.lost += len(self._unwritten)
        if self._database is not None:
            self._database.close()

    def _opened(self) -> Database:
        with self._opening:
            if self._database is None:
                database = opened(self._where)
                try:
                    migrate(database)
                except OSError:
                    database.close()
                    raise
                self._database = database
            return self._database

    def _write(self, batch: list[RequestEnded], dropped: int) -> None:
        self.lost += dropped
        prices, factors, unwritten = self._prices, self._factors, self._unwritten
        for event in batch:
            price = prices.of(event.provider_model or event.model)
            unwritten.append(tuple(row(event, price, factors.get(event.provider, 1.0)).values()))
        while len(unwritten) > WAITING_MAX:
            unwritten.popleft()
            self.lost += 1
        if self._now() >= self._retry_at:
            self._store()

    def _store(self) -> None:
        """Write the rows that wait, and forget those that are too old."""
        try:
            database = self._opened()
            database.insert("requests", COLUMNS, list(self._unwritten))
            self._unwritten.clear()
            if self._now() >= self._forget_at and self._keep_s:
                self._forget_at = self._now() + FORGET_EVERY_S
                oldest = {"before": self._wall() - self._keep_s}
                database.run([("DELETE FROM requests WHERE ended < :before", (oldest,))])
        except OSError as error:
            self._retry_at = self._now() + RETRY_S
            self._tell(f"the ledger can't be written ({error}); serving goes on, and usage waits for it")
            self._failure = str(error)
            return
        if self._failure:
            self._failure = ""
            self._tell(f"the ledger can be written again; {self.lost or 'no'} requests are missing in it")

    def _tell(self, message: str) -> None:
        if not self._failure or "again" in message:
            try:
                print(f"balancer: {message}", file=sys.stderr, flush=True)
            except (OSError, ValueError):
                return  # stderr is closed: there is no other place to report to


def place(usage: str | None, log_file: str | None) -> Path | str | None:
    """Return where the ledger is kept, by `settings.usage` and `settings.log_file`; None: nowhere."""
    if usage == "off" or (usage is None and not log_file):
        return None
    if usage is not None:
        return usage
    return Path(log_file or "").with_name("usage.sqlite3")
