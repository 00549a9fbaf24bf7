"""Leases: what only one worker of a machine may have at a time."""

from __future__ import annotations

import os
import signal

import pytest
from sharing.tables import process, said, tables

from balancer.sharing.memory import Memory, made
from balancer.sharing.table import Table, ended

ASK = "print('ready', flush=True); input()\n"


def test_only_one_worker_has_a_lease() -> None:
    with tables(2) as (one, other):
        assert one.lease("probe p0", 60)
        assert not other.lease("probe p0", 60)
        assert other.leased("probe p0")
        assert not one.leased("probe p0")
        assert one.lease("probe p0", 60), "whoever has it may take it again"

        other.release("probe p0")
        assert other.leased("probe p0"), "another's lease is not given back"
        one.release("probe p0")

        assert not other.leased("probe p0")
        assert other.lease("probe p0", 60)


def test_a_lease_ends_by_its_time() -> None:
    with tables(2) as (one, other):
        assert one.lease("probe p0", -1)

        assert not other.leased("probe p0")
        assert other.lease("probe p0", 60)


def test_a_lease_ends_with_its_worker() -> None:
    with tables(2) as (one, other):
        assert one.lease("probe p0", 60)

        ended(other.memory, 0)

        assert not other.leased("probe p0")


@pytest.mark.live
def test_one_of_four_processes_gets_the_lease() -> None:
    fd = made(4)
    try:
        script = ASK + "print(table.lease('probe p0', 60), flush=True); time.sleep(0.5)"
        told = said([process(fd, worker, script) for worker in range(4)])
    finally:
        os.close(fd)

    assert sorted(told) == ["False", "False", "False", "True"]


@pytest.mark.live
def test_the_lease_of_a_process_that_was_killed_is_free() -> None:
    fd = made(2)
    try:
        one = process(fd, 0, "print(table.lease('probe p0', 60), flush=True); input()")
        assert one.stdout is not None
        assert one.stdout.readline() == "True\n"
        other = Table(Memory(fd), 1)
        assert other.leased("probe p0")

        one.send_signal(signal.SIGKILL)
        one.wait()

        assert not other.leased("probe p0")
        assert other.lease("probe p0", 60)
        one.communicate()
    finally:
        os.close(fd)
