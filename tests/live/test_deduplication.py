"""The same question at the same time is asked once: over real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from live.harness import (
    Peer,
    Running,
    Seen,
    Upstream,
    balancer,
    block,
    configuration,
    delta,
    error,
    eventually,
    good,
    start,
    stop,
)

pytestmark = pytest.mark.live

ASK: dict[str, Any] = {"model": "m", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hi"}]}


class Gated:
    """Begins its answer, and ends it when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await peer.chunk(start() + block() + delta("one "))
        await self.go.wait()
        await peer.chunk(delta("two") + stop())
        await peer.end()


async def get(running: Running, key: str = "k", **more: Any) -> tuple[int, str, bytes]:
    """Ask over a connection of its own; return status, role and body."""
    body = json.dumps({**ASK, **more}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=2**20)
    writer.write(
        f"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nx-api-key: {key}\r\n"
        f"content-length: {len(body)}\r\n\r\n".encode()
        + body
    )
    try:  # a client that is cancelled leaves
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        role = head.partition("x-balancer-dedup: ")[2].partition("\r\n")[0]
        got = b""
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            got += (await reader.readexactly(size + 2))[:-2]
        return int(head.split()[1]), role, got
    finally:
        writer.close()


async def begun(running: Running, count: int) -> None:
    """Return when so many requests have come in."""
    await eventually(lambda: sum(line["event"] == "request_began" for line in running.log()) == count, 40)


async def test_a_thousand_streams_are_one() -> None:
    gated = Gated()
    async with Upstream(gated) as up, balancer(configuration(up)) as running:
        asking = [asyncio.ensure_future(get(running)) for _ in range(1000)]
        await begun(running, 1000)
        gated.go.set()
        answers = await asyncio.gather(*asking)

        assert len(up.asked) == 1
        assert {status for status, _, _ in answers} == {200}
        assert len({body for _, _, body in answers}) == 1
        assert answers[0][2].endswith(b'{"type": "message_stop"}\n\n')
        assert sorted(role for _, role, _ in answers) == ["follower"] * 999 + ["leader"]


async def test_different_clients_and_different_questions_are_not_joined() -> None:
    gated = Gated()
    async with Upstream(gated) as up, balancer(configuration(up)) as running:
        asking = [asyncio.ensure_future(get(running, key, max_tokens=tokens)) for key in "ab" for tokens in (1, 2)]
        await eventually(lambda: len(up.asked) == 4)
        gated.go.set()
        await asyncio.gather(*asking)


async def test_one_after_the_other_is_asked_twice() -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        await get(running)
        await get(running)

        assert len(up.asked) == 2


async def test_switched_off_everybody_asks_for_himself() -> None:
    gated = Gated()
    async with (
        Upstream(gated) as up,
        balancer(configuration(up, settings="deduplication: {enabled: false}")) as running,
    ):
        asking = [asyncio.ensure_future(get(running)) for _ in range(3)]
        await eventually(lambda: len(up.asked) == 3)
        gated.go.set()
        assert {role for _, role, _ in await asyncio.gather(*asking)} == {""}


async def test_the_first_may_leave_and_the_last_ends_it() -> None:
    gated = Gated()
    async with Upstream(gated) as up, balancer(configuration(up)) as running:
        leader, follower, last = (asyncio.ensure_future(get(running)) for _ in range(3))
        await begun(running, 3)
        leader.cancel()
        follower.cancel()
        last.cancel()
        await eventually(lambda: up.left == 1)
        assert len(up.asked) == 1

    gated = Gated()
    async with Upstream(gated) as up, balancer(configuration(up)) as running:
        leader, follower = (asyncio.ensure_future(get(running)) for _ in range(2))
        await begun(running, 2)
        leader.cancel()
        await asyncio.gather(leader, return_exceptions=True)
        gated.go.set()
        status, role, body = await follower
        assert (status, role) == (200, "follower")
        assert body.endswith(b'{"type": "message_stop"}\n\n')


async def test_a_failover_happens_once_for_all() -> None:
    go = asyncio.Event()

    async def overloaded(seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await go.wait()
        await peer.chunk(start() + error())
        await peer.end()

    async with Upstream(overloaded) as a, Upstream(good) as b, balancer(configuration(a, b)) as running:
        asking = [asyncio.ensure_future(get(running)) for _ in range(20)]
        await begun(running, 20)
        go.set()
        answers = await asyncio.gather(*asking)
        ends = await running.ended(20)

        assert (len(a.asked), len(b.asked)) == (1, 1)
        assert sorted(end["dedup"] for end in ends) == ["follower"] * 19 + ["leader"]
        assert {(end["provider"], end["provider_model"]) for end in ends} == {("b", "m")}
        assert len({body for _, _, body in answers}) == 1
        assert all(body.count(b"event: message_start") == 1 for _, _, body in answers)


async def test_a_burst_of_counting_costs_one() -> None:
    ask = {key: value for key, value in ASK.items() if key not in ("stream", "max_tokens")}
    async with (
        Upstream() as up,
        balancer(configuration(up)) as running,
        httpx2.AsyncClient(base_url=running.url) as http,
    ):
        for _ in range(3):
            answers = await asyncio.gather(*(http.post("/v1/messages/count_tokens", json=ask) for _ in range(8)))
            assert {answer.json()["input_tokens"] for answer in answers} == {42}

        assert len(up.seen) == 1


async def test_a_good_answer_is_replayed_and_one_that_broke_off_is_not() -> None:
    breaks = True

    async def behaviour(seen: Seen, peer: Peer) -> None:
        if not breaks:
            await good(seen, peer)
            return
        await peer.sse()
        await peer.chunk(start() + block() + delta("one "))
        peer.reset()

    settings = "on_broken_stream: error_event, failure_cooldown: 0, deduplication: {replay_s: 30}"
    async with Upstream(behaviour) as up, balancer(configuration(up, settings=settings)) as running:
        _, role, broken = await get(running)
        assert b"event: error" in broken
        breaks = False
        _, again, whole = await get(running)
        _, replayed, same = await get(running)

        assert (role, again, replayed) == ("leader", "leader", "follower")
        assert b"message_stop" in whole
        assert same == whole
        assert len(up.asked) == 2
