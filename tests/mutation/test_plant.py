"""The kept list of planted faults fits the code that it is planted in."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from mutation.plant import ROOT, Fault, faults


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: f"{fault.file}: {fault.name}")
def test_every_fault_can_be_planted_and_changes_something_that_still_compiles(fault: Fault) -> None:
    text = (ROOT / "src" / "balancer" / fault.file).read_text()

    assert ast.dump(ast.parse(fault.planted(text))) != ast.dump(ast.parse(text))
    assert [test for test in fault.tests if not (ROOT / "tests" / test).exists()] == []


def test_the_list_covers_every_folder_in_which_something_is_decided() -> None:
    folders = {Path(fault.file).parts[0] for fault in faults()}

    assert {"policy", "relay", "state", "coalescing", "transport", "wire", "dialects", "config"} <= folders
    assert len(faults()) >= 60
    assert len({fault.name for fault in faults()}) == len(faults())
