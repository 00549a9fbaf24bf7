"""The blocks of README.md and of the first guide, run as they are printed: in a copy of the checkout, with an empty home.

The blocks are taken out of the files, so they can't drift apart from what is run. Only the port is another one, the
full-screen client becomes one question (`claude -p`), and Anthropic and DeepSeek are servers of the test.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import missing
from live.harness import Upstream, eventually, free_port
from pages import DOCS, ROOT, blocks_of

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

README = ROOT / "README.md"
GUIDE = DOCS / "getting-started.md"

SIMULATED = "This is a simulated answer"

CHECKOUT = (
    "Makefile",
    "balancer",
    "pyproject.toml",
    "providers.example.yaml",
    "requirements.txt",
    "requirements-dev.txt",
)


def block(page: Path, contains: str) -> str:
    """Return the first block of a page with these words in it."""
    return next(block.text for block in blocks_of(page) if contains in block.text)


@dataclass
class Reader:
    """Somebody who has just cloned the repository, and types what is printed."""

    folder: Path
    home: Path
    port: int
    path: str

    def typed(self, block: str) -> str:
        """Return a block as this reader types it."""
        block = block.replace("8080", str(self.port))
        block = re.sub(r"^make run\b.*$", f'make run ARGS="--port {self.port}"', block, flags=re.MULTILINE)
        return re.sub(r"^claude$", 'claude -p "say hi"', block, flags=re.MULTILINE)

    async def start(self, block: str, *, language: str = "bash", **env: str) -> asyncio.subprocess.Process:
        program = {"bash": ["bash", "-e", "-c"], "python": [sys.executable, "-c"]}[language]
        return await asyncio.create_subprocess_exec(
            *program, self.typed(block),
            cwd=self.folder, start_new_session=True, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={"PATH": self.path, "HOME": str(self.home), "LANG": "C.UTF-8", "DISABLE_AUTOUPDATER": "1", **env},
        )  # fmt: skip

    async def run(self, block: str, *, language: str = "bash", **env: str) -> str:
        """Type a block, and return what it printed; it has to succeed."""
        process = await self.start(block, language=language, **env)
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()

    @asynccontextmanager
    async def serving(self, block: str, **env: str) -> AsyncIterator[None]:
        """Type a block that serves, and leave it running, as in a first terminal."""
        process = await self.start(block, **env)
        assert process.stdout is not None
        said = bytearray()

        async def read() -> None:
            assert process.stdout is not None
            while data := await process.stdout.read(4096):
                said.extend(data)

        reading = asyncio.ensure_future(read())
        try:
            await eventually(lambda: b"ANTHROPIC_BASE_URL" in said or process.returncode is not None, within_s=60)
            assert process.returncode is None, said.decode()
            yield
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGTERM)
            await process.wait()
            await reading


@asynccontextmanager
async def reader(*programs: Path) -> AsyncIterator[Reader]:
    """Copy the checkout, without what is not in it; the environment that `make` would set up is there already."""
    venv = Path(sys.prefix)
    if not (venv / ".run").exists():
        missing("an environment that make has set up", "run: make setup")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        root = Path(folder)
        for name in CHECKOUT:
            shutil.copy2(ROOT / name, root / name)
        shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
        (root / ".venv").symlink_to(venv)
        path = ":".join([*(str(program.parent) for program in programs), "/usr/local/bin:/usr/bin:/bin"])
        yield Reader(root, Path(home), free_port(), path)


async def test_the_first_blocks_of_the_readme_give_claude_code_an_answer_in_an_empty_home(claude_code: Path) -> None:
    async with reader(claude_code) as you, you.serving(block(README, "make run")):
        said = await you.run(block(README, "export ANTHROPIC_BASE_URL"))

        assert SIMULATED in said


async def test_the_other_ways_in_work_as_printed() -> None:
    async with reader() as you, you.serving(block(README, "make run")):
        by_curl = await you.run(block(README, "curl "))
        by_sdk = await you.run(block(README, "import anthropic"), language="python")

        assert SIMULATED in by_curl
        assert by_sdk.startswith(SIMULATED)


async def test_the_guide_to_the_first_failover_works_as_printed(claude_code: Path) -> None:
    """Two providers, the first one broken by fault injection: the second one answers, and status says so."""
    async with Upstream() as first, Upstream() as second, reader(claude_code) as you:
        text = block(GUIDE, 'name: "deepseek"')
        text = text.replace("https://api.anthropic.com", f"http://127.0.0.1:{first.port}")
        text = text.replace("https://api.deepseek.com/anthropic", f"http://127.0.0.1:{second.port}")
        (you.folder / "providers.yaml").write_text(text)
        keys = {"ANTHROPIC_API_KEY": "sk-ant-canary-of-the-guide", "DEEPSEEK_API_KEY": "sk-canary-of-the-guide"}
        exports = {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{you.port}", "ANTHROPIC_AUTH_TOKEN": "anything"}
        url = {"BALANCER_URL": f"http://127.0.0.1:{you.port}"}
        shell = f'PATH="{you.folder}:$PATH"\n' + block(GUIDE, "balancer drill anthropic")

        async with you.serving(block(README, "make run"), **keys):
            said = await you.run(shell, **exports, **url)

        assert "Hello from the upstream." in said
        assert (len(first.asked), len(second.asked)) == (0, 1)
        assert second.asked[0].header("x-api-key") == keys["DEEPSEEK_API_KEY"]
        assert "canary" not in said
