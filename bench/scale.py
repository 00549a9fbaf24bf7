"""`python -m bench.scale`: what the size of the configuration costs, as ratios that hold on any machine."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import yaml

from balancer import config as configuration
from balancer.app import App, create_app
from balancer.config.loading import composed
from balancer.events import Bus
from balancer.model import Operation, Request
from balancer.policy import routes as routing
from balancer.policy.circuit import Health
from balancer.policy.verdicts import Scope
from balancer.state.fleet import Fleet

ROUNDS = 5
NAMES = 2000
TICK_S = 0.001


def written(providers: int, routes: int, targets: int = 3, cooldown_s: int = 5, strategy: str = "priority") -> str:
    """Return a configuration of that size: half of the routes are patterns."""
    entries = [
        {
            "name": f"p{n}",
            "type": "anthropic",
            "base_url": f"http://127.0.0.1:{9000 + n % 2}",
            "auth_value": f"k-{n:09}",
        }
        for n in range(providers)
    ]
    lines = ["providers:", *(f"  - {json.dumps(entry)}" for entry in entries), "model_routes:"]
    for n in range(routes):
        lines.append(f'  "model-{n}{"*" if n % 2 else ""}":')
        lines += [f"    - {json.dumps({'provider': f'p{(n + k) % providers}'})}" for k in range(targets)]
    lines.append(f'settings: {{failure_cooldown: {cooldown_s}, selection_strategy: {strategy}, log_level: "CRITICAL"}}')
    return "\n".join(lines) + "\n"


def cpu_s(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the least CPU that `work` took in a few rounds."""
    taken = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken)


def reading() -> None:
    """Compare reading the file with what PyYAML's own parser takes for its nodes alone."""
    text = written(200, 2000)
    pure = cpu_s(lambda: yaml.SafeLoader(text).get_single_node(), 2)
    nodes = cpu_s(lambda: composed(text), 3)
    whole = cpu_s(lambda: configuration.parse(text, "providers.yaml", {}), 3)
    print(f"200 providers, 2,000 routes ({len(text) // 1000} KB), against PyYAML's own parser ({pure:.2f} s):")
    print(f"  nodes by libyaml      {nodes / pure:5.2f} x   ({nodes * 1e3:.0f} ms)")
    print(f"  the whole file read   {whole / pure:5.2f} x   ({whole * 1e3:.0f} ms; wanted: less than 300)")


def looking_up() -> None:
    """Compare the lookup of a name among 1,000 patterns with one among 10."""
    few, many = (routing.compile(configuration.parse(written(5, n), "x", {}).routes) for n in (20, 2000))

    def per_name(table: routing.Routing, number: int) -> float:
        find = table.match.__wrapped__  # type: ignore[attr-defined] # what the memory of names stands before
        return cpu_s(lambda: [find(f"model-{number}-{n}") for n in range(NAMES)]) / NAMES

    ten, thousand = per_name(few, 19), per_name(many, 1999)
    print(
        f"a name not seen before, among 1,000 patterns against 10: {thousand / ten:.1f} x   ({thousand * 1e6:.1f} us)"
    )


def ordering() -> None:
    """Compare the order of 50 candidates with that of 5, when all are well and when one cools down."""
    for strategy in ("priority", "round_robin"):
        taken: dict[tuple[int, bool], float] = {}
        for targets in (5, 50):
            parsed = configuration.parse(written(50, 20, targets, strategy=strategy), "x", {})
            fleet = Fleet(parsed, Bus(), random.Random(1))
            request = Request("r", Operation.MESSAGES, b"", (), b"{}", "model-7-x", stream=True)
            route = fleet.routing.routes[7]
            for ill in (False, True):
                if ill:
                    fleet.health.entries["p9", Scope.PROVIDER, None] = Health(failures=1, cooldown_until=9.0)
                taken[targets, ill] = (
                    cpu_s(lambda: [fleet.candidates(request, route, 1.0) for _ in range(NAMES)]) / NAMES  # noqa: B023
                )
        for ill, words in ((False, "all well"), (True, "one cools down")):
            ratio, most_us = taken[50, ill] / taken[5, ill], taken[50, ill] * 1e6
            print(f"order of 50 candidates against 5, {strategy}, {words}: {ratio:.1f} x   ({most_us:.1f} us)")


async def pauses(providers: int, routes: int) -> None:
    """Print the longest time, in CPU of this process, for which nothing else got a turn on the event loop."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "providers.yaml"
        texts = [written(providers, routes, cooldown_s=5 + n) for n in range(4)]
        path.write_text(texts[0])
        app = create_app(str(path), {"log_file": str(Path(folder) / "log")})
        await app.start()
        try:
            for what, work in (
                ("nothing", lambda: asyncio.sleep(0.5)),
                ("a reload", lambda: _reloaded(app, path, texts)),
                ("GET /metrics", lambda: _got(app, "/metrics")),
                ("GET /providers", lambda: _got(app, "/providers")),
            ):
                worst, cpu = await _worst(work)
                print(
                    f"{providers} providers, {routes} routes, {what}: pause {worst * 1e3:.1f} ms, CPU {cpu * 1e3:.0f} ms"
                )
        finally:
            await app.stop()


async def _worst(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Return the longest pause and the CPU of `work`, the best of three times, in seconds."""
    found = []
    for _ in range(3):
        gaps = [0.0]

        async def tick(gaps: list[float] = gaps) -> None:
            last = time.process_time()
            while True:
                await asyncio.sleep(TICK_S)
                now = time.process_time()
                gaps.append(now - last)
                last = now

        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0.01)
        begun = time.process_time()
        await work()
        cpu = time.process_time() - begun
        await asyncio.sleep(0.01)
        ticking.cancel()
        found.append((max(gaps), cpu))
    return min(found)


async def _reloaded(app: App, path: Path, texts: list[str]) -> None:
    texts.append(texts.pop(0))
    await asyncio.to_thread(path.write_text, texts[0])
    _, problems, _ = await app.reload()
    if problems:
        raise RuntimeError(str(problems[0]))


async def _got(app: App, path: str) -> None:
    scope = {
        "type": "http", "path": path, "raw_path": path.encode(), "method": "GET", "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "scheme": "http", "http_version": "1.1",
        "query_string": b"", "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    statuses: list[int] = []

    async def receive() -> dict[str, object]:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(int(str(message["status"])))

    await app(scope, receive, send)
    if statuses != [200]:
        raise RuntimeError(f"{path}: {statuses}")


def main() -> int:
    """Measure all of it."""
    reading()
    looking_up()
    ordering()
    asyncio.run(pauses(200, 2000))
    asyncio.run(pauses(1000, 10_000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
