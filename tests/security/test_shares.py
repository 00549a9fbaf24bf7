"""What one client takes from the others: line 21 of the checklist, as attacks."""

from __future__ import annotations

import asyncio
import contextlib
import resource

import pytest
from live.harness import Peer, Seen, Upstream, balancer, configuration, eventually, good
from security.attacks import KEY, OTHER_KEY, QUESTION, ask, exchange, question, request, status

pytestmark = pytest.mark.live

DESCRIPTORS = 200


async def test_one_key_leaves_places_for_another() -> None:
    release = asyncio.Event()

    async def slow(seen: Seen, peer: Peer) -> None:
        if b"slow" in seen.body:
            await release.wait()
        await good(seen, peer)

    settings = f"limits: {{max_in_flight: 10, queue_s: 20}}, auth: {{keys: [{KEY}, {OTHER_KEY}]}}"
    async with Upstream(slow) as upstream, balancer(configuration(upstream, settings=settings)) as running:
        flood = [
            asyncio.ensure_future(ask(running, question(f"slow {number}"), f"x-api-key: {KEY}")) for number in range(40)
        ]
        await eventually(lambda: len(upstream.asked) >= 8)
        answer = await ask(running, QUESTION, f"x-api-key: {OTHER_KEY}")
        release.set()
        await asyncio.gather(*flood)

    assert status(answer) == 200


async def test_silent_connections_keep_nobody_out() -> None:
    """Twice as many as there are descriptors, from an address of their own."""
    settings = f"auth: {{keys: [{KEY}]}}"
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({DESCRIPTORS},) * 2)"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2000:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(2000, hard), hard))
    async with Upstream() as upstream, balancer(configuration(upstream, settings=settings), before=limited) as running:
        held: list[asyncio.StreamWriter] = []
        for _ in range(2 * DESCRIPTORS):
            with contextlib.suppress(OSError, TimeoutError):
                held.append((await asyncio.wait_for(asyncio.open_connection("127.0.0.1", running.port), 2))[1])
        answer = await exchange(running.port, request(QUESTION, f"x-api-key: {KEY}"), 10, source="127.0.0.2")
        for writer in held:
            writer.close()

    assert status(answer) == 200
    assert b"Too many open files" not in running.output
