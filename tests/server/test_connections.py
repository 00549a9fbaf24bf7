"""What all connections together may cost, and who has to go when it is too much."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

import pytest
from client_side import BODY, HOST, WHOLE, Front, Wire, chunked, post
from virtual_time import in_virtual_time, settled

from balancer.script import Pause
from balancer.server.connections import LARGE_BYTES, Connections, bounded


@dataclass(eq=False)
class Client:
    """A connection as it is counted."""

    address: str = "10.0.0.1"
    idle: bool = True
    buffered_bytes: int = 0
    told: list[str] = field(default_factory=list)

    def shed(self, message: str) -> None:
        self.told.append(message)

    def turn_away(self, message: str) -> None:
        self.told.append(message)


def counted(most: int = 3, per_address: int | None = None, most_bytes: int = 100) -> Connections:
    connections = Connections()
    connections.apply(most=most, most_per_address=per_address, most_bytes=most_bytes)
    return connections


def test_the_oldest_connection_that_never_asked_goes_first() -> None:
    connections, clients = counted(), [Client() for _ in range(5)]
    for client in clients[:3]:
        assert connections.add(client) == ""
    connections.asks(clients[0])

    assert connections.add(clients[3]) == ""
    assert connections.add(clients[4]) == ""
    assert [bool(client.told) for client in clients] == [False, True, True, False, False]
    assert len(connections) == 3


def test_then_the_oldest_that_is_idle_goes_and_none_that_is_busy() -> None:
    connections, busy, idle, new, late = counted(2), Client(idle=False), Client(), Client(idle=False), Client()
    for client in (busy, idle):
        connections.add(client)
        connections.asks(client)

    assert connections.add(new) == ""
    connections.asks(new)
    assert "limits.max_connections" in idle.told[0]
    assert "limits.max_connections" in connections.add(late)
    assert (busy.told, new.told, len(connections)) == ([], [], 2)


def test_those_beyond_the_bound_may_ask_whether_it_lives_and_the_oldest_of_too_many_is_turned_away() -> None:
    connections, busy, beyond = counted(1), Client(idle=False), [Client() for _ in range(4)]
    connections.apply(most=1, most_per_address=None, most_bytes=100, most_spare=2, short_of_descriptors=True)
    short: list[bool] = []
    connections.on_shortage = lambda: short.append(True)
    connections.add(busy)
    for client in beyond:
        assert "ulimit" in connections.add(client)
        connections.spare(client)
        connections.asks(client)

    assert [bool(client.told) for client in beyond] == [True, True, False, False]
    assert len(short) == 4
    for client in (*beyond, busy):
        connections.remove(client)
    assert len(connections) == 0


def test_an_address_has_a_bound_of_its_own() -> None:
    connections, first, other = counted(9, per_address=1), Client(), Client("10.0.0.2")

    assert connections.add(first) == ""
    assert "max_connections_per_address" in connections.add(Client())
    assert connections.add(other) == ""
    connections.remove(first)
    connections.remove(first)
    assert connections.add(Client()) == ""


def test_of_bodies_that_are_not_whole_the_largest_goes() -> None:
    connections, large, small, newest = counted(), Client(), Client(), Client()
    for client in (large, small, newest):
        connections.add(client)
        connections.asks(client)
    connections.receive(large, 70)
    connections.receive(small, 20)
    connections.receive(newest, 30)

    assert [bool(one.told) for one in (large, small, newest)] == [True, False, False]
    assert connections.buffered_bytes == 50
    connections.received(small)
    connections.received(newest)
    assert connections.buffered_bytes == 0


@pytest.mark.parametrize(("most", "descriptors", "expected"), [(10_000, 1024, 432), (100, 1024, 100), (10, 20, 1)])
def test_each_connection_leaves_a_descriptor_for_one_to_a_provider(most: int, descriptors: int, expected: int) -> None:
    assert bounded(most, descriptors) == expected


# Over connections


def error(wire: Wire) -> tuple[int, str, dict[str, str]]:
    answer = wire.answers[-1]
    return answer.status, json.loads(answer.body)["error"]["message"], answer.headers


@in_virtual_time
async def test_silent_connections_give_way_to_one_that_asks() -> None:
    front = Front(WHOLE)
    front.connections.apply(most=3, most_per_address=None, most_bytes=1_000_000)
    silent = [front.connect() for _ in range(10)]
    asking = front.connect()
    asking.says(post())
    await settled()

    assert asking.statuses == [200]
    assert [wire.closed for wire in silent] == [True] * 8 + [False] * 2
    assert len(front.connections) == 3
    for wire in (*silent, asking):
        wire.leaves()
    await settled()
    assert len(front.connections) == 0


@in_virtual_time
async def test_where_all_are_busy_a_new_connection_is_told_so() -> None:
    front = Front(WHOLE)
    front.connections.apply(most=1, most_per_address=None, most_bytes=1_000_000)
    front.connect().says(post(b" " * 5000)[:2000])
    late = front.connect()
    late.says(post())
    await settled()

    status, words, headers = error(late)
    assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
    assert "limits.max_connections" in words
    assert late.closed


@in_virtual_time
async def test_a_probe_is_answered_where_all_are_busy() -> None:
    front = Front(WHOLE)
    front.connections.apply(most=1, most_per_address=None, most_bytes=1_000_000)
    front.connect().says(post(b" " * 5000)[:2000])
    probe = front.connect()
    probe.says(b"GET /health?x HTTP/1.1\r\n" + HOST + b"\r\n\r\n")
    await settled()

    assert probe.statuses == [200]
    probe.says(post())
    await settled()
    assert probe.statuses == [200, 503]
    assert probe.closed
    probe.leaves()
    await settled()
    assert len(front.connections) == 1


@pytest.mark.parametrize(
    "begun", [post(b" " * 50_000)[:30_000], chunked(b" " * 50_000, size=10_000)[:30_000]], ids=["a length", "chunks"]
)
@in_virtual_time
async def test_too_much_of_unfinished_bodies_ends_the_largest(begun: bytes) -> None:
    front = Front(WHOLE)
    front.connections.apply(most=100, most_per_address=None, most_bytes=45_000)
    large, small = front.connect(), front.connect()
    large.says(*(begun[at : at + 5000] for at in range(0, len(begun), 5000)))
    await settled()
    small.says(*(begun[at : at + 5000] for at in range(0, 20_000, 5000)))
    await settled()

    status, words, headers = error(large)
    assert (status, headers["retry-after"]) == (503, "1")
    assert "limits.max_buffered_bytes" in words
    assert not small.closed
    small.leaves()
    await settled()
    assert front.connections.buffered_bytes == 0


@in_virtual_time
async def test_a_large_body_is_counted_for_as_long_as_it_is_held() -> None:
    front = Front([Pause(1.0), *WHOLE])
    body = BODY[:-1] + b" " * LARGE_BYTES + BODY[-1:]
    wire = front.connect()
    whole = post(body)
    wire.says(whole[:5000], whole[5000:9000], whole[9000:])
    seen = []
    while not wire.statuses:
        seen.append(front.connections.buffered_bytes)
        await asyncio.sleep(0.3)

    assert len(body) in seen
    await settled()
    assert wire.statuses == [200]
    assert front.connections.buffered_bytes == 0


@in_virtual_time
async def test_a_connection_without_a_request_is_closed_in_silence() -> None:
    front = Front(WHOLE)
    front.connections.apply(most=1, most_per_address=None, most_bytes=1)
    silent = front.connect()
    begun = front.connect()
    begun.says(b"POST /v1/messages HTTP/1.1\r\n" + HOST)
    front.connect()
    await settled()

    assert (silent.got, silent.closed) == (b"", True)
    assert (error(begun)[0], begun.closed) == (503, True)
