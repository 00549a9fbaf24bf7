"""Colours: on a terminal, unless they are switched off; never in a pipe or in the file."""

from __future__ import annotations

import io
import sys

import httpx2
import pytest
from live.harness import balancer

from balancer.telemetry.console import wants_color

SIMULATED = """
providers: [{name: sim, type: simulated, simulated_config: {latency: 0, speed: 0}}]
model_routes: {"*": [{provider: sim}]}
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


CASES = {
    "a terminal": (Terminal(), {}, True, True),
    "a pipe": (io.StringIO(), {}, True, False),
    "log_color: false": (Terminal(), {}, False, False),
    "NO_COLOR": (Terminal(), {"NO_COLOR": "1"}, True, False),
    "FORCE_COLOR in a pipe": (io.StringIO(), {"FORCE_COLOR": "1"}, True, True),
}


@pytest.mark.parametrize(("stream", "env", "setting", "expected"), CASES.values(), ids=CASES)
def test_when_there_are_colours(stream: io.StringIO, env: dict[str, str], setting: bool, expected: bool) -> None:
    assert wants_color(stream, env, setting) is expected


@pytest.mark.live
@pytest.mark.parametrize(
    ("env", "coloured"), [({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "LOG_COLOR": "false"}, False)]
)
async def test_the_line_of_a_request(env: dict[str, str], coloured: bool) -> None:
    async with balancer(SIMULATED, env=env) as running, httpx2.AsyncClient(base_url=running.url) as http:
        await http.post("/v1/messages", json={"model": "m", "max_tokens": 5, "messages": []})
        await running.ended()
    output = running.output.decode()

    assert " sim " in output
    assert ("\x1b[32m" in output) is coloured
    assert "\x1b" not in str(running.folder)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q"]))
