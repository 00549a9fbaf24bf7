"""Files that hold one secret: where they are looked for, what is taken, and what is said of the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from balancer.config.secret_files import MAX_BYTES, Unusable, located, one_line, read

KEY = "sk-canary-V9q3XrT7bLw2Zk8N"


def test_a_relative_name_begins_beside_the_configuration_and_a_credential_in_systemds_folder(tmp_path: Path) -> None:
    env = {"CREDENTIALS_DIRECTORY": "/run/credentials/balancer.service"}

    assert located("keys/a", tmp_path, {}) == tmp_path / "keys" / "a"
    assert located("/run/secrets/a", tmp_path, {}) == Path("/run/secrets/a")
    assert located("~/a", tmp_path, {}) == Path.home() / "a"
    assert located("credential:a", tmp_path, env) == Path("/run/credentials/balancer.service/a")


@pytest.mark.parametrize("name", ["credential:", "credential:../x", "credential:a/b", "credential:.."])
def test_a_credential_of_systemd_is_a_name_and_no_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"is credential:NAME"):
        located(name, tmp_path, {"CREDENTIALS_DIRECTORY": "/run/x"})


def test_without_credentials_of_systemd_the_remedy_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"CREDENTIALS_DIRECTORY is not set; the unit needs LoadCredential="):
        located("credential:a", tmp_path, {})


def test_blanks_line_breaks_and_a_byte_order_mark_around_a_key_are_no_part_of_it() -> None:
    assert one_line(b"\xef\xbb\xbf  " + KEY.encode() + b"\r\n\n") == KEY
    assert one_line(b"1234 a-token-of-zed\n") == "1234 a-token-of-zed"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (f"{KEY}\n{KEY}\n".encode(), "more than one line"),
        (f"{KEY}\x00".encode(), "control characters"),
        (f"{KEY}\u2028x".encode(), "more than one line"),
        (b"\xff\xfe" + KEY.encode(), "is not UTF-8"),
        (b"x" * (MAX_BYTES + 1), f"more than {MAX_BYTES} bytes"),
    ],
)
def test_what_is_no_key_is_described_and_not_quoted(data: bytes, why: str) -> None:
    with pytest.raises(Unusable, match=why) as caught:
        one_line(data)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "folder", "others_can"),
    [
        (0o600, 0o700, ""),
        (0o400, 0o755, ""),
        (0o640, 0o700, "read"),
        (0o604, 0o700, "read"),
        (0o620, 0o700, "change"),
        (0o666, 0o700, "read or change"),
        (0o600, 0o777, "change"),
        (0o600, 0o1777, ""),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_what_others_can_do_with_a_secret_is_told(mode: int, folder: int, others_can: str, tmp_path: Path) -> None:
    file = tmp_path / "in" / "key"
    file.parent.mkdir()
    file.write_text(KEY)
    file.chmod(mode)
    file.parent.chmod(folder)

    assert read(file, {}) == (KEY, others_can)


def test_modes_in_systemds_own_folder_are_those_of_its_access_lists(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text(KEY)
    file.chmod(0o440)

    assert read(file, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == (KEY, "")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    for path, why in ((pipe, "not a file"), (tmp_path, "not a file"), (tmp_path / "none", "No such file")):
        with pytest.raises(Unusable, match=why):
            read(path, {})
    with pytest.raises(Unusable, match="not the name of a file"):
        read(Path("a\0b"), {})
