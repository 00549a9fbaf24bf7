"""`balancer demo`: a balancer on a free port, simulated providers, one of them failing in changing ways.

Everything is real but the models: the requests go over a socket, the fault is ordered as
`balancer drill` orders it, and with -v the lines of the log are those that the balancer always writes.
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

from balancer.app import create_app
from balancer.commands import addresses, calling, reading
from balancer.commands.invocation import hint
from balancer.dialects.simulated import faults as drills
from balancer.server import run as server
from balancer.server.listening import listening

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


WIDTHS = (6, 11, 0)
"""Of the columns, in characters: requests that were served, what clients saw of the fault, the fault."""


@dataclass(slots=True)
class Tally:
    """What clients saw while the provider had one fault."""

    fault: str
    requests: int = 0
    whole: int = 0
    told: int = 0
    """Answers that broke after content, and said so; the client then asked again."""
    attempts: list[int] = field(default_factory=list)

    @property
    def scenario(self) -> str:
        return f"{ILL} {drills.FAULTS[self.fault].words}" if self.fault else "nothing fails"

    @property
    def seen(self) -> str:
        if self.whole < self.requests:
            return "FAILED"
        if self.told:
            return "asked again"
        return "hidden" if max(self.attempts, default=1) > 1 else "-"


def run(args: argparse.Namespace) -> int:
    """Return 0 if every request was answered, else 1."""
    with tempfile.TemporaryDirectory(prefix="balancer-demo-") as folder:
        path = Path(folder) / "providers.yaml"
        path.write_text(CONFIG + f'  log_file: "{folder}/logs.jsonl"\n')
        return asyncio.run(_show(path, "INFO" if args.verbose else "CRITICAL"))


async def _show(path: Path, log_level: str) -> int:
    app = create_app(str(path), {"host": "127.0.0.1", "log_level": log_level})
    sock = listening("127.0.0.1", 0)
    url = addresses.url("127.0.0.1", sock.getsockname()[1])
    running = server.Server(server.configured(app, drain_s=2))
    serving = asyncio.create_task(running.serve([sock]))
    print(f"A balancer on {url} with three simulated providers: main, second, third.")
    print(f"main is asked first and fails in another way each time, while {AT_ONCE} clients send a request.\n")
    print(_columns("served", "for clients", "while"), flush=True)
    tallies = []
    try:
        for fault in ("", *FAULTS, ""):
            if running.should_exit:
                break
            tallies.append(await _phase(url, fault))
            tally = tallies[-1]
            print(_columns(f"{tally.whole} of {tally.requests}", tally.seen, tally.scenario), flush=True)
        view = await asyncio.to_thread(calling.call, url, "/providers")
    finally:
        running.should_exit = True
        await serving
    return _sum_up(tallies, view)


def _columns(*cells: str) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True))


async def _phase(url: str, fault: str) -> Tally:
    """Let clients ask at once while `main` has one fault, then let it recover."""
    if fault:
        await asyncio.to_thread(calling.call, url, "/admin/drill", None, {"provider": ILL, "fault": fault})
    tally = Tally(fault)
    await asyncio.gather(*(asyncio.to_thread(_client, url, tally) for _ in range(AT_ONCE)))
    if fault:
        await asyncio.to_thread(calling.call, url, "/admin/drill", None, {"provider": ILL, "fault": None})
    await asyncio.sleep(REST_S)  # its cooldown is over then: the next request finds out that it has recovered
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


def _sum_up(tallies: list[Tally], view: dict[str, Any]) -> int:
    requests, whole = sum(t.requests for t in tallies), sum(t.whole for t in tallies)
    told = sum(t.told for t in tallies)
    asked = ", ".join(f"{p['name']} {p['requests']} ({p['failures']} failed)" for p in view["providers"])
    print(f"\nRequests to each provider: {asked}")
    print(
        f"{whole} of {reading.counted(requests, 'request')} answered. hidden: another provider answered instead. "
        f"asked again:\n{reading.counted(told, 'answer')} broke after it had begun, and the client was told.\n"
    )
    print(f"Next: {hint('run')}\nWith providers of your own: {hint('init')}")
    return 0 if whole == requests else 1
