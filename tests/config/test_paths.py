"""Files that a configuration names: whether they can be used, told in words before anything is served."""

from __future__ import annotations

from pathlib import Path

from balancer.config.paths import not_writable


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
