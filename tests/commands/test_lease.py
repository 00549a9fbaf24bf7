"""Who uses a balancer in the background is known by locks, which end with their processes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from balancer.commands.lease import Lease, end_when_unused, folder

from .conftest import ROOT, environment

WITHIN_S = 10.0


def never() -> None:
    raise AssertionError("nobody has to wait")


def held(path: Path) -> Lease:
    lease = Lease(path)
    assert lease.take(never, WITHIN_S)
    return lease


def test_the_last_user_knows_that_it_is_the_last(tmp_path: Path) -> None:
    one, other = held(tmp_path / "l"), held(tmp_path / "l")

    assert one.release() is False
    assert other.release() is True


def test_the_balancer_ends_when_the_last_user_has_gone(tmp_path: Path) -> None:
    ended = threading.Event()
    one, other = held(tmp_path / "l"), held(tmp_path / "l")
    end_when_unused(str(tmp_path / "l"), ended.set)

    one.release()
    assert not ended.wait(0.1)
    other.release()
    assert ended.wait(WITHIN_S)


HOLDS = """
import sys, time
from pathlib import Path
from balancer.commands.lease import Lease
Lease(Path(sys.argv[1])).take(lambda: None, 5)
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.live
def test_a_user_that_is_killed_has_gone(tmp_path: Path) -> None:
    ended = threading.Event()
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "l")]
    with subprocess.Popen(command, env=environment(PYTHONPATH=str(ROOT / "src")), stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == b"held\n"
        end_when_unused(str(tmp_path / "l"), ended.set)
        assert not ended.wait(0.1)
        user.send_signal(signal.SIGKILL)

        assert ended.wait(WITHIN_S)


def test_whoever_comes_while_a_balancer_ends_waits_for_its_end(tmp_path: Path) -> None:
    ending, waits = threading.Event(), threading.Event()
    first = held(tmp_path / "l")
    end_when_unused(str(tmp_path / "l"), ending.set)
    first.release()
    assert ending.wait(WITHIN_S)

    late = Lease(tmp_path / "l")  # the balancer's lock is kept by this process: its end does not come
    assert late.take(waits.set, 0.2) is False
    assert waits.is_set()
    late.release()


def test_the_folder_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    assert folder() == tmp_path / "balancer"
    assert stat.S_IMODE(folder().stat().st_mode) == 0o700


def test_without_a_home_a_folder_is_found_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    prepared = tmp_path / f"balancer-{os.getuid()}"
    prepared.symlink_to(tmp_path)
    assert folder() not in (prepared, tmp_path), "a link may lead anywhere"
    prepared.unlink()

    assert folder() == prepared
    assert stat.S_IMODE(folder().stat().st_mode) == 0o700
