"""The memory that the workers of a machine share."""

from __future__ import annotations

import os
import tempfile

import pytest

from balancer.sharing import layout
from balancer.sharing.memory import Memory, OtherVersion, made
from balancer.sharing.table import Table, ended


def test_hashes_are_keyed_and_the_same_for_all_who_share() -> None:
    one, another = made(2), made(2)
    try:
        assert Memory(one).hash_of("p0") == Memory(one).hash_of("p0") != Memory(another).hash_of("p0")
    finally:
        os.close(one)
        os.close(another)


def test_memory_of_another_version_is_refused() -> None:
    fd = made(2)
    try:
        Memory(fd).words[layout.H_VERSION] = layout.VERSION + 1

        with pytest.raises(OtherVersion):
            Memory(fd)
    finally:
        os.close(fd)


def test_what_is_no_memory_of_ours_is_refused() -> None:
    with tempfile.TemporaryFile() as file:
        with pytest.raises(OtherVersion):
            Memory(file.fileno())
        file.truncate(1 << 20)
        with pytest.raises(OtherVersion):
            Memory(file.fileno())


def test_memory_has_no_name_and_takes_up_only_what_was_written() -> None:
    fd = made(8)
    try:
        Memory(fd).words[layout.H_GENERATION] = 3

        assert Memory(fd).generation == 3
        assert os.fstat(fd).st_nlink == 0 or "memfd" in os.readlink(f"/proc/self/fd/{fd}")
        assert os.fstat(fd).st_blocks * 512 < 100_000 < os.fstat(fd).st_size
    finally:
        os.close(fd)


def test_the_number_of_workers_is_bounded() -> None:
    with pytest.raises(ValueError, match="from 1 to 160"):
        made(161)


def test_a_worker_that_looks_at_everything_takes_little_memory() -> None:
    fd = made(8, 18)
    try:
        table = Table(Memory(fd), 0)
        table.history()
        table.place("balancer").take_over()
        ended(table.memory, 1)

        assert os.fstat(fd).st_blocks * 512 < 2_000_000
    finally:
        os.close(fd)
