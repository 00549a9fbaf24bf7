"""Files that hold one secret and nothing else: keys of providers, keys of the balancer."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from balancer.config import paths

MAX_BYTES = 16 * 1024
"""No credential is longer; most have 100 bytes."""

CREDENTIAL = "credential:"
"""Before the name of a credential that systemd hands to the unit (`LoadCredential=`)."""

DIRECTORY = "CREDENTIALS_DIRECTORY"
"""The variable by which systemd names the folder of these."""


class Unusable(Exception):
    """A secret can't be taken from where it should come from. The message says why, without a word of what is there."""


def located(name: str, folder: Path, env: Mapping[str, str]) -> Path:
    """Return the path of a file that the configuration names; relative names begin in `folder`, that of the file.

    Raises `Unusable` where a credential of systemd is named, and there are none.
    """
    given = name.removeprefix(CREDENTIAL)
    if given == name:
        return folder / Path(name).expanduser()
    if not given or "/" in given or given in (".", ".."):
        raise Unusable("is credential:NAME, with the name that LoadCredential= has in the unit")
    if not (directory := env.get(DIRECTORY)):
        raise Unusable(f"names a credential of systemd, but {DIRECTORY} is not set; the unit needs LoadCredential=")
    return Path(directory) / given


def read(path: Path, env: Mapping[str, str]) -> tuple[str, str]:
    """Return the secret in a file, and what others can do with the file that they should not (`paths`).

    Raises `Unusable`.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe without a writer would be waited for
            raise Unusable("can't be read: it is not a file")
        with path.open("rb") as file:
            data, mode = file.read(MAX_BYTES + 1), os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise Unusable(f"can't be read: {error.strerror}") from None
    except ValueError:
        raise Unusable("is not the name of a file") from None
    secret = one_line(data)
    directory = env.get(DIRECTORY)
    if directory and path.parent == Path(directory):
        return secret, ""  # systemd guards the folder; the files' modes are those of access lists
    return secret, paths.open_to_others(mode, path)


def one_line(data: bytes) -> str:
    """Return the secret that is all there is in `data`, without blanks and line breaks around it. Raises `Unusable`."""
    if len(data) > MAX_BYTES:
        raise Unusable(f"has more than {MAX_BYTES} bytes; it must have the key and nothing else")
    try:
        secret = data.decode("utf-8-sig").strip()
    except ValueError:
        raise Unusable("is not UTF-8 text; it must have the key and nothing else") from None
    if not secret:
        raise Unusable("is empty; it must have the key and nothing else")
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in secret):
        raise Unusable("has more than one line, or control characters; it must have the key and nothing else")
    return secret
