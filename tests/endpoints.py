"""The paths that the real application serves."""

from __future__ import annotations

import asyncio
import tempfile
from functools import cache
from pathlib import Path

from balancer.app import create_app
from balancer.server.paths import OPERATIONS

CONFIG = """\
providers: [{name: a, type: simulated}]
model_routes: {default: [{provider: a}]}
settings: {log_file: null, log_level: CRITICAL}
"""


@cache
def paths() -> frozenset[str]:
    """Return every path, with `{id}` where it varies."""
    return asyncio.run(_paths())


async def _paths() -> frozenset[str]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "providers.yaml"
        file.write_text(CONFIG)
        app = create_app(str(file))
        await app.start()
        try:
            control = {str(route.path) for route in app._control.routes}  # type: ignore[attr-defined]
        finally:
            await app.stop()
    return frozenset(control | set(OPERATIONS))
