"""The ledger in a real PostgreSQL: rows, sums, a database that goes away and comes back."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import missing
from telemetry.usage.test_ledger import PRICE, ended

from balancer.telemetry.usage import sums
from balancer.telemetry.usage.ledger import Ledger

pytestmark = pytest.mark.live

WITHIN_S = 30.0


class Postgres:
    """A server of the test's own. PostgreSQL refuses to run as root, so there it runs as the user of its package."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        if self._as:
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        self._run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "balancer", "--no-sync")
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "balancer", "usage")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://balancer:secret-word@127.0.0.1:{self.port}/usage"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        log = self.folder / "log"
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-l", str(log), "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *args: str) -> None:
        command = [*self._as, str(self._programs / program), *args]
        # To a file: the server keeps the output of what started it.
        with (self.folder.parent / f"{self.folder.name}.out").open("ab") as out:
            subprocess.run(command, check=True, stdout=out, stderr=out, cwd="/", timeout=60)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    initdb = found[0] if found else shutil.which("initdb")
    if initdb is None:
        missing("PostgreSQL", "install your system's package postgresql")
    return Path(initdb).parent  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="balancer-") as outside:
        folder = Path(outside, "postgres")
        folder.mkdir()
        Path(outside).chmod(0o755)
        server = Postgres(programs, folder)
        yield server
        server.stop()


class Clock:
    at_s = 0.0

    def now(self) -> float:
        return self.at_s


def ledger(postgres: Postgres, clock: Clock | None = None) -> Ledger:
    made = Ledger(postgres.url, lambda: 1.8e9, (clock or Clock()).now, flush_s=0.0)
    made.apply([{"*sonnet*": PRICE}], {}, 400)
    return made


def _until(kept: Ledger, count: int) -> None:
    ends = time.monotonic() + WITHIN_S
    while kept.rows("SELECT COUNT(*) FROM requests WHERE id LIKE 'req_%'", {})[0][0] != count:
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_rows_are_written_and_summed(postgres: Postgres) -> None:
    first, second = ledger(postgres), ledger(postgres)
    for number in range(20):
        (first, second)[number % 2].take(ended(number))
        first.take(ended(number))  # the same request is counted once
    _until(first, 20)
    for by in sums.GROUPS:
        (group,) = sums.summed(first.rows(sums.statement(by), {"since": 0.0}))
        assert (group.requests, group.input_tokens, group.unpriced) == (20, 20_000, 0)
        assert group.cost_usd == pytest.approx(20 * (1000 * 3 + 100 * 15 + 500 * 0.3 + 300 * 3.75) / 1e6)
    first.close()
    second.close()


def test_a_database_that_goes_away_is_said_once_and_used_again(
    postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    kept = ledger(postgres, clock)
    before = int(kept.rows("SELECT COUNT(*) FROM requests", {})[0][0])
    postgres.stop()
    kept.take(ended(1000))
    ends = time.monotonic() + WITHIN_S
    while not kept._unwritten:
        assert time.monotonic() < ends
        time.sleep(0.05)
    postgres.start()
    clock.at_s += 60
    kept.take(ended(1001))
    _until(kept, before + 2)
    kept.close()
    told = capsys.readouterr().err
    assert told.count("can't be written") == 1
    assert "no requests are missing" in told
    assert "secret-word" not in told
