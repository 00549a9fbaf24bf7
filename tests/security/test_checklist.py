"""docs/security.md and docs/dependencies.md say what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_setup import PROJECT

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.findall(r"^\| (\d+) \| (.+?) \| (.+) \|$", (ROOT / "docs" / "security.md").read_text(), re.MULTILINE)
LINES = 27


def test_every_line_of_the_checklist_is_there_once() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(range(1, LINES + 1))


@pytest.mark.parametrize(("number", "rule", "tests"), ROWS, ids=[number for number, _, _ in ROWS])
def test_every_rule_has_tests_that_are_there(number: str, rule: str, tests: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", tests)
    sources = {path: (ROOT / path).read_text() for path, _ in named}

    assert named, f"line {number}, {rule}"
    assert [
        name for path, name in named if not re.search(rf"^(async )?def {name}\(", sources[path], re.MULTILINE)
    ] == []
    assert len(named) == tests.count("`") // 2, "something there is no test"


def test_every_test_of_this_folder_stands_in_the_checklist_or_beside_it() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    files = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name}

    assert [name for name in sorted(files) if f"tests/security/{name}" not in page] == []


def _described(heading: str) -> dict[str, list[str]]:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\| `.*$", section, re.MULTILINE)
    ]
    return {canonicalize_name(row[0].strip("`")): row[1:] for row in rows}


def test_every_dependency_is_described() -> None:
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    direct, indirect = _described("Direct"), _described("Indirect")
    extras = {line for extra in PROJECT["project"].get("optional-dependencies", {}).values() for line in extra}

    assert set(direct) == declared
    assert set(indirect) == {canonicalize_name(name) for name in locked} - declared
    assert set(_described("Extras")) == {canonicalize_name(Requirement(line).name) for line in extras}
    assert [name for name, cells in {**direct, **indirect}.items() if not all(cells)] == []
