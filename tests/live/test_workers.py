"""Four workers as one balancer: limits hold in a burst, and what one of them knows, all know. Real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest
from commands.conftest import Start, start
from supervisor.processes import children, log, until

__all__ = ["start"]  # a fixture

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

WORKERS = 4

FILE = """\
providers:
  - {name: bounded, type: simulated, simulated_config: {latency: 0, speed: 30}, max_in_flight: 7}
  - {name: open, type: simulated, simulated_config: {latency: 0, speed: 30}}
model_routes:
  "open*": [{provider: open, model: passthrough, priority: 1}]
  "*": [{provider: bounded, model: passthrough, priority: 1}, {provider: open, model: passthrough, priority: 2}]
settings:
  drain_timeout: 5
  drills: true
  limits: {max_in_flight: 40, queue_s: 0.1}
  auth:
    keys:
      - {name: all, key: key-of-everybody-0000000000000, rights: [messages, read, admin]}
      - {name: some, key: key-of-some-0000000000000000000, max_in_flight: 6}
      - {name: few, key: key-of-few-00000000000000000000, rpm: 25}
"""

ALL, SOME, FEW = "key-of-everybody-0000000000000", "key-of-some-0000000000000000000", "key-of-few-00000000000000000000"


async def _burst(url: str, count: int, key: str = ALL, model: str = "open", tokens: int = 30) -> list[httpx2.Response]:
    """Send so many requests at once, each on a connection of its own."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx2.AsyncClient(limits=limits, timeout=60, headers={"x-api-key": key}) as client:

        async def one(number: int) -> httpx2.Response:
            words = [{"role": "user", "content": f"{key} {model} question {number}"}]
            asked = {"model": model, "max_tokens": tokens, "stream": True, "messages": words}
            return await client.post(f"{url}/v1/messages", json=asked)

        return await asyncio.gather(*(one(number) for number in range(count)))


def _statuses(answers: list[httpx2.Response]) -> dict[int, int]:
    return dict(Counter(answer.status_code for answer in answers))


def _providers(url: str) -> dict[str, Any]:
    shown: dict[str, Any] = httpx2.get(f"{url}/providers", headers={"x-api-key": ALL}).json()
    return shown


async def test_four_workers_are_one_balancer(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "providers.yaml"
    file.write_text(FILE)
    file.chmod(0o600)
    running = start("--port", "0", "--workers", str(WORKERS))
    until(lambda: running.out, 90)
    url = running.out[0].split(" on ")[1].split(": ")[0]
    until(lambda: _providers(url)["workers"]["answered"] == WORKERS, 90)

    assert _statuses(await _burst(url, 200)) == {200: 32, 503: 168}, "a key has four fifths of the places"
    answered = Counter(answer.headers.get("x-balancer-provider") for answer in await _burst(url, 25, model="any"))
    assert answered == {"bounded": 7, "open": 18}
    assert _statuses(await _burst(url, 30, key=SOME)) == {200: 6, 429: 24}
    assert 25 <= _statuses(await _burst(url, 60, key=FEW))[200] < 25 + WORKERS, "at the very same moment one more each"
    assert _providers(url)["in_flight"] == 0

    counts = {_counted(url) for _ in range(20)}
    assert len(counts) == 1

    stopped = children(running)[1]
    os.kill(stopped, signal.SIGSTOP)
    shown = _providers(url)
    assert len(shown["workers"]["silent"]) == 1
    assert _counted(url) == max(counts), "what it has told stands"
    os.kill(stopped, signal.SIGCONT)
    await asyncio.to_thread(until, lambda: not _providers(url)["workers"]["silent"])

    killed = asyncio.ensure_future(_burst(url, 20, tokens=90))
    await asyncio.to_thread(until, lambda: _providers(url)["in_flight"] >= 20)
    os.kill(children(running)[0], signal.SIGKILL)
    with pytest.raises(httpx2.HTTPError):
        await killed
    await asyncio.to_thread(until, lambda: _providers(url)["in_flight"] == 0)
    served = _statuses(await _burst(url, 60))[200]
    assert 32 <= served <= 36, "no place was lost; who reaches the new worker late may find one that is free again"
    await asyncio.to_thread(until, lambda: not _open(tmp_path))
    assert _counted(url) == len(log(tmp_path, "request_ended"))
    assert len(log(tmp_path, "worker_ended")) == 1


def _open(folder: Path) -> set[str]:
    """Return the requests that have begun and not ended, by the log."""
    began, ended = ({line["id"] for line in log(folder, f"request_{word}")} for word in ("began", "ended"))
    return began - ended


def _counted(url: str) -> int:
    text = httpx2.get(f"{url}/metrics", headers={"x-api-key": ALL}).text
    lines = [line for line in text.splitlines() if line.startswith("balancer_requests_total{")]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines)
