"""Who is given what comes over a connection: the exchange under way, or between two of them nobody."""

from __future__ import annotations

import asyncio
import weakref

import pytest
from stand_ins import Socket
from virtual_time import in_virtual_time

from balancer.script import Cause
from balancer.transport import TransportError
from balancer.transport.connection import UpstreamConnection
from balancer.transport.response import ReceivedResponse

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
OTHER = b"HTTP/1.1 201 OK\r\ncontent-length: 5\r\n\r\nother"


class Idle:
    """Notes that a connection was told of as not to be used."""

    def __init__(self) -> None:
        self.ended: list[UpstreamConnection] = []


def opened() -> tuple[UpstreamConnection, Socket, Idle]:
    connection, socket, idle = UpstreamConnection(asyncio.get_running_loop()), Socket(), Idle()
    connection.on_idle_end = idle.ended.append
    socket.set_protocol(connection)
    connection.connection_made(socket)
    return connection, socket, idle


async def exchanged(connection: UpstreamConnection, socket: Socket, answer: bytes = OK) -> ReceivedResponse:
    response = connection.send([b"x"])
    socket.protocol.data_received(answer)
    await response.head(1)
    return response


async def test_one_exchange_follows_the_other() -> None:
    connection, socket, idle = opened()
    for answer, status in ((OK, 200), (OTHER, 201)):
        response = await exchanged(connection, socket, answer)
        assert (response.status, await response.read_whole(5, 1)) == (status, answer[-5:])
        assert connection.release()
    assert (idle.ended, socket.aborted) == ([], False)


async def test_a_response_that_is_kept_is_never_the_next_ones() -> None:
    """Not what was read of it, and not what is read late."""
    connection, socket, _ = opened()
    first = await exchanged(connection, socket)
    assert await first.read(1) == b"hello"
    connection.release()
    second = await exchanged(connection, socket, OTHER)

    assert (first.status, second.status) == (200, 201)
    assert first.read_nowait() is None
    with pytest.raises(TransportError, match="its exchange is over"):
        await first.read(1)
    with pytest.raises(TransportError, match="its exchange is over"):
        await first.flow(lambda data: True, 1)
    assert await second.read(1) == b"other"


@pytest.mark.parametrize("answer", [OK[:-1], OK[:-5], b"", OK + OK], ids=["a cut one", "a head", "nothing", "more"])
async def test_what_was_not_read_to_a_clean_end_ends_the_connection(answer: bytes) -> None:
    connection, socket, _ = opened()
    response = connection.send([b"x"])
    socket.protocol.data_received(answer)

    assert not connection.release()
    assert socket.aborted
    with pytest.raises(TransportError, match="its exchange is over"):
        await response.read(1)


async def test_an_answer_that_was_not_read_ends_the_connection() -> None:
    connection, socket, _ = opened()
    await exchanged(connection, socket)

    assert not connection.release()
    assert socket.aborted


@pytest.mark.parametrize("why", ["closing", "unwritten", "lost"])
async def test_a_connection_that_can_not_be_used_is_closed(why: str) -> None:
    connection, socket, _ = opened()
    response = await exchanged(connection, socket)
    await response.read(1)
    if why == "closing":
        socket.abort()
    elif why == "unwritten":
        socket.unwritten = 5
    else:
        socket.protocol.connection_lost(None)

    assert not connection.release()
    assert socket.aborted


@pytest.mark.parametrize("data", [b"x", OK], ids=["a byte", "an answer to nothing"])
async def test_bytes_while_nobody_asks_end_the_connection(data: bytes) -> None:
    connection, socket, idle = opened()
    socket.protocol.data_received(data)

    assert (idle.ended, socket.aborted) == ([connection], True)


async def test_an_end_while_nobody_asks_is_told() -> None:
    connection, socket, idle = opened()
    socket.protocol.connection_lost(None)

    assert (idle.ended, connection.lost) == ([connection], True)
    with pytest.raises(TransportError) as caught:
        connection.send([b"x"])
    assert (caught.value.cause, caught.value.sent) == (Cause.CLOSED, False)


async def test_nothing_is_sent_on_a_connection_that_is_closing() -> None:
    connection, socket, _ = opened()
    connection.close()

    with pytest.raises(TransportError, match="closed"):
        connection.send([b"x"])
    assert socket.aborted


@in_virtual_time
async def test_a_timeout_of_one_exchange_is_none_of_the_next_ones() -> None:
    """One timer serves them all, and goes off when the first of the deadlines would have passed."""
    connection, socket, _ = opened()
    for _ in range(3):
        response = connection.send([b"x"])
        head = asyncio.create_task(response.head(10))
        await asyncio.sleep(6)
        socket.protocol.data_received(OK)
        await head
        await response.read(10)
        assert connection.release()
    await asyncio.sleep(60)
    response = connection.send([b"x"])
    with pytest.raises(TransportError) as caught:
        await response.head(10)
    assert (caught.value.cause, asyncio.get_running_loop().time()) == (Cause.HEAD_TIMEOUT, 88.0)


async def test_an_idle_connection_holds_nothing_of_its_last_response() -> None:
    connection, socket, _ = opened()
    response = await exchanged(connection, socket)
    await response.read(1)
    held = weakref.ref(response)
    connection.release()
    del response

    assert held() is None, "without the garbage collector's help"
