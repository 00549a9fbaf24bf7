"""`balancer demo`: a balancer on a free port, simulated providers, one of them ill in changing ways.

Everything is real but the models: the requests go over a socket, the illness is ordered as
`balancer drill` orders it, the lines are those that the balancer always writes.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from balancer import drills
from balancer.app import create_app
from balancer.commands import addresses, calling, reading, server

ILL = "main"

CONFIG = """\
providers:
  - {name: main, type: simulated, simulated_config: {latency: 0.1, speed: 120}}
  - {name: second, type: simulated, simulated_config: {latency: 0.15, speed: 120}}
  - {name: third, type: simulated, simulated_config: {latency: 0.2, speed: 120}}
model_routes:
  "*":
    - {provider: main, model: passthrough, priority: 1}
    - {provider: second, model: passthrough, priority: 2}
    - {provider: third, model: passthrough, priority: 3}
settings:
  failure_cooldown: {seconds: 0.5, backoff: constant}
  request_timeout: 1
  drills: true
"""

FAULTS = ("529", "refuse", "error_event", "empty", "html", "silent", "reset", "cut")
AT_ONCE = 3
TRIES = 3
"""How often the client asks when it was told that an answer broke: as Claude Code does."""

REST_S = 0.6
MODEL = "claude-sonnet-4-5"
BODY = {
    "model": MODEL,
    "max_tokens": 40,
    "stream": True,
    "messages": [{"role": "user", "content": "Why does a load balancer fail over?"}],
}


@dataclass(slots=True)
class Tally:
    """What clients saw while the provider had one illness."""

    fault: str
    requests: int = 0
    whole: int = 0
    told: int = 0
    """Answers that broke after content, and said so; the client then asked again."""
    attempts: list[int] = field(default_factory=list)

    @property
    def what(self) -> str:
        if self.whole < self.requests:
            return "NOT MASKED"
        return "told, and asked again" if self.told else "masked" if max(self.attempts, default=1) > 1 else "-"


def run(args: argparse.Namespace) -> int:
    """Return 0 if every request was answered, else 1."""
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="balancer-demo-") as folder:
        path = Path(folder) / "providers.yaml"
        path.write_text(CONFIG + f'  log_file: "{folder}/logs.jsonl"\n')
        return asyncio.run(_show(console, path))


async def _show(console: Console, path: Path) -> int:
    app = create_app(str(path), {"host": "127.0.0.1", "log_level": "INFO"})
    sock = server.listening("127.0.0.1", 0)
    url = addresses.url("127.0.0.1", sock.getsockname()[1])
    running = server.Server(server.configured(app, drain_s=2))
    serving = asyncio.create_task(running.serve([sock]))
    console.print(f"A balancer on {url} with three simulated providers: main, second, third. main is asked first.\n")
    try:
        tallies = [await _phase(console, url, "")]
        for fault in FAULTS:
            if running.should_exit:
                break
            tallies.append(await _phase(console, url, fault))
        tallies.append(await _phase(console, url, ""))
        view = await asyncio.to_thread(calling.call, url, "/providers")
    finally:
        running.should_exit = True
        await serving
    return _sum_up(console, tallies, view)


async def _phase(console: Console, url: str, fault: str) -> Tally:
    """Let clients ask at once while `main` has one illness, then let it recover."""
    words = f"{ILL} {drills.FAULTS[fault].words}" if fault else "everybody is well"
    console.print(f"--- {words}", style="bold", highlight=False)
    if fault:
        await asyncio.to_thread(calling.call, url, "/admin/drill", None, {"provider": ILL, "fault": fault})
    tally = Tally(fault)
    await asyncio.gather(*(asyncio.to_thread(_client, url, tally) for _ in range(AT_ONCE)))
    if fault:
        await asyncio.to_thread(calling.call, url, "/admin/drill", None, {"provider": ILL, "fault": None})
    await asyncio.sleep(REST_S)  # its rest is over then: the next request finds out that it is well
    return tally


def _client(url: str, tally: Tally) -> None:
    """Ask until an answer is whole, as a client does that is told when one is not."""
    tally.requests += 1
    for _ in range(TRIES):
        attempts, whole = _ask(url)
        tally.attempts.append(attempts)
        if whole:
            tally.whole += 1
            return
        tally.told += 1


def _ask(url: str) -> tuple[int, bool]:
    """Return how many providers were asked, and whether the answer is whole."""
    with _connected(url) as connection:
        connection.request("POST", "/v1/messages", json.dumps(BODY), {"content-type": "application/json"})
        answer = connection.getresponse()
        attempts = int(answer.headers.get("x-balancer-attempts") or 1)
        try:
            body = answer.read()
        except (http.client.HTTPException, OSError):
            return attempts, False
        return attempts, answer.status == 200 and b"event: message_stop" in body and b"event: error" not in body


@contextmanager
def _connected(url: str) -> Iterator[http.client.HTTPConnection]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def _sum_up(console: Console, tallies: list[Tally], view: dict[str, Any]) -> int:
    phases = Table("main ...", "requests", "answered", "for the clients it was", title="What clients saw")
    for tally in tallies:
        words = drills.FAULTS[tally.fault].words if tally.fault else "is well"
        phases.add_row(words, str(tally.requests), str(tally.whole), tally.what)
    providers = Table("provider", "asked", "answered", "failed", title="Who was asked")
    for provider in view["providers"]:
        counts = (str(provider[key]) for key in ("requests", "successes", "failures"))
        providers.add_row(provider["name"], *counts)
    console.print()
    console.print(phases)
    console.print(providers)
    requests, whole = sum(t.requests for t in tallies), sum(t.whole for t in tallies)
    told = sum(t.told for t in tallies)
    console.print(
        f"{whole} of {reading.counted(requests, 'request')} answered; of their answers {told} broke half way, said "
        "so, and was asked for again. Now your own: cp providers.example.yaml providers.yaml && balancer serve",
        highlight=False,
    )
    return 0 if whole == requests else 1
