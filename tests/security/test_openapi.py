"""docs/openapi.json describes the control endpoints as they are: schemathesis plays it against a running balancer."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path

import endpoints
import openapi_page
import pytest
from live.harness import Upstream, balancer, configuration

EXAMPLES = 12
"""Of each operation, besides the edge cases: about ten seconds in all."""


def test_the_description_is_current_and_whole() -> None:
    described = set(openapi_page.document()["paths"])
    served = {re.sub(r":path\}", "}", path) for path in endpoints.paths()}

    assert openapi_page.PAGE.read_text() == openapi_page.text(), "run: make docs"
    assert {path for path in served - described if not path.startswith((*openapi_page.ELSEWHERE, "/v1/"))} == set()


@pytest.mark.live
async def test_what_the_control_endpoints_answer_is_what_is_described(tmp_path: Path) -> None:
    command = shutil.which("st", path=str(Path(sys.executable).parent))
    assert command is not None
    flags = [
        "--max-examples",
        str(EXAMPLES),
        "--seed",
        "1",
        "--no-shrink",
        "--phases",
        "coverage,fuzzing",
        "--warnings",
        "off",
        "--exclude-path",
        openapi_page.STREAM,  # without end; tests/control/test_live.py and tests/live/test_dashboard.py read it
        "--exclude-path",
        openapi_page.RESTART,  # a hundred restarts are another test's; tests/supervisor has it
    ]
    async with Upstream() as upstream:
        async with balancer(configuration(upstream, settings="drills: true")) as running:
            process = await asyncio.create_subprocess_exec(
                command, "run", str(openapi_page.PAGE), "--url", running.url, *flags,
                cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            said, _ = await process.communicate()
            errors = [line for line in running.log() if line["level"] == "ERROR"]

        assert process.returncode == 0, said.decode()
        assert errors == []
        assert upstream.asked == [], "no control endpoint asks a model"
