"""The bytes of an answer that goes straight to its connection."""

from __future__ import annotations

from typing import Any

import pytest
from client_side import Front, Wire
from server.test_progress import exchange_of
from virtual_time import in_virtual_time, settled

from balancer.server.exchange import Exchange, _joined
from balancer.server.progress import COMPLETE, LEFT, SENDING, WAITING

DATE = b"date: today\r\n"


class Writes(Wire):
    """Keeps every write by itself."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        wire = Front().connect()
        super().__init__(wire.connection, ("127.0.0.1", 5))

    def write(self, data: Any) -> None:
        super().write(data)
        self.writes.append(bytes(data))


def one(*, keep_alive: bool = True) -> tuple[Exchange, Writes, list[int]]:
    completed: list[int] = []
    wire = Writes()
    return exchange_of(wire, lambda: completed.append(1), keep_alive=keep_alive), wire, completed


@in_virtual_time
async def test_the_head_goes_out_with_the_first_of_the_body() -> None:
    exchange, wire, completed = one()
    exchange.start(200, ((b"x-a", b"b"),))
    assert wire.writes == []
    assert exchange.put(b"abc")
    assert exchange.put(b"0123456789abcdef")
    assert exchange.put(b"end", last=True)

    assert wire.writes == [
        b"HTTP/1.1 200 OK\r\n" + DATE + b"x-a: b\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"10\r\n0123456789abcdef\r\n",
        b"3\r\nend\r\n0\r\n\r\n",
    ]
    assert completed == [1]
    assert not wire.closed


FIRST = {
    "a first that is the last": (b"abc", True, b"3\r\nabc\r\n0\r\n\r\n", COMPLETE),
    "an empty first": (b"", False, b"", SENDING),
    "an empty first that is the last": (b"", True, b"0\r\n\r\n", COMPLETE),
}


@pytest.mark.parametrize(("data", "last", "sent", "state"), FIRST.values(), ids=FIRST)
@in_virtual_time
async def test_chunks_from_the_first_on(data: bytes, last: bool, sent: bytes, state: object) -> None:
    exchange, wire, _ = one()
    exchange.start(200, ())
    exchange.put(data, last=last)

    assert wire.writes == [b"HTTP/1.1 200 OK\r\n" + DATE + b"transfer-encoding: chunked\r\n\r\n" + sent]
    assert exchange.progress is state


@in_virtual_time
async def test_an_empty_part_within_is_no_end() -> None:
    """An empty chunk would be the end of the body."""
    exchange, wire, _ = one()
    exchange.start(200, ())
    for part in (b"a", b"", b"b"):
        exchange.put(part)

    assert wire.answers[0].body == b"ab"
    assert b"0\r\n" not in wire.got.partition(b"\r\n\r\n")[2]


@in_virtual_time
async def test_a_body_with_a_length_goes_out_as_it_is() -> None:
    exchange, wire, completed = one()
    exchange.start(404, ((b"content-length", b"5"), (b"x-a", b"content-length: 3")))
    assert exchange.put(b"abcd")
    assert completed == []
    assert exchange.put(b"e")

    head = b"HTTP/1.1 404 Not Found\r\n" + DATE + b"content-length: 5\r\nx-a: content-length: 3\r\n\r\n"
    assert wire.writes == [head + b"abcd", b"e"]
    assert (exchange.progress, completed) == (COMPLETE, [1])


@in_virtual_time
async def test_a_body_that_is_shorter_than_announced_is_not_complete() -> None:
    exchange, wire, completed = one()
    exchange.start(200, ((b"content-length", b"5"),))
    exchange.put(b"abc", last=True)
    await exchange.finish()

    assert (exchange.progress, completed) == (SENDING, [])
    assert not wire.answers[0].whole


@in_virtual_time
async def test_a_body_without_a_byte_is_complete_with_its_head() -> None:
    exchange, wire, completed = one()
    exchange.start(200, ((b"content-length", b"0"),))
    exchange.put(b"")

    assert (wire.got.endswith(b"\r\n\r\n"), completed) == (True, [1])


@in_virtual_time
async def test_the_last_answer_of_a_connection_says_so_and_closes_it() -> None:
    exchange, wire, completed = one(keep_alive=False)
    exchange.start(200, ((b"content-length", b"1"),))
    exchange.put(b"x")

    assert wire.got.endswith(b"content-length: 1\r\nconnection: close\r\n\r\nx")
    assert (wire.closed, completed) == (True, [1])


@in_virtual_time
async def test_a_server_that_stops_makes_an_answer_the_last_even_late() -> None:
    exchange, wire, _ = one()
    exchange.start(200, ())
    exchange.put(b"x")
    exchange.keep_alive = False
    exchange.put(b"y", last=True)

    assert wire.closed


@in_virtual_time
async def test_a_broken_answer_shows_its_head() -> None:
    exchange, wire, completed = one()
    exchange.start(200, ((b"content-length", b"5"),))
    await exchange.abort()

    assert wire.writes == [b"HTTP/1.1 200 OK\r\n" + DATE + b"content-length: 5\r\n\r\n"]
    assert (wire.closed, completed) == (True, [])


@in_virtual_time
async def test_a_header_that_would_break_out_of_its_line_is_refused() -> None:
    exchange, wire, _ = one()
    with pytest.raises(ValueError, match="line break"):
        exchange.start(200, ((b"x-a", b"b\r\nx-b: c"),))

    assert (exchange.progress, wire.got) == (WAITING, b"")


@pytest.mark.parametrize("parts", [[], [b"a"], [b"a", b"b", b""]])
@in_virtual_time
async def test_the_body_of_a_request_is_handed_over_once(parts: list[bytes]) -> None:
    exchange, _, _ = one()
    exchange.parts = list(parts)

    assert exchange.body() == b"".join(parts)
    assert exchange.body() == b""


@in_virtual_time
async def test_a_client_that_had_left_before_it_was_asked_about_is_told_of_once() -> None:
    exchange, _, _ = one()
    left: list[int] = []
    exchange.disconnected = True
    assert (exchange.disconnected, exchange.progress) == (True, LEFT)
    exchange.on_left(lambda: left.append(1))
    assert left == [], "not before the caller has gone on"
    await settled()
    assert left == [1]
    exchange.left()
    exchange.disconnected = False

    assert (left, exchange.progress) == ([1], LEFT)


@in_virtual_time
async def test_the_lines_of_the_server_are_those_of_the_moment() -> None:
    """uvicorn puts another date there every second."""
    for date in (b"today", b"tomorrow"):
        wire = Writes()
        wire.connection.server_state.default_headers = [(b"date", date), (b"server", b"x")]
        exchange = exchange_of(wire)
        exchange.start(200, ())
        exchange.put(b"", last=True)

        assert b"date: %b\r\nserver: x\r\n" % date in wire.got


def test_the_lines_of_the_server_are_joined_once_for_all_answers_of_a_second() -> None:
    lines = [(b"date", b"today"), (b"server", b"x")]

    assert _joined(lines) is _joined(lines)
    assert _joined([*lines]) == _joined(lines)
