"""What is handed on as it comes: every order in which things can happen within one turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from stand_ins import HandFed, wire_request

from balancer.transport import TransportError, UpstreamResponse
from balancer.transport.limits import LIMITS

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Hand:
    """Takes what is handed on, or refuses it from the `until`th piece on: what was refused it has all the same."""

    def __init__(self, until: int = 1000) -> None:
        self.given: list[bytes] = []
        self._until = until

    def __call__(self, data: bytes) -> bool:
        self.given.append(data)
        return len(self.given) < self._until


@asynccontextmanager
async def flowing(
    give: Callable[[bytes], bool], within_s: float = 5
) -> AsyncIterator[tuple[HandFed, UpstreamResponse, asyncio.Task[None]]]:
    """An answer whose head has come, and a task that has what follows handed on."""
    upstream = HandFed()
    upstream.says(HEAD)
    async with upstream.exchange(wire_request(), connect_s=1, head_s=1) as answer:
        flow = asyncio.create_task(answer.flow(give, within_s))
        await asyncio.sleep(0)
        try:
            yield upstream, answer, flow
        finally:
            flow.cancel()
            await asyncio.gather(flow, return_exceptions=True)


async def test_what_comes_after_a_refusal_waits_in_its_place() -> None:
    give = Hand(until=2)
    async with flowing(give) as (upstream, answer, flow):
        upstream.says(chunk(b"one"), chunk(b"two"), chunk(b"three"), chunk(b"four") + END)
        await flow

        assert give.given == [b"one", b"two"]
        assert (answer.read_nowait(), answer.read_nowait()) == (b"threefour", b"")
    assert upstream.kept


async def test_the_last_of_a_body_is_not_handed_on() -> None:
    give = Hand()
    async with flowing(give) as (upstream, answer, flow):
        upstream.says(chunk(b"one"), chunk(b"two") + END)
        await flow

        assert give.given == [b"one"]
        assert (answer.read_nowait(), answer.read_nowait()) == (b"two", b"")
    assert upstream.kept


@pytest.mark.parametrize("how", [None, ConnectionResetError()], ids=["closed", "reset"])
async def test_what_came_in_the_turn_of_the_break_is_there_and_then_the_break(how: Exception | None) -> None:
    give = Hand(until=2)
    async with flowing(give) as (upstream, answer, flow):
        upstream.says(chunk(b"one"), chunk(b"two"), chunk(b"three"))
        upstream.breaks(how)
        await flow

        assert (give.given, answer.read_nowait(), answer.read_nowait()) == ([b"one", b"two"], b"three", None)
        with pytest.raises(TransportError, match="reset" if how else "closed"):
            await answer.flow(give, 1)
    assert not upstream.kept


async def test_what_is_no_chunk_ends_it_behind_what_came_before() -> None:
    give = Hand()
    async with flowing(give) as (upstream, answer, flow):
        upstream.says(chunk(b"one"), chunk(b"two") + b"zz\r\n")
        await flow

        assert (give.given, answer.read_nowait()) == ([b"one"], b"two")
        with pytest.raises(TransportError, match="protocol"):
            await answer.flow(give, 1)
    assert not upstream.kept


async def test_what_is_no_content_wakes_nobody() -> None:
    give = Hand()
    async with flowing(give) as (upstream, answer, flow):
        for byte in chunk(b"one"):
            upstream.says(bytes((byte,)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not flow.done()
        assert give.given == [b"o", b"n", b"e"]

        upstream.says(END)
        await flow
        assert answer.read_nowait() == b""


@pytest.mark.parametrize("said", [[chunk(b"one")], [b"3\r\n", b"one\r\n"]], ids=["a chunk", "in two reads"])
async def test_a_failure_to_take_something_is_never_lost(said: list[bytes]) -> None:
    def give(data: bytes) -> bool:
        raise LookupError(data)

    async with flowing(give) as (upstream, _, flow):
        upstream.says(*said, chunk(b"two"))
        with pytest.raises(LookupError, match="one"):
            await flow


async def test_each_byte_gives_the_next_its_own_time() -> None:
    give, loop = Hand(), asyncio.get_running_loop()
    async with flowing(give, within_s=0.5) as (upstream, answer, flow):
        for i, byte in enumerate(chunk(b"one") + END, 1):
            loop.call_later(0.05 * i, upstream.says, bytes((byte,)))
        await flow
        assert (b"".join(give.given), answer.read_nowait()) == (b"one", b"")


@pytest.mark.parametrize("flows", [True, False])
async def test_what_stands_around_the_chunks_is_no_sign_of_life(flows: bool) -> None:
    loop = asyncio.get_running_loop()
    async with flowing(Hand(1000 if flows else 1), within_s=0.3) as (upstream, answer, flow):
        if not flows:
            upstream.says(chunk(b"one"))
            await flow
        drip = [loop.call_later(0.05 * i, upstream.says, b"3;x" if i == 0 else b"x") for i in range(30)]
        began = loop.time()
        with pytest.raises(TransportError, match="idle_timeout"):
            await (flow if flows else answer.read(0.3))
        assert loop.time() - began < 1
        for call in drip:
            call.cancel()


@pytest.mark.parametrize("waits", [True, False])
async def test_what_stands_around_the_chunks_is_bounded_as_nobody_could_read_it(waits: bool) -> None:
    async with flowing(Hand(1)) as (upstream, answer, flow):
        upstream.says(chunk(b"one"))
        await flow
        reading = asyncio.ensure_future(answer.read(60)) if waits else None
        await asyncio.sleep(0)
        upstream.says(b"3;", *[b"x" * 65536] * (LIMITS.unread_max_bytes // 65536 + 1))

        with pytest.raises(TransportError, match="around the chunks"):
            await (reading or answer.read(60))
    assert not upstream.kept


async def test_silence_after_a_piece_is_found() -> None:
    give = Hand()
    async with flowing(give, within_s=0.1) as (upstream, _, flow):
        upstream.says(chunk(b"one"))
        with pytest.raises(TransportError, match="idle_timeout"):
            await flow
    assert not upstream.kept


@pytest.mark.parametrize("until", [1, 1000], ids=["refused", "taken"])
async def test_a_large_read_leaves_nobody_paused(until: int) -> None:
    async with flowing(Hand(until)) as (upstream, answer, _):
        upstream.says(chunk(b"x" * 3 * LIMITS.unread_max_bytes))
        assert not upstream.socket.paused

        await asyncio.sleep(0)
        assert answer.read_nowait() is None


async def test_who_waits_for_a_slow_client_pauses_the_upstream_until_it_looks_again() -> None:
    async with flowing(Hand(until=1)) as (upstream, answer, flow):
        upstream.says(chunk(b"x"), *[chunk(b"y" * 1000)] * 100)
        await flow
        assert upstream.socket.paused

        assert answer.read_nowait() == b"y" * 100_000
        assert not upstream.socket.paused


async def test_nothing_is_handed_to_who_has_left() -> None:
    give = Hand()
    async with flowing(give) as (upstream, _, flow):
        flow.cancel()
        await asyncio.gather(flow, return_exceptions=True)
        upstream.says(chunk(b"one"))
        assert give.given == []
    assert not upstream.kept
    assert upstream.socket.aborted


async def test_what_was_read_makes_room_for_as_much_again() -> None:
    piece = b"x" * (LIMITS.unread_max_bytes * 2 // 3)
    async with flowing(Hand(until=1)) as (upstream, answer, flow):
        upstream.says(chunk(b"x"))
        await flow
        for _ in range(3):
            upstream.says(chunk(piece))
            assert not upstream.socket.paused
            assert answer.read_nowait() == piece
        upstream.says(chunk(piece), chunk(piece))
        assert upstream.socket.paused


async def test_a_peer_that_can_not_be_trusted_is_not_listened_to_any_longer() -> None:
    async with flowing(Hand(until=1)) as (upstream, answer, _):
        upstream.says(chunk(b"one") + b"zz\r\n")
        assert upstream.socket.aborted

        assert answer.read_nowait() == b"one"


@pytest.mark.parametrize("how", [None, ConnectionResetError()], ids=["closed", "reset"])
async def test_a_head_that_came_in_the_turn_of_the_break_is_there_and_then_what_came_with_it(
    how: Exception | None,
) -> None:
    """Whoever waited for it was not awake yet."""
    upstream = HandFed()

    async def talk() -> None:
        await upstream.asked.wait()
        upstream.says(HEAD + chunk(b"one"))
        upstream.breaks(how)

    talking = asyncio.create_task(talk())
    async with upstream.exchange(wire_request(), connect_s=1, head_s=1) as answer:
        assert (answer.status, await answer.read(1)) == (200, b"one")
        with pytest.raises(TransportError, match="reset" if how else "closed") as caught:
            await answer.read(1)
        assert caught.value.headed
    await talking
