"""The states of an answer: what writes it may be a connection of ours or any ASGI server, the states are the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from client_side import Front, Wire
from stand_ins import candidate
from virtual_time import in_virtual_time, loop, settled

from balancer.model import Operation
from balancer.server.access import Admitted
from balancer.server.asgi import AsgiClient
from balancer.server.exchange import Exchange
from balancer.server.limits import ClientLimits
from balancer.server.progress import ABORTED, COMPLETE, FINISHED, LEFT, OPEN, SENDING, STARTED, WAITING, Progress

HEADERS = ((b"content-type", b"x"),)


class One:
    """A client's request, and what writes its answer."""

    def __init__(self, kind: str) -> None:
        self.wire = Front().connect(plain=kind == "asgi")
        self.left = 0
        self.completed = 0
        self.writer: Any = getattr(self, f"_{kind}")()

    def _direct(self) -> Exchange:
        exchange = exchange_of(self.wire, self._complete)
        self.wire.connection.cycle = exchange  # type: ignore[assignment]
        return exchange

    def _asgi(self) -> AsgiClient:
        self.wire.says(b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n1")
        cycle: Any = self.wire.connection.cycle
        for task in list(self.wire.connection.tasks):
            task.cancel()  # this test writes the answer
        return AsgiClient(cycle.receive, cycle.send, "1.1", ClientLimits(), loop())

    def _complete(self) -> None:
        self.completed += 1

    def leave(self) -> None:
        self.left += 1

    async def leaves(self) -> None:
        """The client closes its connection, and that is noticed."""
        self.writer.on_left(self.leave)
        await asyncio.sleep(1)
        self.wire.leaves()
        await settled()


def exchange_of(wire: Wire, on_complete: Callable[[], None] = bool, *, keep_alive: bool = True) -> Exchange:  # type: ignore[assignment]
    """Return an exchange on a connection, whose request is whole."""
    connection = wire.connection
    return Exchange(
        Admitted("", (), {}),
        Operation.MESSAGES,
        b"",
        keep_alive,
        on_complete,
        connection.transport,
        connection.flow,
        connection.server_state.default_headers,
        [b"{}"],
    )


async def start(one: One) -> None:
    one.writer.start(200, HEADERS)


async def start_with_length(one: One) -> None:
    one.writer.start(200, (*HEADERS, (b"content-length", b"3")))


async def write(one: One) -> None:
    await one.writer.write(b"abc")


async def last(one: One) -> None:
    await one.writer.write(b"abc", last=True)


async def finish(one: One) -> None:
    await one.writer.finish()


async def abort(one: One) -> None:
    await one.writer.abort()


async def leaves(one: One) -> None:
    await one.leaves()


Step = Callable[[One], Any]
# What is done, the state after it, and whether each answer that the client sees is whole.
PATHS: dict[str, tuple[list[Step], Progress, list[bool]]] = {
    "nothing yet": ([], WAITING, []),
    "a body without a head is not taken": ([write], WAITING, []),
    "an end without a head is not taken": ([finish], WAITING, []),
    "the head": ([start], STARTED, []),
    "the first of the body": ([start, write], SENDING, [False]),
    "more of it": ([start, write, write], SENDING, [False]),
    "the last, at once": ([start, last], COMPLETE, [True]),
    "the last": ([start, write, last], COMPLETE, [True]),
    "an end of its own": ([start, write, finish], COMPLETE, [True]),
    "an end without a body": ([start, finish], COMPLETE, [True]),
    "as much as was announced": ([start_with_length, write], COMPLETE, [True]),
    "ended twice": ([start, last, finish], COMPLETE, [True]),
    "nothing behind the end": ([start, last, write, last], COMPLETE, [True]),
    "no break behind the end": ([start, last, abort], COMPLETE, [True]),
    "no head behind the end": ([start, last, start], COMPLETE, [True]),
    "broken off before the head": ([abort], ABORTED, []),
    "broken off before the body": ([start, abort], ABORTED, [False]),
    "broken off": ([start, write, abort], ABORTED, [False]),
    "broken off twice": ([start, write, abort, abort], ABORTED, [False]),
    "nothing behind a break": ([start, write, abort, write, finish], ABORTED, [False]),
    "left before the head": ([leaves], LEFT, []),
    "left before the body": ([start, leaves], LEFT, []),
    "left": ([start, write, leaves], LEFT, [False]),
    "nothing for one that left": ([start, leaves, write, last], LEFT, []),
    "no head for one that left": ([leaves, start], LEFT, []),
    "no break for one that left": ([start, write, leaves, abort], LEFT, [False]),
    "left behind the end": ([start, last, leaves], COMPLETE, [True]),
    "left behind a break": ([start, write, abort, leaves], ABORTED, [False]),
}


@pytest.mark.parametrize("kind", ["direct", "asgi"])
@pytest.mark.parametrize(("steps", "state", "got"), PATHS.values(), ids=PATHS)
@in_virtual_time
async def test_the_states_follow_each_other_as_the_table_says(
    steps: list[Step], state: Progress, got: list[bool], kind: str
) -> None:
    one = One(kind)
    for step in steps:
        await step(one)
    writer = one.writer

    assert writer.progress is state
    assert writer.finished is (state in FINISHED)
    assert writer.gone is (state is LEFT)
    assert one.left == (1 if state is LEFT else 0)
    assert [answer.whole for answer in one.wire.answers] == got
    assert one.wire.closed is (state in (ABORTED, LEFT) or leaves in steps)
    if kind == "direct":
        assert one.completed == (state is COMPLETE)
    assert writer.put(b"x") is (kind == "direct" and state in OPEN)


@pytest.mark.parametrize("kind", ["direct", "asgi"])
@in_virtual_time
async def test_what_the_client_gets_is_what_was_written(kind: str) -> None:
    one = One(kind)
    one.writer.start(201, (*HEADERS, (b"x-a", b"b")))
    one.writer.committed(candidate())
    one.writer.mark_unshareable()
    for part in (b"one ", b"two ", b""):
        await one.writer.write(part)
    await one.writer.write(b"three", last=True)
    (answer,) = one.wire.answers

    assert (answer.status, answer.body, answer.whole) == (201, b"one two three", True)
    assert answer.headers == {"date": "today", "content-type": "x", "x-a": "b", "transfer-encoding": "chunked"}
    assert one.writer.dedup == ""


@pytest.mark.parametrize("kind", ["direct", "asgi"])
@in_virtual_time
async def test_a_slow_client_is_busy_and_waited_for(kind: str) -> None:
    one = One(kind)
    one.writer.start(200, HEADERS)
    assert not one.writer.busy
    one.wire.connection.pause_writing()
    assert one.writer.busy
    assert not one.writer.put(b"x")
    writing = asyncio.create_task(one.writer.write(b"x", last=True))
    await settled()
    assert (writing.done(), one.wire.got) == (False, b"")
    one.wire.connection.resume_writing()
    await writing

    assert one.wire.answers[0].body == b"x"


@pytest.mark.parametrize("kind", ["direct", "asgi"])
@in_virtual_time
async def test_a_slow_client_that_leaves_is_waited_for_no_more(kind: str) -> None:
    one = One(kind)
    one.writer.start(200, HEADERS)
    await one.writer.write(b"x")
    one.writer.on_left(one.leave)
    await asyncio.sleep(1)
    one.wire.connection.pause_writing()
    writing = asyncio.create_task(one.writer.write(b"y"))
    await settled()
    one.wire.leaves()
    await settled()

    assert (writing.done(), one.left, one.writer.busy) == (True, 1, False)


@pytest.mark.parametrize("kind", ["direct", "asgi"])
@in_virtual_time
async def test_a_client_that_nobody_asks_about_leaves_without_a_call(kind: str) -> None:
    one = One(kind)
    one.writer.on_left(one.leave)
    one.writer.on_left(None)
    await one.wire.connection.loop.create_task(asyncio.sleep(1))
    one.wire.leaves()
    await settled()

    assert one.left == 0


def test_open_and_finished_are_apart() -> None:
    assert set(OPEN) | set(FINISHED) | {WAITING, LEFT} == set(Progress)
    assert set(OPEN) & set(FINISHED) == set()
