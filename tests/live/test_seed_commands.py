"""Every command that the seed names starts, serves, and ends when it is told to."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import httpx2
import pytest
from live.harness import PYTHON, ROOT, configuration, free_port

pytestmark = pytest.mark.live

UVICORN = ["-m", "uvicorn", "src.main:app", "--host", "127.0.0.1", "--log-level", "error"]

SERVING: dict[str, tuple[Path, list[str], set[int]]] = {
    "python src/main.py": (ROOT, ["src/main.py"], {0}),
    "cd src && python main.py": (ROOT / "src", ["main.py"], {0}),
    # uvicorn on its own ends by raising the signal again, so that its parent sees what ended it
    "uvicorn src.main:app": (ROOT, UVICORN, {0, -15}),
    "uvicorn src.main:app --workers 2": (ROOT, [*UVICORN, "--workers", "2"], {0, -15}),
}


@pytest.mark.parametrize(("folder", "command", "ends"), SERVING.values(), ids=SERVING)
async def test_it_serves_and_ends(folder: Path, command: list[str], ends: set[int], tmp_path: Path) -> None:
    port = free_port()
    process = await _start(folder, [*command, "--port", str(port)], configuration(9), tmp_path)
    try:
        url = f"http://127.0.0.1:{port}"
        assert await _json(f"{url}/health") == {"status": "ok"}
        assert (await _json(f"{url}/providers"))["total_providers"] == 1
    finally:
        process.terminate()
        async with asyncio.timeout(20):
            _, err = await process.communicate()
    assert process.returncode in ends, err.decode()
    assert "Traceback" not in err.decode()


async def test_a_wrong_configuration_is_named_and_nothing_is_served(tmp_path: Path) -> None:
    process = await _start(ROOT, ["src/main.py", "--port", "0"], "providers: [{nam: a}]\n", tmp_path)
    async with asyncio.timeout(20):
        _, err = await process.communicate()

    assert process.returncode == 2
    assert "providers.yaml:1: " in err.decode()
    assert "did you mean" in err.decode()


async def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with taken:
        port = taken.sockets[0].getsockname()[1]
        process = await _start(ROOT, ["src/main.py", "--port", str(port)], configuration(9), tmp_path)
        async with asyncio.timeout(20):
            _, err = await process.communicate()

    assert process.returncode == 1
    assert len(err.decode().splitlines()) == 1
    assert str(port) in err.decode()


@pytest.mark.parametrize("script", ["test_api.py", "test_passthrough.py", "test_log_colors.py"])
async def test_the_seeds_tests_run_as_scripts(script: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, f"tests/{script}", cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()

    assert process.returncode == 0, out.decode()
    assert " passed" in out.decode()


async def _start(folder: Path, command: list[str], config: str, tmp_path: Path) -> asyncio.subprocess.Process:
    path = tmp_path / "providers.yaml"
    path.write_text(f"{config.rstrip()}\n".replace("settings: {}", f'settings: {{log_file: "{tmp_path}/log.jsonl"}}'))
    return await asyncio.create_subprocess_exec(
        PYTHON, *command, cwd=folder, env={**os.environ, "BALANCER_CONFIG": str(path)},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def _json(url: str) -> dict[str, object]:
    """Ask until somebody listens."""
    async with httpx2.AsyncClient() as http, asyncio.timeout(30):
        while True:
            try:
                return dict((await http.get(url)).json())
            except httpx2.TransportError:
                await asyncio.sleep(0.05)
