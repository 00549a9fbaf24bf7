"""A client behind any ASGI server: reading its body, noticing that it leaves, and breaking off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from client_side import Front
from virtual_time import in_virtual_time, loop, settled

from balancer.server.access import Admitted
from balancer.server.asgi import AsgiClient, ClientLeft, Message, read_body
from balancer.server.limits import ClientLimits
from balancer.server.progress import COMPLETE, LEFT
from balancer.server.rejected import Rejected

LIMITS = ClientLimits()


class Server:
    """An ASGI server that is not uvicorn."""

    def __init__(self, *messages: Message | float) -> None:
        self._messages = list(messages)
        self.sent: list[Message] = []
        self.receiving = 0

    async def receive(self) -> Message:
        """Give the next message; a number: so many seconds later. Nothing comes after the last."""
        self.receiving += 1
        try:
            while self._messages:
                message = self._messages.pop(0)
                if not isinstance(message, float):
                    return message
                await asyncio.sleep(message)
            await asyncio.Event().wait()
            raise AssertionError
        finally:
            self.receiving -= 1

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    def client(self, http_version: str = "1.1") -> AsgiClient:
        return AsgiClient(self.receive, self.send, http_version, LIMITS, loop())

    async def body(self, max_bytes: int = 100, length: bytes | None = None) -> bytes:
        first = {} if length is None else {b"content-length": length}
        return await read_body(self.receive, Admitted("", (), first), max_bytes, LIMITS, loop())


def part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


DISCONNECT: Message = {"type": "http.disconnect"}

# Its body

BODIES: dict[str, tuple[list[Message | float], bytes]] = {
    "at once": ([part(b"abc")], b"abc"),
    "in parts": ([part(b"a", more=True), part(b"", more=True), part(b"bc")], b"abc"),
    "without one": ([{"type": "http.request"}], b""),
    "ended by an empty part": ([part(b"abc", more=True), part(b"")], b"abc"),
    "slowly": ([part(b"a" * 30, more=True), 29.0, part(b"b", more=True), 0.5, part(b"c")], b"a" * 30 + b"bc"),
}


@pytest.mark.parametrize(("messages", "body"), BODIES.values(), ids=BODIES)
@in_virtual_time
async def test_a_body_is_collected(messages: list[Message | float], body: bytes) -> None:
    assert await Server(*messages).body() == body


LONG: dict[str, tuple[bytes | None, list[Message | float], bool]] = {
    "as long as the limit": (b"100", [part(b"x" * 100)], True),
    "announced to be longer": (b"101", [], False),
    "longer": (None, [part(b"x" * 101)], False),
    "longer in parts": (None, [part(b"x" * 100, more=True), part(b"x", more=True)], False),
    "longer than announced": (b"3", [part(b"x" * 101)], False),
    "announced in no number": (b"x", [part(b"x")], True),
}


@pytest.mark.parametrize(("length", "messages", "fits"), LONG.values(), ids=LONG)
@in_virtual_time
async def test_a_body_is_as_long_as_the_limit_at_most(
    length: bytes | None, messages: list[Message | float], fits: bool
) -> None:
    reading = asyncio.ensure_future(Server(*messages).body(length=length))
    await settled()
    if fits:
        await reading
        return
    with pytest.raises(Rejected, match="larger than 100 bytes") as caught:
        await reading
    assert (caught.value.status, caught.value.kind) == (413, "request_too_large")


LATE: dict[str, tuple[list[Message | float], float]] = {
    "nothing": ([], LIMITS.body_idle_s),
    "a part and no more": ([part(b"a", more=True)], LIMITS.body_idle_s),
    "parts, and then no more": ([20.0, part(b"a" * 50, more=True), part(b"a" * 50, more=True)], LIMITS.body_idle_s),
    "a drip": ([m for _ in range(90) for m in (1.0, part(b"a", more=True))], LIMITS.body_idle_s),
}


@pytest.mark.parametrize(("messages", "after_s"), LATE.values(), ids=LATE)
@in_virtual_time
async def test_a_body_that_stops_or_drips_is_refused_in_time(messages: list[Message | float], after_s: float) -> None:
    with pytest.raises(Rejected, match="stopped before its end") as caught:
        await Server(*messages).body()

    assert (caught.value.status, caught.value.kind) == (408, "invalid_request_error")
    assert loop().time() == pytest.approx(after_s, abs=0.01)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0  # whatever is awaited next is not cancelled


@in_virtual_time
async def test_a_client_may_leave_within_its_body() -> None:
    with pytest.raises(ClientLeft):
        await Server(part(b"a", more=True), DISCONNECT).body()


@in_virtual_time
async def test_a_task_that_is_cancelled_within_a_body_is_cancelled() -> None:
    server = Server(part(b"a", more=True))
    reading = asyncio.ensure_future(server.body())
    await settled()
    reading.cancel()
    await settled()

    assert reading.cancelled()
    assert server.receiving == 0


# Its leaving


@in_virtual_time
async def test_watching_begins_late_and_short_answers_do_without_a_task() -> None:
    server = Server(1.0, DISCONNECT)
    client, tasks, left = server.client(), loop().tasks, []
    client.on_left(lambda: left.append(loop().time()))
    await asyncio.sleep(LIMITS.watch_after_s - 0.001)
    assert (server.receiving, loop().tasks) == (0, tasks)
    await asyncio.sleep(0.002)
    assert (server.receiving, loop().tasks) == (1, tasks + 1)
    await asyncio.sleep(2)

    assert left == [pytest.approx(LIMITS.watch_after_s + 1)]
    assert (client.progress, client.gone) == (LEFT, True)


@pytest.mark.parametrize("after_s", [0.0, 0.5])
@in_virtual_time
async def test_watching_ends_when_nobody_asks_any_more(after_s: float) -> None:
    server = Server(1.0, DISCONNECT)
    client, left = server.client(), []
    client.on_left(lambda: left.append(1))
    await asyncio.sleep(after_s)
    client.on_left(None)
    client.on_left(None)
    await asyncio.sleep(2)

    assert (left, server.receiving, client.gone) == ([], 0, False)


@in_virtual_time
async def test_a_client_that_leaves_with_its_whole_answer_has_not_left() -> None:
    server = Server(1.0, DISCONNECT)
    client, left = server.client(), []
    client.on_left(lambda: left.append(1))
    client.start(200, ())
    await asyncio.sleep(0.5)
    await client.write(b"x", last=True)
    await asyncio.sleep(2)

    assert (left, client.progress) == ([], COMPLETE)


# Under another server


@in_virtual_time
async def test_an_answer_in_messages() -> None:
    server = Server()
    client = server.client()
    assert not client.busy
    client.start(200, ((b"x-a", b"b"),))
    assert not client.put(b"x")
    assert server.sent == []
    await client.write(b"one")
    await client.write(b"two", last=True)

    assert server.sent == [
        {"type": "http.response.start", "status": 200, "headers": ((b"x-a", b"b"),)},
        {"type": "http.response.body", "body": b"one", "more_body": True},
        {"type": "http.response.body", "body": b"two", "more_body": False},
    ]


@in_virtual_time
async def test_a_body_of_a_length_ends_with_its_last_byte() -> None:
    server = Server()
    client = server.client()
    client.start(200, ((b"content-length", b"4"),))
    await client.write(b"abc", last=True)
    assert not client.finished
    await client.write(b"d")

    assert [message.get("more_body") for message in server.sent] == [None, True, False]
    assert client.finished


@in_virtual_time
async def test_what_breaks_off_under_another_server_has_no_end() -> None:
    server = Server()
    client = server.client()
    client.start(200, ())
    await client.abort()

    assert [message["type"] for message in server.sent] == ["http.response.start"]


# Breaking off under uvicorn

ABORTS = {
    "chunks": (b"1.1", (), False),
    "a length": (b"1.1", ((b"content-length", b"9"),), False),
    "HTTP/1.0 with a length": (b"1.0", ((b"content-length", b"9"),), False),
    "HTTP/1.0 without": (b"1.0", (), True),
}


@pytest.mark.parametrize(("version", "headers", "reset"), ABORTS.values(), ids=ABORTS)
@in_virtual_time
async def test_a_break_is_no_end_that_looks_whole(version: bytes, headers: Any, reset: bool) -> None:
    """HTTP/1.0 has no chunks, so a plain close would be the end of the body: it gets a reset."""
    wire = Front().connect(plain=True)
    wire.says(b"POST /v1/messages HTTP/%b\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n" % version)
    cycle = wire.connection.cycle
    client = AsgiClient(cycle.receive, cycle.send, version.decode(), LIMITS, loop())  # type: ignore[arg-type]
    client.start(200, headers)
    await client.write(b"x")
    await client.abort()

    assert (wire.closed, wire.aborted) == (True, reset)
    wire.connection.tasks.clear()
    await settled()
