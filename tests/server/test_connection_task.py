"""The task that answers the requests of one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from client_side import Front, Wire
from server.test_progress import exchange_of
from virtual_time import in_virtual_time, loop, settled

from balancer.server.connection_task import ConnectionTask
from balancer.server.exchange import Exchange
from balancer.server.progress import ABORTED, COMPLETE

Answer = Callable[[Exchange], Coroutine[Any, Any, None]]


class Answers:
    """What stands in the place of the endpoint: it answers as the test says."""

    def __init__(self, *behaviours: Answer) -> None:
        self._behaviours = list(behaviours)
        self.bodies: list[bytes] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def answer(
        self, admitted: object, operation: object, query: bytes, body: bytes, client: Exchange, task: asyncio.Task[Any]
    ) -> Coroutine[Any, Any, None]:
        self.bodies.append(body)
        self.tasks.append(task)
        return self._behaviours.pop(0)(client)


async def well(exchange: Exchange) -> None:
    exchange.start(200, ((b"content-length", b"1"),))
    exchange.put(b"x")


async def lingering(exchange: Exchange) -> None:
    await well(exchange)
    await asyncio.sleep(1)


async def half(exchange: Exchange) -> None:
    exchange.start(200, ((b"content-length", b"2"),))
    exchange.put(b"x")


async def fails(exchange: Exchange) -> None:
    raise LookupError("a fault of ours")


async def fails_late(exchange: Exchange) -> None:
    await well(exchange)
    raise LookupError("a fault of ours")


class World:
    def __init__(self, *behaviours: Answer) -> None:
        self.answers = Answers(*behaviours)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.wire: Wire = Front().connect()
        endpoint: Any = self.answers
        self.task = ConnectionTask(endpoint, self.tasks, self.wire, loop())

    def give(self) -> Exchange:
        exchange = exchange_of(self.wire)
        self.task.give(exchange)
        return exchange


@in_virtual_time
async def test_one_task_answers_one_after_the_other() -> None:
    world = World(well, well, well)
    tasks = loop().tasks
    for _ in range(3):
        exchange = world.give()
        await settled()
        assert exchange.progress is COMPLETE
        assert world.tasks == set(), "uvicorn does not wait for a task that waits"

    assert (len(set(world.answers.tasks)), loop().tasks - tasks) == (1, 1)
    assert world.answers.bodies == [b"{}"] * 3


@in_virtual_time
async def test_while_it_answers_the_server_waits_for_it() -> None:
    world = World(lingering)
    world.give()
    await settled()

    assert world.tasks == set(world.answers.tasks)
    await asyncio.sleep(2)
    assert world.tasks == set()


@in_virtual_time
async def test_a_request_that_does_not_wait_gets_a_task_of_its_own_and_the_first_ends() -> None:
    world = World(well, lingering, well, well)
    world.give()
    await settled()
    world.give()
    await settled()
    second = world.give()
    await settled()
    assert second.progress is COMPLETE
    await asyncio.sleep(2)
    assert world.answers.tasks[0].done()
    world.give()
    await settled()

    assert world.answers.tasks[1] is not world.answers.tasks[2]
    assert world.answers.tasks[2] is world.answers.tasks[3]
    assert not world.wire.closed


CUT = {"a fault": (fails, ABORTED), "an answer that is not whole": (half, None), "a late fault": (fails_late, COMPLETE)}


@pytest.mark.parametrize(("behaviour", "state"), CUT.values(), ids=CUT)
@in_virtual_time
async def test_what_is_not_answered_closes_the_connection(behaviour: Answer, state: object) -> None:
    world = World(behaviour)
    exchange = world.give()
    await settled()

    assert world.wire.closed is (behaviour is not fails_late)
    assert state is None or exchange.progress is state
    assert world.tasks == set()
    assert world.answers.tasks[0].done() is world.wire.closed


@in_virtual_time
async def test_it_ends_with_its_connection() -> None:
    world = World(well)
    world.task.end()  # before the first request there is nothing to end
    world.give()
    await settled()
    world.task.end()
    world.task.end()
    await settled()

    assert world.answers.tasks[0].done()


@in_virtual_time
async def test_a_connection_that_is_lost_with_its_next_request_ends_it_too() -> None:
    world = World(well, well)
    world.give()
    await settled()
    exchange = world.give()
    exchange.left()
    world.wire.leaves()
    world.task.end()
    await settled()

    assert world.answers.tasks[0].done()
    assert len(world.answers.bodies) == 2
