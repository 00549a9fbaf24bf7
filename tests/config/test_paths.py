"""Files that a configuration names: whether they can be used, told in words before anything is served."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from balancer.config.paths import not_writable, open_to_others


def test_a_file_that_may_be_written_needs_no_words(tmp_path: Path) -> None:
    there = tmp_path / "log"
    there.touch()

    assert not_writable(str(there)) == ""
    assert not_writable(str(tmp_path / "not" / "there" / "yet")) == ""
    assert list(tmp_path.iterdir()) == [there], "looking makes nothing"


def test_why_a_file_can_not_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    assert not_writable(str(tmp_path)) == "it is a folder"
    assert "not a folder" in not_writable(str(file / "log"))
    assert not_writable("a\0b") == "it is not the name of a file"
    assert not_writable("x" * 5000) != ""
    (tmp_path / "link").symlink_to(file)
    assert "symbolic link" in not_writable(str(tmp_path / "link"))
    assert not_writable("/dev/stdout") == ""


@pytest.mark.parametrize(
    ("mode", "secret", "others_can"),
    [
        (0o600, True, ""),
        (0o644, True, "read"),
        (0o644, False, ""),
        (0o664, False, "change"),
        (0o666, True, "read or change"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_what_others_can_do_with_a_file_is_told(mode: int, secret: bool, others_can: str, tmp_path: Path) -> None:
    assert open_to_others(mode, tmp_path / "file", secret=secret) == others_can


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_who_can_replace_a_file_can_change_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert open_to_others(0o600, tmp_path / "file") == "change"
    tmp_path.chmod(0o1777)
    assert open_to_others(0o600, tmp_path / "file") == ""
    assert open_to_others(0o600, tmp_path / "gone" / "file") == ""
