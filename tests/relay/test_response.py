"""What keeps a client's connection alive, and what ends it."""

from __future__ import annotations

import asyncio
import time

import pytest
from stand_ins import Taker

from balancer.relay import response as delivery
from balancer.relay.response import ClientResponse, Watch
from balancer.wire.stream import PING


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "HOLD_MAX_S", 0.05)
    monkeypatch.setattr(delivery, "PING_S", 0.05)
    monkeypatch.setattr(delivery, "STUCK_S", 0.15)


def to(taker: Taker, *, stream: bool = True) -> ClientResponse:
    watch = Watch(time.monotonic)
    return ClientResponse(taker, watch, asyncio.current_task(), stream, ((b"x-own", b"1"),), watch.now())


class Counting(Taker):
    """Says when it has so many pings."""

    def __init__(self, enough: int) -> None:
        super().__init__()
        self._enough = enough
        self.enough = asyncio.Event()

    async def write(self, data: bytes, *, last: bool = False) -> None:
        await super().write(data, last=last)
        if self.body.count(PING) >= self._enough:
            self.enough.set()


class Stuck(Taker):
    """Takes nothing."""

    async def write(self, data: bytes, *, last: bool = False) -> None:
        await asyncio.Event().wait()


async def test_a_stream_that_does_not_begin_is_opened_and_pinged() -> None:
    taker = Counting(2)
    with to(taker) as given:
        await taker.enough.wait()
        assert given.opened
        assert not given.committed
        given.start(503, ())  # too late for another status
        await given.write(b"event: message_start\n\n", last=True)

    assert taker.status == 200
    assert taker.headers[b"x-own"] == b"1"
    assert taker.headers[b"content-type"].startswith(b"text/event-stream")
    assert taker.body.replace(PING, b"") == b"event: message_start\n\n"
    assert taker.end == "whole"


async def test_a_stream_that_falls_silent_after_content_is_pinged_too() -> None:
    taker = Counting(2)
    with to(taker) as given:
        given.start(200, ())
        await given.write(b"content")
        await taker.enough.wait()
        await given.finish()

    assert taker.body.startswith(b"content" + PING)


async def test_a_whole_answer_is_never_pinged() -> None:
    taker = Counting(1)
    with to(taker, stream=False) as given:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await taker.enough.wait()
        given.start(503, ())
        await given.write(b"{}", last=True)

    assert (taker.status, taker.body) == (503, b"{}")


async def test_nothing_follows_the_end() -> None:
    taker = Counting(1)
    with to(taker) as given:
        given.start(200, ())
        await given.write(b"all", last=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await taker.enough.wait()

    assert taker.body == b"all"


async def test_a_ping_that_is_due_when_the_answer_ends_is_not_sent() -> None:
    given_it: list[bytes] = []

    class Slow(Taker):
        async def write(self, data: bytes, *, last: bool = False) -> None:
            given_it.append(data)
            await asyncio.sleep(0)

    taker, over = Slow(), asyncio.Event()
    with to(taker) as given:
        asyncio.get_running_loop().call_later(0.049, over.set)
        time.sleep(0.1)  # noqa: ASYNC251  both are due in the same turn of the loop
        await over.wait()
        given.start(503, ())
        await given.write(b"{}", last=True)

    assert (taker.status, given_it) == (503, [b"{}"])


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    async def answer(given: ClientResponse) -> None:
        with given:
            given.start(200, ())
            await given.write(b"content")

    given = to(Stuck())
    task = asyncio.create_task(answer(given))
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await task

    assert given.stuck


async def test_one_watch_looks_after_all_and_rests_when_there_is_nobody() -> None:
    watch = Watch(time.monotonic)
    early, late = Counting(1), Counting(1)
    with ClientResponse(early, watch, None, True, (), watch.now()) as first:
        await asyncio.sleep(0.03)
        with ClientResponse(late, watch, None, True, (), watch.now()) as second:
            await early.enough.wait()
            assert (first.opened, second.opened) == (True, False)
            await late.enough.wait()
    assert not watch.deliveries
    assert watch.timer is not None
    watch.timer.cancel()
    watch.look()
    assert watch.timer is None
