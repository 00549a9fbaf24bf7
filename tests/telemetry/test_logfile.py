"""The log file: made when needed, private, rotated, followed."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from balancer.telemetry.logfile import LogFile


def test_the_folder_is_made_and_the_file_is_private(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "deep" / "logs" / "logs.jsonl")

    log.append(b"one\n")
    log.append(b"two\n")
    log.close()

    assert log.path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_a_full_file_is_moved_aside_and_only_so_many_are_kept(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "l", max_bytes=10, kept=2)

    for text in (b"first 1\n", b"second2\n", b"third 3\n", b"fourth4\n"):
        log.append(text)
    log.close()

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "l": b"fourth4\n",
        "l.1": b"third 3\n",
        "l.2": b"second2\n",
    }


def test_lines_longer_than_the_limit_are_written_whole(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "l", max_bytes=10, kept=1)

    log.append(b"x" * 50 + b"\n")
    log.close()

    assert log.path.stat().st_size == 51


def test_nothing_is_kept_where_nothing_is_to_be_kept(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "l", max_bytes=10, kept=0)

    log.append(b"first 1\n")
    log.append(b"second2\n")
    log.close()

    assert [path.name for path in tmp_path.iterdir()] == ["l"]
    assert log.path.read_bytes() == b"second2\n"


@pytest.mark.parametrize("moved", [True, False])
def test_a_file_that_was_moved_or_deleted_is_made_anew(tmp_path: Path, moved: bool) -> None:
    log = LogFile(tmp_path / "l")
    log.append(b"one\n")

    if moved:
        log.path.rename(tmp_path / "old")
    else:
        log.path.unlink()
    log.append(b"two\n")
    log.close()

    assert log.path.read_bytes() == b"two\n"


def test_two_workers_share_a_file_and_rotate_it_once(tmp_path: Path) -> None:
    one, two = LogFile(tmp_path / "l", max_bytes=20), LogFile(tmp_path / "l", max_bytes=20)

    one.append(b"one 1234\n")
    two.append(b"two 1234\n")
    one.append(b"one 5678\n")
    two.append(b"two 5678\n")
    one.close()
    two.close()

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "l.1": b"one 1234\ntwo 1234\n",
        "l": b"one 5678\ntwo 5678\n",
    }


def test_after_a_failure_the_next_line_is_written_again(tmp_path: Path) -> None:
    blocker = tmp_path / "logs"
    blocker.write_text("a file where the folder should be")
    log = LogFile(blocker / "l")

    with pytest.raises(OSError):
        log.append(b"one\n")
    blocker.unlink()
    log.append(b"two\n")
    log.close()

    assert log.path.read_bytes() == b"two\n"


@pytest.mark.parametrize("private", [True, False])
def test_a_symbolic_link_in_the_place_of_the_file_is_never_followed(tmp_path: Path, private: bool) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"untouched")
    log = LogFile(tmp_path / "l", private=private)
    log.append(b"one\n")
    log.path.unlink()
    for target in (elsewhere, tmp_path / "not there yet"):
        log.path.unlink(missing_ok=True)
        log.path.symlink_to(target)
        with pytest.raises(OSError, match="symbolic link"):
            log.append(b"two\n")
    log.path.unlink()
    log.append(b"three\n")
    log.close()

    assert elsewhere.read_bytes() == b"untouched"
    assert not (tmp_path / "not there yet").exists()
    assert log.path.read_bytes() == b"three\n"


def test_a_link_that_leads_to_the_very_file_is_not_followed_either(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "l")
    log.append(b"one\n")
    log.path.rename(tmp_path / "moved")
    log.path.symlink_to(tmp_path / "moved")

    with pytest.raises(OSError, match="symbolic link"):
        log.append(b"two\n")
    log.close()
    assert (tmp_path / "moved").read_bytes() == b"one\n"


def test_no_link_is_followed_when_a_full_file_is_moved_aside(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"untouched")
    (tmp_path / "l.1").symlink_to(elsewhere)
    (tmp_path / "l.2").symlink_to(elsewhere)
    log = LogFile(tmp_path / "l", max_bytes=10, kept=2)

    log.append(b"first 1\n")
    log.append(b"second2\n")
    log.close()

    assert elsewhere.read_bytes() == b"untouched"
    assert (tmp_path / "l.1").read_bytes() == b"first 1\n"


def test_a_pipe_that_nobody_reads_is_an_error_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "l")
    log = LogFile(tmp_path / "l")

    with pytest.raises(OSError, match="No such device"):
        log.append(b"one\n")


@pytest.mark.live
def test_the_systems_own_link_to_the_output_may_be_named() -> None:
    written = subprocess.run(
        [
            sys.executable,
            "-c",
            "from pathlib import Path; from balancer.telemetry.logfile import LogFile; l = LogFile(Path('/dev/stdout'));"
            "l.append(b'one\\n'); l.append(b'two\\n'); l.close()",
        ],
        capture_output=True,
        check=True,
    )

    assert written.stdout == b"one\ntwo\n"


@contextmanager
def at_most(size_bytes: int) -> Iterator[None]:
    """Have files of this process end at a size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_whole_lines_stay_and_the_torn_one_goes(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "l")
    log.append(b"one\n")
    with at_most(10):
        with pytest.raises(OSError, match="too large"):
            log.append(b"two\nthree\n")
        assert (log.written_bytes, log.path.read_bytes()) == (4, b"one\ntwo\n")
        with pytest.raises(OSError, match="too large"):
            log.append(b"four\n")
        assert log.written_bytes == 0
    log.append(b"five\n")
    log.close()

    assert log.path.read_bytes() == b"one\ntwo\nfive\n"


def test_a_line_that_was_torn_by_a_crash_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "l"
    path.write_bytes(b"whole\nto")
    log = LogFile(path)
    log.append(b"next\n")
    log.append(b"last\n")
    log.close()

    assert path.read_bytes() == b"whole\nto\nnext\nlast\n"


def test_what_another_worker_has_written_behind_a_torn_line_stays(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "l")
    log.append(b"one\n")
    with log.path.open("ab") as other:
        other.write(b"theirs\n")
    log.written_bytes = 0
    log._take_away(2)  # as if two bytes of ours stood before theirs
    assert log.path.read_bytes() == b"one\ntheirs\n"
    log.append(b"two\n")
    log.close()

    assert log.path.read_bytes() == b"one\ntheirs\n\ntwo\n"
