"""What every test may use, and the rule about parts that are missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
CLAUDE = ROOT / ".tools" / "node_modules" / ".bin" / "claude"
CODEX = ROOT / ".tools" / "node_modules" / ".bin" / "codex"
LLAMA = ROOT / ".tools" / "llama"


_programs: list[str] = []
"""The larger programs that have been started: each takes longer than a unit test may."""


def _starts(event: str, args: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        name = Path(os.fsdecode(args[0] or args[1][0])).name
        if name.startswith(("python", "balancer", "nginx", "claude")):
            _programs.append(name)


sys.addaudithook(_starts)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Forget what was started before: it was another test's."""
    _programs.clear()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """A test that starts a program says so by its mark: `make test-unit` leaves it out."""
    result = yield
    if _programs and item.get_closest_marker("live") is None:
        pytest.fail(f"it starts {_programs[0]}: mark it with pytest.mark.live", pytrace=False)
    return result


def missing(what: str, remedy: str) -> None:
    """Skip, or in CI fail, with one line that says how to get what is missing."""
    line = f"{what} is missing; {remedy}"
    if os.environ.get("BALANCER_REQUIRE_EXTRAS"):
        pytest.fail(line, pytrace=False)
    pytest.skip(line)


@pytest.fixture(scope="session")
def claude_code() -> Path:
    """The real Claude Code client."""
    if not CLAUDE.exists():
        missing("the Claude Code client", "run: make tools")
    return CLAUDE


@pytest.fixture(scope="session")
def codex() -> str:
    """The real client Codex: `BALANCER_CODEX`, or the one on the PATH, or the one that `make codex` installs."""
    found = os.environ.get("BALANCER_CODEX") or shutil.which("codex") or (str(CODEX) if CODEX.exists() else "")
    if not found:
        missing("the client Codex", "run: make codex")
    return found


@pytest.fixture(scope="session")
def nginx() -> str:
    """The real nginx."""
    found = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if found is None:
        missing("nginx", "install your system's package nginx-light")
    return str(found)


@pytest.fixture(scope="session")
def chromium() -> str:
    """A real browser."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        missing("Chromium", "install your system's package chromium")
    return str(found)


@pytest.fixture(scope="session")
def llama_cpp() -> Path:
    """The folder of the package that holds llama.cpp's server."""
    if not (LLAMA / "xllamacpp").exists():
        missing("llama.cpp's server", "run: make tools")
    return LLAMA
