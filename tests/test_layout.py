"""The house: tests mirror the source, imports point one way, and importing opens nothing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import modules_page
import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "balancer"

TESTED_ELSEWHERE = {
    # in the tests of what they are part of
    "transport/limits.py": "transport/test_framing.py",
    "commands/listed.py": "commands/test_live.py",
    "control/reloading.py": "test_app.py",
    "state/prepared.py": "state/test_fleet.py",
    "supervisor/machine.py": "supervisor/test_supervisor.py",
    "supervisor/many.py": "supervisor/test_supervisor.py",
    "supervisor/messages.py": "supervisor/test_channel.py",
    "supervisor/one.py": "supervisor/test_signals.py",
    "supervisor/process.py": "supervisor/test_supervisor.py",
    "supervisor/surroundings.py": "supervisor/test_supervisor.py",
    "supervisor/worker.py": "supervisor/test_supervisor.py",
    "config/checking.py": "config/test_by_hand.py",
    "config/credentials.py": "config/test_by_hand.py",
    "config/document.py": "config/test_reading.py",
    "config/providers.py": "config/test_by_hand.py",
    "config/routes.py": "config/test_by_hand.py",
    "config/slips.py": "config/test_by_hand.py",
    "config/wording.py": "config/test_by_hand.py",
    # nouns and contracts without behaviour of their own
    "model.py": "relay/test_relay.py",
    "policy/verdicts.py": "policy/test_classify.py",
    "relay/writer.py": "relay/test_response.py",
    "relay/limits.py": "relay/test_response.py",
    "wire/decoder.py": "dialects/test_contract.py",
    "sharing/link.py": "sharing/test_hub.py",
    "sharing/messages.py": "sharing/test_hub.py",
    "sharing/protocol.py": "sharing/test_in_process.py",
    "sharing/layout.py": "sharing/test_memory.py",
    "sharing/table.py": "sharing/test_facts.py",
    "sharing/reports.py": "sharing/test_in_process.py",
}


def _modules() -> list[Path]:
    return sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("module", _modules(), ids=str)
def test_every_module_has_its_tests(module: Path) -> None:
    expected = TESTED_ELSEWHERE.get(str(module), str(module.with_name(f"test_{module.name}")))

    assert (ROOT / "tests" / expected).exists(), f"tests/{expected} is missing"


def test_modules_are_small() -> None:
    sizes = {str(module): len((SOURCE / module).read_text().splitlines()) for module in _modules()}

    assert {name: lines for name, lines in sizes.items() if lines > 450} == {}


def test_the_top_level_can_be_taken_in_at_a_glance() -> None:
    entries = [path for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]

    assert len(entries) <= 26


def test_the_page_of_modules_is_current() -> None:
    assert modules_page.PAGE.read_text() == modules_page.page(), "run: make docs"
    assert [path for path in SOURCE.rglob("*.py") if not modules_page.first_line(path)] == []


def test_every_module_has_its_floor() -> None:
    """import-linter says nothing of a module that no floor names."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = {name.strip() for layer in contracts[0]["layers"] for name in layer.split("|")}
    modules = {f"balancer.{module.parts[0].removesuffix('.py')}" for module in _modules()}

    assert modules - floors == set(), "name them in pyproject.toml"
    assert floors - modules == set()


WATCHED = """
import sys, threading

opened = []


def hook(name, args):
    written = name == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if written or name.startswith("socket.") or name in ("subprocess.Popen", "os.fork", "os.mkdir"):
        opened.append((name, args))


sys.addaudithook(hook)
sys.path.insert(0, "src")
import balancer.app, main

balancer.app.create_app("/no/such/file.yaml")
assert not opened, opened
assert threading.active_count() == 1, threading.enumerate()
"""


@pytest.mark.live
def test_importing_opens_nothing() -> None:
    """Not a file, not a socket, not a process, not a thread: all of that begins when the server starts the application."""
    subprocess.run([sys.executable, "-B", "-c", WATCHED], cwd=ROOT, check=True, timeout=30)
