"""What a supervisor makes for its workers, and gives back when they end."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sharing.tables import SOURCE, until

from balancer.sharing.machine import Machine
from balancer.sharing.protocol import Report
from balancer.sharing.worker import PLACE, NotShared, joined

WORKER = """
import asyncio, sys
from balancer.sharing.worker import joined
from balancer.sharing.protocol import Report
import os

async def main():
    sharing = joined(os.environ)
    sharing.report_with(lambda: Report({'requests': [5.0]}))
    await sharing.start()
    for _ in range(3):
        sharing.place('balancer').take_over()
    sharing.lease('probe', 60)
    sharing.tell('p0', b'rests')
    await sharing.collect(1.0)
    print('ready', flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@asynccontextmanager
async def machine_of(workers: int) -> AsyncIterator[Machine]:
    machine = Machine.create(workers)
    await machine.start()
    try:
        yield machine
    finally:
        await machine.close()


def _start(machine: Machine, number: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER],
        env={**os.environ, "PYTHONPATH": str(SOURCE), **machine.environment(number)},
        pass_fds=machine.descriptors(),
        stdout=subprocess.PIPE,
        text=True,
    )


async def _ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == "ready\n"


@pytest.mark.live
async def test_a_worker_that_is_killed_leaves_nothing_but_what_it_told_and_counted() -> None:
    async with machine_of(2) as machine:
        own = joined(machine.environment(1))
        assert own is not None
        await own.start()
        process = _start(machine, 2)
        await _ready(process)
        assert own.place("balancer").held() == 3
        assert own.leased("probe")
        assert (await own.collect(1.0)).reports.keys() == {1}

        process.kill()
        process.communicate()
        machine.worker_ended(2)

        assert own.place("balancer").held() == 0
        assert not own.leased("probe")
        assert [fact.name for fact in own.news()] == ["p0"]
        known = await own.collect(1.0)
        assert (known.reports, known.ended) == ({}, {"requests": [5.0]})
        await own.close()


@pytest.mark.live
async def test_while_workers_are_replaced_old_and_new_ones_have_columns_of_their_own() -> None:
    async with machine_of(1) as machine:
        old, new = _start(machine, 1), _start(machine, 1)
        await asyncio.gather(_ready(old), _ready(new))
        own = joined(machine.environment(1))
        assert own is not None
        assert own.place("balancer").held() == 6

        old.kill()
        old.communicate()
        machine.worker_ended(1)

        assert own.place("balancer").held() == 3
        new.kill()
        new.communicate()
        machine.worker_ended(1)
        assert own.place("balancer").held() == 0


async def test_workers_that_end_before_they_begin_use_nothing_up() -> None:
    async with machine_of(2) as machine:
        for _ in range(50):
            assert PLACE in machine.environment(1)
            machine.worker_ended(1)


async def test_what_is_shared_is_the_owners_alone_and_is_gone_afterwards() -> None:
    async with machine_of(2) as machine:
        path = Path(machine.environment(1)[PLACE].split(":", 3)[3])
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700

    assert not path.parent.exists()


async def test_counters_of_a_worker_that_ended_are_kept_over_many_workers() -> None:
    async with machine_of(1) as machine:
        for _ in range(3):
            sharing = joined(machine.environment(1))
            assert sharing is not None
            sharing.report_with(lambda: Report({"requests": [2.0]}))
            await sharing.start()
            await sharing.close()
            await until(lambda: machine.hub.reports)
            machine.hub.worker_ended(sharing.worker)

        assert machine.hub.ended == {"requests": [6.0]}


async def test_where_nothing_can_be_shared_workers_serve_alone_and_say_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    machine = Machine.create(2)
    await machine.start()

    assert machine.descriptors() == ()
    with pytest.raises(NotShared, match="share nothing"):
        joined(machine.environment(1))
    machine.worker_ended(1)
    await machine.close()
