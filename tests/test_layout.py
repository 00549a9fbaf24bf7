"""The house: tests mirror the source, imports point one way, and importing opens nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "balancer"

TESTED_ELSEWHERE = {
    # in the tests of what they are part of
    "transport/connection.py": "transport/test_pool.py",
    "transport/answer.py": "transport/test_pool.py",
    "transport/decompress.py": "transport/test_pool.py",
    "transport/playback.py": "transport/test_pool.py",
    "transport/errors.py": "transport/test_pool.py",
    "config/document.py": "config/test_reading.py",
    "config/model.py": "config/test_reading.py",
    "config/problem.py": "config/test_reading.py",
    "config/sources.py": "config/test_reading.py",
    "wire/faults.py": "wire/test_anthropic.py",
    "delivery.py": "test_relay.py",
    "sink.py": "test_relay.py",
    "app.py": "live/test_control.py",
    "messages.py": "live/test_bad_input.py",
    "control/api.py": "live/test_control.py",
    "control/status.py": "live/test_control.py",
    "control/catalogue.py": "live/test_control.py",
    # nouns and contracts without behaviour of their own
    "model.py": "test_relay.py",
    "dialect.py": "dialects/test_contract.py",
    "events.py": "test_relay.py",
    "clock.py": "test_cli.py",
}


def _modules() -> list[Path]:
    return sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("module", _modules(), ids=str)
def test_every_module_has_its_tests(module: Path) -> None:
    expected = TESTED_ELSEWHERE.get(str(module), str(module.with_name(f"test_{module.name}")))

    assert (ROOT / "tests" / expected).exists(), f"tests/{expected} is missing"


def test_modules_are_small() -> None:
    sizes = {str(module): len((SOURCE / module).read_text().splitlines()) for module in _modules()}

    assert {name: lines for name, lines in sizes.items() if lines > 560} == {}


def test_importing_opens_nothing() -> None:
    """Not a file, not a socket, not a thread: the application exists before the server starts it."""
    check = (
        "import sys, threading; seen = []\n"
        "sys.path.insert(0, 'src')\n"
        "import balancer.app, uvicorn, asyncio\n"
        "before = threading.active_count()\n"
        "sys.addaudithook(lambda name, args: seen.append((name, args)) if name.startswith('socket.') else None)\n"
        "app = balancer.app.create_app('/no/such/file.yaml')\n"
        "assert threading.active_count() == before and not seen, seen\n"
    )
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True, timeout=30)
