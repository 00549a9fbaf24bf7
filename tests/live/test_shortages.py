"""A machine that is short of something: no provider is blamed, it is said and counted, and it passes."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from live.harness import Running, Upstream, balancer, configuration, eventually

pytestmark = pytest.mark.live

ASK: dict[str, Any] = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


@contextmanager
def limited(running: Running, which: int, soft: int) -> Iterator[None]:
    """Lower a limit of a balancer that runs, and put it back."""
    pid = running.process.pid
    before = resource.prlimit(pid, which)
    resource.prlimit(pid, which, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, which, before)


def lowest_free_descriptor(running: Running) -> int:
    used = set(map(int, os.listdir(f"/proc/{running.process.pid}/fd")))
    return next(number for number in itertools.count() if number not in used)


async def metric(http: httpx2.AsyncClient, name: str) -> float:
    text = (await http.get("/metrics")).text
    return float(next(line for line in text.splitlines() if line.startswith(name)).rpartition(" ")[2])


async def test_without_descriptors_nobody_is_blamed_and_the_client_may_come_again() -> None:
    async with Upstream() as one, Upstream() as two, balancer(configuration(one, two)) as running:
        async with httpx2.AsyncClient(base_url=running.url) as http:
            await http.post("/providers/reload")  # so that the log is open
            await eventually(lambda: bool(running.log()))
            with limited(running, resource.RLIMIT_NOFILE, lowest_free_descriptor(running)):
                answers = [await http.post("/v1/messages", json=ASK) for _ in range(3)]
                assert (await http.get("/health")).status_code == 200
                seen = (await http.get("/providers")).json()
                counted = await metric(http, 'balancer_local_faults_total{kind="descriptors"}')
            after = await http.post("/v1/messages", json=ASK)
        await running.ended(4)
        told = [line for line in running.log() if line["event"] == "said" and "short of descriptors" in line["message"]]

    assert [answer.status_code for answer in answers] == [503] * 3
    assert answers[0].headers["retry-after"] == "1"
    assert "short of" in answers[0].json()["error"]["message"]
    assert [(p["state"], p["failure_count"], p["last_error"]) for p in seen["providers"]] == [("healthy", 0, None)] * 2
    assert counted >= 3
    assert len(told) == 1
    assert after.status_code == 200


async def test_a_busy_balancer_with_few_descriptors_still_says_that_it_lives() -> None:
    async with Upstream() as up, balancer(configuration(up, settings="limits: {max_connections: 2}")) as running:
        held = [await _open(running) for _ in range(2)]
        try:
            async with httpx2.AsyncClient(base_url=running.url) as http:
                health = await http.get("/health")
            async with httpx2.AsyncClient(base_url=running.url) as http:
                refused = await http.post("/v1/messages", json=ASK)
        finally:
            for one in held:
                one.close()
    assert health.status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "limits.max_connections" in refused.json()["error"]["message"]


async def _open(running: Running) -> asyncio.StreamWriter:
    """Return a connection with a request that is not whole."""
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\n")
    writer.write(b"content-type: application/json\r\ncontent-length: 99\r\n\r\n{")
    await writer.drain()
    return writer


async def test_a_disk_that_is_full_costs_log_lines_which_are_counted_and_no_requests() -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        path = running.folder / "logs" / "logs.jsonl"
        async with httpx2.AsyncClient(base_url=running.url) as http:
            await http.post("/v1/messages", json=ASK)
            await running.ended()
            with limited(running, resource.RLIMIT_FSIZE, path.stat().st_size + 100):
                answers = [await http.post("/v1/messages", json=ASK) for _ in range(5)]
                lost = 0.0
                while lost < 10:
                    lost = await metric(http, "balancer_log_lines_lost_total")
                assert await metric(http, 'balancer_local_faults_total{kind="disk"}') >= 1
            answers.append(await http.post("/v1/messages", json=ASK))
            await eventually(lambda: path.read_text().count("request_ended") == 2)
            assert await metric(http, "balancer_log_lines_lost_total") == lost
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    told = [line["message"] for line in lines if line["event"] == "said" and "not written" in line["message"]]
    assert {answer.status_code for answer in answers} == {200}
    assert told == [f"{lost:.0f} lines before this one were not written: File too large"]
    assert running.output.count(b"can't be written") == 1
