"""Files that the configuration names: can they be used?"""

from __future__ import annotations

import os
from pathlib import Path


def not_writable(path: str) -> str:
    """Say why nothing can be written to a file that may not exist yet; nothing if it can. Makes nothing."""
    if "\0" in path:  # Python's own functions differ in whether they raise
        return "it is not the name of a file"
    try:
        file = Path(path)
        if file.is_dir():
            return "it is a folder"
        if file.exists():
            return "" if os.access(file, os.W_OK) else "no permission to write to it"
        folder = next(parent for parent in (file.parent, *file.absolute().parents) if parent.exists())
    except OSError as error:
        return error.strerror or "it can't be reached"
    if not folder.is_dir():
        return "a part of its path is a file, not a folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "no permission to write to its folder"
