"""The terminal pictures of the documentation, taken from the real program and drawn by Rich.

`python tests/live/screenshots.py` (make screenshots) runs `balancer demo`, then a balancer with failing
providers and `balancer status`, and writes docs/images/*.svg. Tests compare the words, not the numbers.
"""

from __future__ import annotations

import asyncio
import html
import io
import json
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx2
from live.harness import PYTHON, balancer, eventually
from rich.cells import cell_len
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"

COLUMNS = 124

PORT = "8080"
"""Shown instead of the free port that was used."""

SESSION = """\
providers:
  - {name: main, type: simulated, simulated_config: {latency: 0.1, speed: 0, fault: ["529"], fault_first: 1}}
  - {name: second, type: simulated, simulated_config: {latency: 0.1, speed: 0, fault: ["401"]}}
  - {name: local, type: simulated, simulated_config: {latency: 0.1, speed: 0}}
model_routes:
  "*haiku*": [{provider: second, priority: 1}, {provider: local, priority: 2}]
  "*": [{provider: main, priority: 1}, {provider: local, priority: 2}]
"""
"""One provider is overloaded once, one refuses its key, one works."""

ASKED = ("claude-opus-5-5", "claude-haiku-5-5", "claude-opus-5-5")


async def demo() -> str:
    """Return what `balancer demo` prints."""
    return f"$ balancer demo\n{_as_installed(await _printed('demo'))}"


async def session() -> str:
    """Return the console of a balancer whose providers fail, and what `balancer status` says then."""
    async with balancer(SESSION, env={"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}) as running:
        async with httpx2.AsyncClient(base_url=running.url, timeout=30) as http:
            for number, model in enumerate(ASKED):
                asked = {"model": model, "max_tokens": 50 + number, "stream": True, "messages": [_HI]}
                await http.post("/v1/messages", json=asked)
        await running.ended(len(ASKED))
        await eventually(lambda: running.output.count(b"claude-") >= len(ASKED))
        log = [line for line in running.output.decode().splitlines() if _LOGGED.match(line)]
        status = await _printed("status", "--url", running.url)
        return _as_installed("\n".join(["$ balancer serve", *log, "", "$ balancer status", status]))


_LOGGED = re.compile(r"(?:\x1b\[\d+m)*\d\d:\d\d:\d\d")
"""How a line of the log begins; what stands before is said at the start."""


_HI = {"role": "user", "content": "hi"}


async def _printed(*words: str) -> str:
    with_color = {"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "balancer.cli", *words,
        env={**os.environ, **with_color}, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


def _as_installed(text: str) -> str:
    """Write paths of this checkout as somebody sees them who installed the command."""
    text = re.sub(r"\S*/(?=balancer\b)|\S*/(?=providers\.example\.yaml)", "", text)
    return re.sub(r"(?<=http://127\.0\.0\.1:)\d+", PORT, text)


def drawn(text: str, title: str) -> str:
    """Return a terminal's output as a picture, as wide as it has to be."""
    shown = Text.from_ansi(text)
    console = Console(record=True, width=max(map(cell_len, shown.plain.splitlines())) + 2, file=io.StringIO())
    console.print(shown)
    svg = console.export_svg(title=title, theme=DIMMED_MONOKAI, unique_id="terminal")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # its fonts are on another host


def words_of(svg: str) -> str:
    """Return what a picture says, without what differs from run to run: numbers, ids, spaces."""
    lines = re.findall(r"<text[^>]*>(.*?)</text>", svg, re.DOTALL)
    return normalised(html.unescape(" ".join(lines)))


def normalised(text: str) -> str:
    without_ids = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8}\b", "", text.replace("\xa0", " "))
    return " ".join(re.sub(r"[\d.,:]+", "", without_ids).split())


SHOTS = {"demo": demo, "session": session}


async def take() -> None:
    for name, shot in SHOTS.items():
        title = "balancer demo" if name == "demo" else "two failing providers"
        (IMAGES / f"{name}.svg").write_text(drawn(await shot(), title))


if __name__ == "__main__":
    asyncio.run(take())
    print(json.dumps([str(IMAGES / f"{name}.svg") for name in SHOTS]))
