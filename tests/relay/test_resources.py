"""Requests about batches, files and skills, against played providers. With real sockets: `live/test_resources.py`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from stand_ins import Taker
from virtual_time import in_virtual_time
from worlds import World

from balancer.model import Operation, ResourceRequest
from balancer.relay.resources import ResourceRelay
from balancer.script import Cause, Data, Fail, Head, Pause, Step

JSON = ((b"content-type", b"application/json"),)
BYTES = ((b"content-type", b"application/octet-stream"),)


def answer(body: bytes, status: int = 200) -> list[Step]:
    return [Head(status, JSON), Data(body)]


MADE = answer(b'{"id": "file_1"}')
MISSING = answer(b'{"type": "error", "error": {"type": "not_found_error", "message": "no such file"}}', 404)


def request(method: bytes = b"GET", name: str | None = None, **more: Any) -> ResourceRequest:
    asked = ResourceRequest("req_1", Operation.FILES, b"", (), b"", "", stream=False, method=method, resource_id=name)
    asked.path = b"/v1/files"
    for key, value in more.items():
        setattr(asked, key, value)
    return asked


class Desk:
    """A relay of resources with two providers, a and b."""

    def __init__(self, a: Sequence[list[Step]], b: Sequence[list[Step]] = (MADE,)) -> None:
        self.world = World(list(a), list(b))
        self.relay = ResourceRelay(self.world.fleet, self.world.transport, self.world.clock)

    async def ask(self, *what: Any, **more: Any) -> Taker:
        taker = Taker()
        await self.relay.answer(request(*what, **more), taker)
        return taker


@in_virtual_time
async def test_what_a_made_is_asked_of_a_and_only_for_its_maker() -> None:
    desk = Desk([MADE, answer(b'{"id": "file_1", "size": 1}')])

    await desk.ask(b"POST", client="me")
    read = await desk.ask(b"GET", "file_1", client="me")
    stranger = await desk.ask(b"DELETE", "file_1", client="you")

    assert json.loads(read.body) == {"id": "file_1", "size": 1}
    assert stranger.status == 404
    assert desk.world.asked == "aa"
    assert desk.world.ended.outcome == "client_error"


BOTH_PASSED = """
providers:
  - {name: a, type: anthropic, base_url: "http://127.0.0.1:1001", auth_value: passthrough}
  - {name: b, type: anthropic, base_url: "http://127.0.0.1:1002", auth_value: passthrough}
model_routes: {"m": [{provider: a, priority: 1}, {provider: b, priority: 2}]}
"""


@pytest.mark.parametrize(("also", "asked"), [("", "a"), ("settings: {passthrough_to: [b]}", "ab")])
@in_virtual_time
async def test_a_clients_own_credential_follows_no_search_to_another_address(also: str, asked: str) -> None:
    world = World([MISSING], [MADE], text=BOTH_PASSED + also)
    relay = ResourceRelay(world.fleet, world.transport, world.clock)

    await relay.answer(request(b"GET", "file_1"), Taker())

    assert world.asked == asked


@in_virtual_time
async def test_what_b_keeps_is_found_by_reading() -> None:
    desk = Desk([MISSING], [MADE])

    assert (await desk.ask(b"DELETE", "file_1")).status == 404
    assert (await desk.ask(b"GET", "file_1")).status == 200
    assert (await desk.ask(b"DELETE", "file_1")).status == 200
    assert desk.world.asked == "aabb"


@in_virtual_time
async def test_a_refusal_goes_to_the_client_as_it_came() -> None:
    taker = await Desk([MISSING], [MISSING]).ask(b"GET", "file_1")

    assert taker.status == 404
    assert b"no such file" in taker.body


@in_virtual_time
async def test_what_breaks_off_is_cut() -> None:
    desk = Desk([[Head(200, BYTES), Data(b"half"), Fail(Cause.RESET)]])
    taker = await desk.ask(b"GET", "file_1", content=True)

    assert (taker.body, taker.end) == (b"half", "aborted")
    assert desk.world.ended.outcome == "broken_stream"


@in_virtual_time
async def test_what_the_client_has_some_of_is_not_asked_for_again() -> None:
    begun: list[Step] = [Head(200, BYTES), Fail(Cause.RESET)]
    desk = Desk([begun], [[Head(200, BYTES), Data(b"all")]])
    taker = await desk.ask(b"GET", "file_1", content=True)

    assert (taker.body, taker.end, desk.world.asked) == (b"", "aborted", "a")


@in_virtual_time
async def test_what_was_sent_is_not_sent_elsewhere() -> None:
    desk = Desk([[Pause(10_000)]])
    taker = await desk.ask(b"POST")

    assert (taker.status, desk.world.asked) == (502, "a")
    assert taker.headers[b"x-should-retry"] == b"false"


@in_virtual_time
async def test_a_client_that_leaves_ends_the_work() -> None:
    desk = Desk([[Head(200, BYTES), Data(b"begun"), Pause(100), Data(b"ended")]])
    taker = Taker()
    asking = asyncio.create_task(desk.relay.answer(request(b"GET", "file_1", content=True), taker))
    await asyncio.sleep(5)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert desk.world.ended.outcome == "abandoned"
    assert desk.world.fleet.stats("a").in_flight == 0


@in_virtual_time
async def test_nobody_who_is_able() -> None:
    desk = Desk([MADE])
    await desk.ask(b"POST", client="me")
    for name in ("a", "b"):
        desk.world.fleet.orders.pause(name, 0.0)

    assert (await desk.ask(b"POST")).status == 501
    kept = await desk.ask(b"GET", "file_1", client="me")
    assert kept.status == 503
    assert b"a keeps file_1" in kept.body
