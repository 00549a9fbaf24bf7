"""The configuration in force, as workers get it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from balancer import config as configuration
from balancer.supervisor.in_force import InForce

FILE = "providers: [{name: a, type: simulated}]\nmodel_routes: {'*': [{provider: a, model: m}]}\n"


async def test_the_last_file_that_could_be_used_is_in_force(tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text(FILE)
    source = configuration.taken(path)
    in_force = InForce(source, configuration.parsed(source, os.environ), {"port": 7})
    looked = asyncio.Event()

    for text, drain_s in ((FILE + "settings: {drain_timeout: 3, drain_delay_s: 2}\n", 5.0), ("providers: [", 5.0)):
        path.write_text(text)
        looked.clear()
        in_force.look(looked.set)
        in_force.look()  # while it looks
        await asyncio.wait_for(looked.wait(), 10)
        assert in_force.drain_s == drain_s

    assert in_force.source.data.startswith(FILE.encode())
    assert in_force.config.settings.port == 7
    path.unlink()
    looked.clear()
    in_force.look(looked.set)
    await asyncio.wait_for(looked.wait(), 10)
    assert in_force.source.data.startswith(FILE.encode())
