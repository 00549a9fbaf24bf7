"""Print, as pip's constraints, the lowest version that `pyproject.toml` allows of every direct dependency.

.venv/bin/python .ci/lowest.py > constraints.txt
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    direct = [*project["project"]["dependencies"], *group(project["dependency-groups"], "dev")]
    print("\n".join(lowest(Requirement(line)) for line in direct))
    return 0


def group(groups: dict[str, list[str | dict[str, str]]], name: str) -> Iterator[str]:
    """Yield the requirements of the group `name` and of those that it includes."""
    for entry in groups[name]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from group(groups, entry["include-group"])


def lowest(requirement: Requirement) -> str:
    """Return the line that pins `requirement` to its lower bound. Ends the program if it has none."""
    bounds = [bound.version for bound in requirement.specifier if bound.operator == ">="]
    if len(bounds) != 1:
        sys.exit(f"pyproject.toml: {requirement}: name the lowest version that works, {requirement.name}>=...")
    return f"{requirement.name}=={bounds[0]}" + (f"; {requirement.marker}" if requirement.marker else "")


if __name__ == "__main__":
    sys.exit(main())
