"""A balancer with its workers as processes, and clients that ask it while something is done to it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
from commands.conftest import Running

WITHIN_S = 30.0

PAUSE_S = 0.02
"""Between two requests of a client: those who start have to get some time too."""

FILE = """\
providers:
  - {name: quick, type: simulated, simulated_config: {latency: 0, speed: 0}}
  - {name: slow, type: simulated, simulated_config: {latency: 0, speed: 10}}
model_routes:
  "*slow*": [{provider: slow, model: passthrough, priority: 1}]
  "*": [{provider: quick, model: passthrough, priority: 1}]
settings: {drain_timeout: 60, log_level: INFO}
"""


def children(running: Running) -> list[int]:
    """Return the processes that a balancer has started and that run."""
    pids = (Path("/proc") / str(running.process.pid) / "task" / str(running.process.pid) / "children").read_text()
    return [int(pid) for pid in pids.split()]


def until(what: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    """Return what a function returns as soon as that is true."""
    ends = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.02)
    return found


def log(folder: Path, event: str = "") -> list[dict[str, Any]]:
    """Return the lines of the log."""
    path = folder / "logs" / "logs.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if event in ("", line["event"])]


def body(**more: Any) -> dict[str, Any]:
    return {"model": "claude-x", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]} | more


class Load:
    """Clients that ask all the time, some on connections that stay open, some on a new one each time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._stopping = False

    async def stream(self, client: httpx2.AsyncClient, tokens: int, began: asyncio.Event) -> bool:
        """Return whether a stream of so many tokens came whole."""
        last = ""
        asked = body(model="claude-slow", stream=True, max_tokens=tokens)
        async with client.stream("POST", f"{self.url}/v1/messages", json=asked) as answer:
            async for line in answer.aiter_lines():
                began.set()
                last = line or last
        return answer.status_code == 200 and "message_stop" in last

    async def ask(self, client: httpx2.AsyncClient, number: int) -> None:
        began = time.monotonic()
        try:
            asked = body(messages=[{"role": "user", "content": f"question {number}"}])
            answer = await client.post(f"{self.url}/v1/messages", json=asked)
            self.answers[str(answer.status_code)] += 1
        except httpx2.HTTPError as error:
            self.answers[type(error).__name__] += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    async def _one_after_the_other(self, keeps: bool, least: int) -> None:
        number = 0
        limits = httpx2.Limits(max_keepalive_connections=1 if keeps else 0)
        async with httpx2.AsyncClient(limits=limits, timeout=30) as client:
            while not self._stopping or sum(self.answers.values()) < least:
                number += 1
                await self.ask(client, number)
                await asyncio.sleep(PAUSE_S)

    async def during(
        self, work: Callable[[], Awaitable[Any]], *, streams: int, tokens: int = 60, least: int = 1000
    ) -> tuple[Any, Counter[bool]]:
        """Ask while `work` is done, and at least so often; return what it returns, and how many streams came whole."""
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(limits=limits, timeout=60) as client:
            begun = [asyncio.Event() for _ in range(streams)]
            open_streams = [asyncio.ensure_future(self.stream(client, tokens, began)) for began in begun]
            await asyncio.gather(*(asyncio.wait_for(began.wait(), WITHIN_S) for began in begun))
            clients = [asyncio.ensure_future(self._one_after_the_other(keeps, least)) for keeps in (True, False) * 4]
            done = await work()
            self._stopping = True
            await asyncio.gather(*clients)
            return done, Counter(await asyncio.gather(*open_streams))
