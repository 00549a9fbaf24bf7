"""The lines of a log and of its rotated files, in both directions, and as they come."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from balancer.commands import log_lines
from balancer.commands.log_lines import BLOCK_BYTES, MAX_LINE_BYTES, files, follow, newest_first, oldest_first
from balancer.telemetry.logfile import LogFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs.jsonl"


def test_rotated_files_count_and_others_do_not(path: Path) -> None:
    for name in (
        "logs.jsonl",
        "logs.jsonl.1",
        "logs.jsonl.10",
        "logs.jsonl.2",
        "logs.jsonl.gz",
        "logs.jsonl.1.gz",
        "x",
    ):
        (path.parent / name).write_text("")

    assert [file.name for file in files(path)] == ["logs.jsonl", "logs.jsonl.1", "logs.jsonl.2", "logs.jsonl.10"]
    assert files(path.parent / "none" / "x") == []


CONTENTS = {
    "nothing": b"",
    "one line": b"a\n",
    "a line that is being written": b"a\nb\nhal",
    "only that": b"hal",
    "empty lines": b"\na\n\n",
    "more than a block": b"".join(b"line %d\n" % number for number in range(60_000)),
    "a line longer than a block": b"a\n" + b"x" * (BLOCK_BYTES * 2) + b"\nb\n",
    "lines that end where blocks do": (b"x" * (BLOCK_BYTES - 1) + b"\n") * 3,
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_both_directions_give_the_same_lines(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    whole = content.split(b"\n")[:-1]

    assert list(newest_first(path)) == whole[::-1]
    assert list(oldest_first(path, 0)) == whole


def test_a_line_of_any_length_takes_little_memory_and_is_one_that_can_not_be_read(path: Path) -> None:
    path.write_bytes(b"a\n" + b"x" * (MAX_LINE_BYTES * 5) + b"\nb\n")

    for lines in (list(newest_first(path))[::-1], list(oldest_first(path, 0))):
        assert (lines[0], lines[2]) == (b"a", b"b")
        assert len(lines) == 3
        assert len(lines[1]) < MAX_LINE_BYTES + BLOCK_BYTES


def test_files_follow_each_other_in_time(path: Path) -> None:
    path.with_name("logs.jsonl.2").write_bytes(b"1\n2\n")
    path.with_name("logs.jsonl.1").write_bytes(b"3\n")
    path.write_bytes(b"4\n5\n")

    assert b"".join(oldest_first(path, 0)) == b"12345"
    assert b"".join(newest_first(path)) == b"54321"


def test_files_that_were_not_written_to_since_are_left_out(path: Path) -> None:
    old = path.with_name("logs.jsonl.1")
    old.write_bytes(b"old\n")
    os.utime(old, (1000, 1000))
    path.write_bytes(b"new\n")

    assert list(oldest_first(path, 2000)) == [b"new"]


def followed(path: Path, start: int | None, *steps: Callable[[], object]) -> list[bytes]:
    """Return the lines that come while the steps are made, one whenever there is nothing new."""
    seen: list[bytes] = []
    waiting = iter(steps)

    class Over(Exception):
        pass

    def wait() -> None:
        step = next(waiting, None)
        if step is None:
            raise Over
        step()

    try:
        for lines in follow(path, start, wait):
            seen += lines
    except Over:
        return seen
    raise AssertionError("it follows for ever")


def append(path: Path, data: bytes) -> Callable[[], object]:
    def write() -> None:
        with path.open("ab") as file:
            file.write(data)

    return write


def test_new_lines_come_whole(path: Path) -> None:
    path.write_bytes(b"old\n")

    assert followed(path, 4, append(path, b"a\nb"), append(path, b"c"), append(path, b"d\ne\n")) == [b"a", b"bcd", b"e"]


def test_a_file_that_is_not_there_yet(path: Path) -> None:
    assert followed(path, None, lambda: None, append(path, b"a\n"), append(path, b"b\n")) == [b"a", b"b"]


def test_a_rotated_file_is_read_to_its_end_before_the_new_one(path: Path) -> None:
    log = LogFile(path, max_bytes=20)

    def write(*lines: bytes) -> Callable[[], None]:
        def append() -> None:
            for line in lines:
                log.append(line)

        return append

    seen = followed(path, None, write(b"one 6789\n"), write(b"two 6789\n", b"three 89\n"), write(b"four\n"))
    log.close()
    assert seen == [b"one 6789", b"two 6789", b"three 89", b"four"]
    assert len(files(path)) > 1, "it was rotated"


def test_a_file_that_is_moved_and_not_replaced_is_still_followed(path: Path) -> None:
    aside = path.with_name("aside")
    path.write_bytes(b"")

    seen = followed(path, 0, lambda: path.rename(aside), append(aside, b"a\n"), append(path, b"b\n"), lambda: None)
    assert seen == [b"a", b"b"]


def test_a_file_that_is_copied_and_emptied_is_read_from_its_beginning(path: Path) -> None:
    path.write_bytes(b"old old old\n")

    def empty() -> None:
        shutil.copy(path, path.with_name("logs.jsonl.1"))
        os.truncate(path, 0)

    assert followed(path, 12, empty, append(path, b"new\n")) == [b"new"]


def test_nothing_is_quadratic(path: Path) -> None:
    path.write_bytes(b"x" * (30 * MAX_LINE_BYTES))
    began = time.process_time()

    assert list(newest_first(path)) == []
    assert followed(path, 0) == []
    assert time.process_time() - began < 5
    assert log_lines.OVERLONG == b"{"
