"""mkdocs hooks: pages of the site that stand outside `docs/` in the repository, and the links to them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]

OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "bench/README.md": "bench.md"}
"""A file of the repository, and the page of the site that it becomes."""

_LINK = re.compile(r"(?<=\]\()(?:\.\./)*([\w./-]+\.md)(?=[#)])")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for source, page in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to the added pages lead to where they are on the site."""
    here = posixpath.dirname(page.file.src_uri)

    def target(match: re.Match[str]) -> str:
        moved = OUTSIDE.get(match[1])
        return posixpath.relpath(moved, here or ".") if moved else match[0]

    return _LINK.sub(target, markdown)
