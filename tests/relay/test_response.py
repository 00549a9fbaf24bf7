"""What keeps a client's connection alive, what ends it, and which state allows what."""

from __future__ import annotations

import asyncio

import pytest
from stand_ins import Taker
from virtual_time import in_virtual_time
from worlds import Quick, Stuck

from balancer.relay.limits import RelayLimits
from balancer.relay.response import STREAM_HEADERS, ClientResponse, ResponseState, Watch
from balancer.wire.stream import PING

S = ResponseState


def now() -> float:
    return asyncio.get_running_loop().time()


def to(taker: Taker, *, stream: bool = True, limits: RelayLimits | None = None) -> ClientResponse:
    watch = Watch(now, limits or RelayLimits())
    return ClientResponse(taker, watch, asyncio.current_task(), stream, ((b"x-own", b"1"),), watch.now())


class Timed(Taker):
    """A client that notes when it was given what."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[float, bytes]] = []

    async def write(self, data: bytes, *, last: bool = False) -> None:
        self.given.append((now(), data))
        await super().write(data, last=last)


# Pings


@in_virtual_time
async def test_a_stream_that_does_not_begin_is_opened_and_pinged() -> None:
    taker = Timed()
    with to(taker) as response:
        await asyncio.sleep(25)
        assert response.state is S.OPEN
        response.start(503, ())  # too late for another status
        await response.write(b"event: message_start\n\n", last=True)

    assert taker.given == [(10, PING), (20, PING), (25, b"event: message_start\n\n")]
    assert (taker.status, response.status) == (200, 200)
    assert taker.headers[b"x-own"] == b"1"
    assert taker.headers[b"content-type"].startswith(b"text/event-stream")
    assert taker.end == "whole"


@in_virtual_time
async def test_a_stream_that_falls_silent_after_content_is_pinged_too() -> None:
    taker = Timed()
    with to(taker) as response:
        await asyncio.sleep(1)
        response.commit(())
        await response.write(b"content")
        await asyncio.sleep(12)
        await response.finish()

    assert taker.given == [(1, b"content"), (11, PING), (13, b"")]
    assert (taker.body, taker.end) == (b"content" + PING, "whole")


@in_virtual_time
async def test_the_first_ping_and_those_that_follow_have_times_of_their_own() -> None:
    taker = Timed()
    with to(taker, limits=RelayLimits(hold_max_s=3, ping_s=7)):
        await asyncio.sleep(20)

    assert taker.given == [(3, PING), (10, PING), (17, PING)]


@in_virtual_time
async def test_a_stream_that_goes_on_is_never_pinged() -> None:
    client = Quick()
    with to(client) as response:
        response.commit(())
        for _ in range(30):
            assert response.put(b".")
            await asyncio.sleep(9)
        held = [b"e", b"nd"]
        assert response.give(held, last=True) is None

    assert client.body == b"." * 30 + b"end"
    assert held == []


@in_virtual_time
async def test_what_is_held_and_given_counts_as_given() -> None:
    client = Quick()
    with to(client) as response:
        response.commit(())
        for _ in range(5):
            assert response.give([b".", b"."], last=False) is None
            await asyncio.sleep(9)

    assert client.body == b"." * 10


@in_virtual_time
async def test_a_whole_answer_is_never_pinged() -> None:
    taker = Timed()
    with to(taker, stream=False) as response:
        await asyncio.sleep(300)
        response.start(503, ())
        await response.write(b"{}", last=True)

    assert (taker.status, taker.body) == (503, b"{}")


@in_virtual_time
async def test_nothing_follows_the_end() -> None:
    taker = Timed()
    with to(taker) as response:
        response.commit(())
        await response.write(b"all", last=True)
        await asyncio.sleep(300)
        await response.finish()

    assert taker.body == b"all"


@in_virtual_time
async def test_a_ping_that_is_due_when_the_answer_ends_is_not_sent() -> None:
    given: list[bytes] = []

    class Slow(Taker):
        async def write(self, data: bytes, *, last: bool = False) -> None:
            given.append(data)
            await asyncio.sleep(0)

    taker, over = Slow(), asyncio.Event()
    with to(taker) as response:
        asyncio.get_running_loop().call_later(10 - 1e-10, over.set)  # in the turn in which the first look is due
        await over.wait()
        response.start(503, ())
        await response.write(b"{}", last=True)

    assert (taker.status, given) == (503, [b"{}"])


@in_virtual_time
async def test_a_ping_under_way_ends_with_the_response() -> None:
    stuck = Stuck()
    with to(stuck) as response:
        await stuck.begun.wait()  # the ping waits
        assert response.state is S.OPEN
    await asyncio.sleep(0)

    assert stuck.body == b""
    assert len(asyncio.all_tasks()) == 1


# Stuck clients


@pytest.mark.parametrize("last", [False, True], ids=["in the middle", "with the last of it"])
@in_virtual_time
async def test_a_client_that_takes_nothing_is_cut_off(last: bool) -> None:
    began = now()
    response = to(Stuck())

    async def answer() -> None:
        with response:
            response.commit(())
            await response.write(b"content", last=last)

    task = asyncio.create_task(answer())
    response._owner = task
    with pytest.raises(asyncio.CancelledError):
        await task

    assert response.state is S.STUCK
    assert now() - began == 120


@in_virtual_time
async def test_a_client_that_takes_no_ping_is_cut_off() -> None:
    response = to(Stuck())

    async def answer() -> None:
        with response:
            await asyncio.Event().wait()

    task = asyncio.create_task(answer())
    response._owner = task
    with pytest.raises(asyncio.CancelledError):
        await task

    assert response.state is S.STUCK
    assert now() == 130


@in_virtual_time
async def test_without_an_owner_there_is_nobody_to_cancel() -> None:
    response = to(Stuck())
    response._owner = None
    with response:
        response.commit(())
        writing = asyncio.create_task(response.write(b"content"))
        await asyncio.sleep(500)
        assert response.state is S.COMMITTED
    writing.cancel()


@in_virtual_time
async def test_a_client_that_is_stuck_is_cancelled_once() -> None:
    cancelled: list[float] = []

    class Deaf:
        def cancel(self) -> None:
            cancelled.append(now())

    response = to(Stuck())
    response._owner = Deaf()  # type: ignore[assignment]
    with response:
        response.commit(())
        writing = asyncio.create_task(response.write(b"content"))
        await asyncio.sleep(500)
    writing.cancel()

    assert len(cancelled) == 1


@in_virtual_time
async def test_a_client_that_is_slow_but_takes_something_is_not_stuck() -> None:
    class Slow(Taker):
        async def write(self, data: bytes, *, last: bool = False) -> None:
            await asyncio.sleep(100)
            await super().write(data, last=last)

    taker = Slow()
    with to(taker) as response:
        response.commit(())
        for _ in range(5):
            await response.write(b"content")
            assert response.state is S.COMMITTED
        await response.finish()

    assert taker.body == b"content" * 5


@in_virtual_time
async def test_the_time_that_a_provider_took_is_not_the_clients() -> None:
    class Slow(Taker):
        async def write(self, data: bytes, *, last: bool = False) -> None:
            await asyncio.sleep(100)
            await super().write(data, last=last)

    taker = Slow()
    with to(taker, stream=False) as response:
        await asyncio.sleep(500)  # nothing is sent to the client of a whole answer meanwhile
        response.commit(())
        await response.write(b"all", last=True)

    assert (taker.end, response.state) == ("whole", S.OVER)


@in_virtual_time
async def test_a_second_write_gives_a_stuck_client_no_more_time() -> None:
    """A ping waits already when content comes."""
    response = to(Stuck())

    async def answer() -> None:
        with response:
            await asyncio.sleep(100)
            response.commit(())
            await response.write(b"content")

    task = asyncio.create_task(answer())
    response._owner = task
    with pytest.raises(asyncio.CancelledError):
        await task

    assert 130 <= now() < 141


# States


async def _committed(response: ClientResponse) -> None:
    response.commit(((b"x-more", b"2"),))


async def _written(response: ClientResponse) -> None:
    response.commit(())
    await response.write(b"all", last=True)


async def _given(response: ClientResponse) -> None:
    response.commit(())
    assert response.give([b"all"], last=True) is None


async def _failed(response: ClientResponse) -> None:
    response.start(200, STREAM_HEADERS)
    await response.fail(b"event: error\n\n")


async def _nothing(response: ClientResponse) -> None:
    return


async def _started(response: ClientResponse) -> None:
    response.start(404, ())


STATES = {
    "nothing yet": (_nothing, S.SILENT, 0, ""),
    "a head": (_started, S.OPEN, 404, ""),
    "content": (_committed, S.COMMITTED, 200, ""),
    "all, waiting": (_written, S.OVER, 200, "whole"),
    "all, at once": (_given, S.OVER, 200, "whole"),
    "an error event": (_failed, S.OVER, 200, "whole"),
    "a cut": (ClientResponse.abort, S.OVER, 0, "aborted"),
}


@pytest.mark.parametrize("name", STATES)
@in_virtual_time
async def test_the_state_after_each_step(name: str) -> None:
    step, state, status, end = STATES[name]
    client = Quick()
    with to(client) as response:
        await step(response)

        assert (response.state, response.status, client.end) == (state, status, end)
        assert client.status == status


@pytest.mark.parametrize("state", ResponseState)
@in_virtual_time
async def test_pings_are_sent_only_while_more_may_follow(state: ResponseState) -> None:
    taker = Timed()
    with to(taker) as response:
        if state is not S.SILENT:
            response.commit(())
        response.state = state
        await asyncio.sleep(15)

    pinged = taker.body == PING
    assert pinged is (state in (S.SILENT, S.OPEN, S.COMMITTED))
    assert response.state is (S.OPEN if state is S.SILENT else state)


@in_virtual_time
async def test_the_last_write_is_the_end_only_when_the_client_has_taken_it() -> None:
    stuck = Stuck()
    with to(stuck) as response:
        response.commit(())
        writing = asyncio.create_task(response.write(b"all", last=True))
        await stuck.begun.wait()
        assert response.state is S.ENDING
        writing.cancel()


@in_virtual_time
async def test_content_behind_pings_has_no_second_head() -> None:
    client = Quick()
    with to(client) as response:
        await asyncio.sleep(11)
        response.commit(((b"x-late", b"1"),))
        assert response.put(b"content")
        assert response.state is S.COMMITTED

    assert client.body == PING + b"content"
    assert b"x-late" not in client.headers


@in_virtual_time
async def test_what_a_slow_client_can_not_take_at_once_is_to_be_awaited() -> None:
    client = Quick([False])
    with to(client) as response:
        response.commit(())
        assert not response.put(b"a")
        waiting = response.give([b"a", b"b"], last=True)
        assert waiting is not None
        await waiting
        assert response.state is S.OVER

    assert (client.body, client.end) == (b"ab", "whole")
    assert response.give([], last=False) is None


# The watch


@in_virtual_time
async def test_one_watch_looks_after_all_and_has_no_timer_when_there_is_nobody() -> None:
    watch = Watch(now)
    early, late = Timed(), Timed()
    with ClientResponse(early, watch, None, True, (), watch.now()) as first:
        await asyncio.sleep(6)
        with ClientResponse(late, watch, None, True, (), watch.now()) as second:
            await asyncio.sleep(5)
            assert (first.state, second.state) == (S.OPEN, S.SILENT)
            await asyncio.sleep(6)
    assert [at for at, _ in early.given] == [10]
    assert [at for at, _ in late.given] == [16]
    assert not watch.responses
    assert watch.timer is not None
    watch.timer.cancel()
    watch.look()
    assert watch.timer is None


@in_virtual_time
async def test_many_that_are_due_one_after_the_other_are_looked_at_together() -> None:
    looks: list[float] = []

    class Counted(Watch):
        def look(self) -> None:
            looks.append(now())
            super().look()

    watch = Counted(now)
    takers = [Timed() for _ in range(100)]
    responses = []
    for taker in takers:
        responses.append(ClientResponse(taker, watch, None, True, (), now()).__enter__())
        await asyncio.sleep(0.002)
    await asyncio.sleep(11)

    assert all(taker.body == PING for taker in takers)
    assert len(looks) < 15
    for response in responses:
        response.__exit__(None, None, None)
