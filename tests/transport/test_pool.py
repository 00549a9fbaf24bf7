"""The HTTP/1.1 client against servers that do everything badly, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable
from itertools import pairwise

import brotli
import pytest
from badserver import BadServer, Line
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shortages import no_descriptors

from balancer.clock import Clock
from balancer.headers import Headers
from balancer.model import Origin, WireRequest
from balancer.transport import Transport, TransportError, UpstreamResponse
from balancer.transport.limits import LIMITS, Limits

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
BROTLI = b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\n\r\n" + brotli.compress(b"hello")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


def wire(port: int, body: bytes = b"{}", headers: Headers = (), method: bytes = b"POST") -> WireRequest:
    return WireRequest(Origin(tls=False, host="127.0.0.1", port=port), method, b"/x?y", headers, (body,))


async def ask(
    transport: Transport,
    request: WireRequest,
    *,
    connect_s: float = 2,
    head_s: float = 2,
    read_s: float = 2,
    flowing: bool = False,
) -> tuple[int, Headers, bytes]:
    async with transport.exchange(request, connect_s=connect_s, head_s=head_s) as answer:
        body = await (handed_on(answer, read_s) if flowing else answer.read_whole(10_000_000, read_s))
        return answer.status, answer.headers, body


async def handed_on(answer: UpstreamResponse, within_s: float) -> bytes:
    """Take a body as the relay takes a stream: handed on as it comes, but for what is refused now and then."""
    parts: list[bytes] = []

    def give(data: bytes) -> bool:
        parts.append(data)
        return len(parts) % 3 > 0

    while (data := answer.read_nowait()) != b"":
        if data is not None:
            parts.append(data)
        elif answer.flows:
            await answer.flow(give, within_s)
        else:
            data = await answer.read(within_s)
            if not data:
                break
            parts.append(data)
    return b"".join(parts)


MANNERS = pytest.mark.parametrize("flowing", [False, True], ids=["read", "handed on"])


def saying(*parts: bytes, then: str = "keep", slowly: bool = False) -> Callable[[Line], Awaitable[None]]:
    """Answer every request with `parts`, then keep the connection, close it or reset it."""

    async def script(line: Line) -> None:
        while await line.request():
            await line.say(*parts, one_byte_at_a_time=slowly)
            if then == "close":
                line.close()
                return
            if then == "reset":
                line.reset()
                return

    return script


GOOD: dict[str, tuple[Callable[[Line], Awaitable[None]], bytes]] = {
    "by length": (saying(OK), b"hello"),
    "by chunks": (
        saying(CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nx-trailer: 1\r\n\r\n"),
        b"hello",
    ),
    "by closing": (saying(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo", then="close"), b"hello"),
    "HTTP/1.0": (saying(b"HTTP/1.0 200 OK\r\n\r\nhello", then="close"), b"hello"),
    "one byte at a time": (saying(OK, slowly=True), b"hello"),
    "after interim answers": (
        saying(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK),
        b"hello",
    ),
    "no body at all": (saying(b"HTTP/1.1 204 No Content\r\n\r\n"), b""),
    "not modified": (saying(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n"), b""),
    "an empty body": (saying(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), b""),
    "gzip that nobody asked for": (
        saying(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
               % (len(gzip.compress(b"hello")), gzip.compress(b"hello"))),
        b"hello",
    ),
    "deflate": (
        saying(b"HTTP/1.1 200 OK\r\ncontent-encoding: deflate\r\n\r\n" + zlib.compress(b"hello"), then="close"),
        b"hello",
    ),
    "brotli, one byte at a time": (
        saying(BROTLI, then="close", slowly=True),
        b"hello",
    ),
}  # fmt: skip


@MANNERS
@pytest.mark.parametrize(("script", "body"), GOOD.values(), ids=GOOD)
async def test_good_answers(script: Callable[[Line], Awaitable[None]], body: bytes, flowing: bool) -> None:
    async with BadServer(script) as server:
        transport = Transport()

        for _ in range(3):
            assert (await ask(transport, wire(server.port), flowing=flowing))[2] == body
        await transport.close()


async def silent(line: Line) -> None:
    await line.request()
    await asyncio.sleep(60)


async def half(line: Line) -> None:
    await line.request()
    await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello")
    line.writer.write_eof()
    await asyncio.sleep(60)


async def stalling(line: Line) -> None:
    await line.request()
    await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello")
    await asyncio.sleep(60)


async def reset_on_arrival(line: Line) -> None:
    line.reset()


async def endless_head(line: Line) -> None:
    await line.request()
    await line.say(b"HTTP/1.1 200 OK\r\nx-endless: ")
    while True:
        await line.say(b"x" * 10_000)


async def endless_fields(line: Line) -> None:
    await line.request()
    await line.say(b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(2000)))
    await asyncio.sleep(60)


BAD: dict[str, tuple[Callable[[Line], Awaitable[None]], set[str]]] = {
    "reset on arrival": (reset_on_arrival, {"reset", "closed"}),
    "reset after the request": (saying(then="reset"), {"reset"}),
    "reset after the head": (saying(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", then="reset"), {"reset"}),
    "reset in the body": (saying(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", then="reset"), {"reset"}),
    "reset in a body that ends by closing": (saying(b"HTTP/1.1 200 OK\r\n\r\nhe", then="reset"), {"reset"}),
    "closed before the head": (saying(then="close"), {"closed"}),
    "closed in the head": (saying(b"HTTP/1.1 200 OK\r\ncont", then="close"), {"closed"}),
    "closed in the body": (saying(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", then="close"), {"closed"}),
    "closed between chunks": (
        saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n", then="close"),
        {"closed"},
    ),
    "half closed": (half, {"closed"}),
    "silence": (silent, {"head_timeout"}),
    "silence in the body": (stalling, {"idle_timeout"}),
    "garbage": (saying(b"SSH-2.0-OpenSSH_9\r\n\r\n", then="close"), {"protocol"}),
    "wrong chunk sizes": (
        saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n"),
        {"protocol"},
    ),
    "a chunk size that is none": (saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), {"protocol"}),
    "two lengths": (saying(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello"), {"protocol"}),
    "length and chunks": (
        saying(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        {"protocol"},
    ),
    "an odd transfer-encoding": (
        saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nx", then="close"),
        {"protocol"},
    ),
    "an upgrade": (saying(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"), {"protocol"}),
    "interim answers without end": (saying(b"HTTP/1.1 100 Continue\r\n\r\n" * 50), {"protocol"}),
    "an endless head": (endless_head, {"too_large", "protocol"}),
    "endless fields": (endless_fields, {"too_large"}),
    "gzip that is none": (
        saying(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello"),
        {"encoding"},
    ),
    "gzip cut short": (
        saying(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + gzip.compress(b"hello" * 99)[:-9], then="close"),
        {"closed"},
    ),
    "an encoding that nobody knows": (
        saying(b"HTTP/1.1 200 OK\r\ncontent-encoding: zz\r\ncontent-length: 0\r\n\r\n"),
        {"encoding"},
    ),
}


@MANNERS
@pytest.mark.parametrize(("script", "causes"), BAD.values(), ids=BAD)
async def test_bad_answers(script: Callable[[Line], Awaitable[None]], causes: set[str], flowing: bool) -> None:
    async with BadServer(script) as server:
        transport = Transport()

        with pytest.raises(TransportError) as caught:
            await ask(transport, wire(server.port), head_s=0.3, read_s=0.3, flowing=flowing)

        assert caught.value.cause in causes
        assert caught.value.sent
        assert "active=0" in repr(transport)
        await transport.close()


async def test_nobody_listens() -> None:
    async with BadServer(silent) as server:
        port = server.port
    with pytest.raises(TransportError) as caught:
        await ask(Transport(), wire(port))

    assert (caught.value.cause, caught.value.sent) == ("refused", False)


async def test_a_name_that_is_not_found() -> None:
    request = WireRequest(Origin(tls=False, host="no-such-host.invalid", port=80), b"GET", b"/", ())

    with pytest.raises(TransportError) as caught:
        await ask(Transport(), request, connect_s=5)

    assert caught.value.cause in ("dns", "connect_timeout")


async def test_connections_are_kept_alive() -> None:
    async with BadServer(saying(OK)) as server:
        transport = Transport()
        for _ in range(10):
            await ask(transport, wire(server.port))

        assert server.connections == 1
        assert repr(transport) == "<Transport idle=1 active=0>"
        await transport.close()


async def test_a_connection_that_says_close_is_not_used_again() -> None:
    async with BadServer(saying(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")) as server:
        transport = Transport()
        for _ in range(3):
            await ask(transport, wire(server.port))

        assert server.connections == 3
        await transport.close()


async def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    async with BadServer(saying(OK + OK)) as server:
        transport = Transport()
        for _ in range(3):
            assert (await ask(transport, wire(server.port)))[2] == b"hello"

        assert server.connections == 3
        await transport.close()


async def closing_under_our_feet(line: Line) -> None:
    """Answer once; take the next request and close without a word."""
    await line.request()
    await line.say(OK)
    await line.request()


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_keep_alive_closed_under_our_feet_is_tried_once_more_on_a_fresh_connection(size: int) -> None:
    async with BadServer(closing_under_our_feet) as server:
        transport = Transport()
        for _ in range(4):
            assert (await ask(transport, wire(server.port, b"x" * size)))[2] == b"hello"

        assert server.connections == 4
        await transport.close()


async def test_a_fresh_connection_is_never_tried_again() -> None:
    async with BadServer(saying(then="close")) as server:
        with pytest.raises(TransportError):
            await ask(Transport(), wire(server.port))

        assert server.connections == 1


async def test_what_was_answered_in_part_is_never_asked_again() -> None:
    async def second_is_cut(line: Line) -> None:
        await line.request()
        await line.say(OK)
        await line.request()
        await line.say(b"HTTP/1.1 200")
        line.close()

    async with BadServer(second_is_cut) as server:
        transport = Transport()
        await ask(transport, wire(server.port))
        with pytest.raises(TransportError):
            await ask(transport, wire(server.port))

        assert server.connections == 1
        await transport.close()


async def test_an_answer_before_the_request_was_out() -> None:
    async def impatient(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        await line.say(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno")
        await asyncio.sleep(60)

    async with BadServer(impatient) as server:
        transport = Transport()

        status, _, body = await ask(transport, wire(server.port, b"x" * 20_000_000))

        assert (status, body) == (413, b"no")
        assert repr(transport) == "<Transport idle=0 active=0>"
        await transport.close()


async def test_leaving_closes_at_once() -> None:
    gone = asyncio.Event()

    async def streaming(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        await line.reader.read()
        gone.set()

    async with BadServer(streaming) as server:
        transport = Transport()
        async with transport.exchange(wire(server.port), connect_s=1, head_s=1) as answer:
            assert await answer.read(1) == b"x"
        await asyncio.wait_for(gone.wait(), 2)
        assert repr(transport) == "<Transport idle=0 active=0>"


@pytest.mark.parametrize("when", ["head", "body"])
async def test_a_cancelled_exchange_leaves_nothing_behind(when: str) -> None:
    gone, begun = asyncio.Event(), asyncio.Event()

    async def slow(line: Line) -> None:
        await line.request()
        if when == "body":
            await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx")
        begun.set()
        await line.reader.read()
        gone.set()

    async with BadServer(slow) as server:
        transport = Transport()
        task = asyncio.create_task(ask(transport, wire(server.port), head_s=30, read_s=30))
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(gone.wait(), 2)

        assert repr(transport) == "<Transport idle=0 active=0>"


async def test_a_slow_reader_pauses_the_upstream() -> None:
    written = 0

    async def torrent(line: Line) -> None:
        nonlocal written
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await line.say(b"x" * 100_000)
            written += 100_000

    async with BadServer(torrent) as server:
        async with Transport().exchange(wire(server.port), connect_s=1, head_s=1) as answer:
            before = -1
            while written != before:
                before = written
                await asyncio.sleep(0.1)
            stalled = written
            assert stalled < 30_000_000
            for _ in range(200):
                assert len(await answer.read(1)) < 1_000_000
        assert written > stalled


async def in_three(line: Line) -> None:
    """Say something three times, 0.2 s apart, and end."""
    await line.request()
    await line.say(CHUNKED)
    for _ in range(3):
        await asyncio.sleep(0.2)
        await line.say(b"2\r\nhe\r\n")
    await asyncio.sleep(0.2)
    await line.say(b"0\r\n\r\n")


async def test_what_is_handed_on_comes_at_once_and_each_wait_has_its_own_time() -> None:
    given: list[bytes] = []

    def give(data: bytes) -> bool:
        given.append(data)
        return True

    async with BadServer(in_three) as server:
        transport = Transport()
        async with transport.exchange(wire(server.port), connect_s=1, head_s=1) as answer:
            await answer.flow(give, 0.4)  # less than all of it takes
            assert answer.read_nowait() == b""
        assert given == [b"he"] * 3
        assert repr(transport) == "<Transport idle=1 active=0>"
        await transport.close()


async def test_who_fails_to_take_what_is_handed_on_hears_of_it_himself() -> None:
    def give(data: bytes) -> bool:
        raise LookupError(data)

    async with BadServer(in_three) as server:
        transport = Transport()
        with pytest.raises(LookupError, match="he"):
            async with transport.exchange(wire(server.port), connect_s=1, head_s=1) as answer:
                await answer.flow(give, 1)
        assert repr(transport) == "<Transport idle=0 active=0>"


async def test_how_a_request_looks_on_the_wire() -> None:
    seen: list[bytes] = []

    async def noting(line: Line) -> None:
        seen.append(await line.request())
        await line.say(OK)

    async with BadServer(noting) as server:
        await ask(Transport(), wire(server.port, b"{}", ((b"x-api-key", b"k"),)))

    assert seen == [
        b"POST /x?y HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nx-api-key: k\r\naccept-encoding: identity\r\n"
        b"content-length: 2\r\n\r\n{}" % server.port
    ]


@pytest.mark.parametrize("headers", [((b"x", b"a\r\nb: c"),), ((b"x\n", b"a"),), ((b"x", b"a\0"),), ((b"x", b"\r"),)])
async def test_a_header_can_not_break_out(headers: Headers) -> None:
    with pytest.raises(ValueError, match="inside a header"):
        await ask(Transport(), wire(9, headers=headers))


@pytest.mark.parametrize("target", [b"/x y", b"/x\r\ny: z", b"/x\n", b"/x\0y", b"/\t", b""])
async def test_a_target_can_not_break_out(target: bytes) -> None:
    with pytest.raises(ValueError, match="inside a request's target"):
        await ask(Transport(), WireRequest(wire(9).origin, b"POST", target, ()))


@pytest.mark.parametrize("others", [(), ((b"x-api-key", b"k"),)])
async def test_a_coding_that_was_asked_for_is_the_only_one(others: Headers) -> None:
    """Wherever among the headers it stands."""
    seen: list[bytes] = []

    async def noting(line: Line) -> None:
        seen.append(await line.request())
        await line.say(OK)

    async with BadServer(noting) as server:
        await ask(Transport(), wire(server.port, headers=((b"accept-encoding", b"gzip"), *others)))
        await ask(Transport(), wire(server.port, headers=(*others, (b"accept-encoding", b"gzip"))))

    for head in seen:
        assert head.count(b"accept-encoding: ") == head.count(b"accept-encoding: gzip\r\n") == 1


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40)
@given(st.lists(st.integers(0, 130), max_size=12), st.booleans())
async def test_a_response_cut_anywhere_is_the_same(cuts: list[int], flowing: bool) -> None:
    data = (
        b"HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhell\r\n10\r\n"
        + b"o" * 16
        + b"\r\n0\r\n\r\n"
    )
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]

    async def cutting(line: Line) -> None:
        await line.request()
        for a, b in pairwise(places):
            await line.say(data[a:b])
            await asyncio.sleep(0)

    async with BadServer(cutting) as server:
        transport = Transport()
        status, headers, body = await ask(transport, wire(server.port), flowing=flowing)
        await transport.close()

    assert (status, headers[0], body) == (200, (b"x", b"y"), b"hell" + b"o" * 16)


async def test_origins_that_are_gone_are_let_go() -> None:
    async with BadServer(saying(OK)) as server:
        transport = Transport()
        await ask(transport, wire(server.port))
        transport.retire(())

        assert repr(transport) == "<Transport idle=0 active=0>"


async def test_a_connection_whose_origin_went_while_it_was_in_use_is_closed_when_it_is_given_back() -> None:
    closed = asyncio.Event()

    async def noting(line: Line) -> None:
        await line.request()
        await line.say(OK)
        assert await line.request() == b""
        closed.set()

    async with BadServer(noting, saying(OK)) as server:
        transport, request = Transport(), wire(server.port)
        async with transport.exchange(request, connect_s=1, head_s=1) as answer:
            transport.retire(())
            assert await answer.read_whole(5, 1) == b"hello"
            assert not closed.is_set()
        assert repr(transport) == "<Transport idle=0 active=0>"
        await asyncio.wait_for(closed.wait(), 2)

        async with transport.exchange(request, connect_s=1, head_s=1) as answer:
            transport.retire((request.origin,))
            assert await answer.read_whole(5, 1) == b"hello"
        assert repr(transport) == "<Transport idle=1 active=0>"
        await transport.close()


class Time:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.clock = Clock(lambda: self.now, lambda: 0.0)


@pytest.mark.parametrize(("took_s", "connections"), [(LIMITS.stale_s, 2), (LIMITS.stale_s + 0.001, 1)])
async def test_a_connection_that_breaks_late_was_not_stale(took_s: float, connections: int) -> None:
    """Up to the limit it was closed while it was idle: the request is sent again. Later it may have been answered."""
    time = Time()

    async def thinking_and_dying(line: Line) -> None:
        await line.request()
        await line.say(OK)
        await line.request()
        time.now += took_s
        line.reset()

    async with BadServer(thinking_and_dying, saying(OK)) as server:
        transport = Transport(time.clock)
        await ask(transport, wire(server.port))
        asked = ask(transport, wire(server.port))
        if connections == 1:
            with pytest.raises(TransportError, match="reset"):
                await asked
        else:
            await asked

        assert server.connections == connections
        await transport.close()


@pytest.mark.parametrize(("idle_s", "connections"), [(LIMITS.idle_s - 0.001, 1), (LIMITS.idle_s, 2)])
async def test_a_connection_is_kept_for_so_long_and_no_longer(idle_s: float, connections: int) -> None:
    time = Time()
    async with BadServer(saying(OK)) as server:
        transport = Transport(time.clock)
        await ask(transport, wire(server.port))
        time.now += idle_s
        await ask(transport, wire(server.port))

        assert server.connections == connections
        await transport.close()


async def test_no_more_connections_are_kept_than_the_limit() -> None:
    async with BadServer(saying(OK)) as server:
        transport = Transport(limits=Limits(idle_per_origin=2))
        await asyncio.gather(*(ask(transport, wire(server.port)) for _ in range(2)))
        assert repr(transport) == "<Transport idle=2 active=0>"
        await asyncio.gather(*(ask(transport, wire(server.port)) for _ in range(4)))
        assert repr(transport) == "<Transport idle=2 active=0>"
        await transport.close()


@pytest.mark.parametrize(("age", "connections"), [(0.79, 1), (1.21, 2)])
async def test_a_busy_connection_is_used_until_it_is_old_and_no_longer(age: float, connections: int) -> None:
    time = Time()
    async with BadServer(saying(OK)) as server:
        transport = Transport(time.clock)
        begin = time.now
        while time.now < begin + LIMITS.age_s * age - 10:
            await ask(transport, wire(server.port))
            time.now += 10
        time.now = begin + LIMITS.age_s * age
        await ask(transport, wire(server.port))

        assert server.connections == connections
        await transport.close()


async def test_connections_that_were_opened_together_do_not_end_together() -> None:
    async with BadServer(saying(OK)) as server:
        transport = Transport()
        opened = [await transport.open(wire(server.port).origin, 2) for _ in range(20)]
        ends = sorted(connection.good_until for connection in opened)

        assert ends[-1] - ends[0] > LIMITS.age_s * LIMITS.age_jitter / 2
        await transport.close()


async def test_connections_of_a_provider_that_has_changed_are_not_used_again() -> None:
    async with BadServer(saying(OK)) as server, BadServer(saying(OK)) as other:
        transport = Transport()
        changed, same = wire(server.port), wire(other.port)
        await ask(transport, same)
        await ask(transport, changed)
        async with transport.exchange(changed, connect_s=1, head_s=1) as answer:
            transport.renew({changed.origin})
            assert await answer.read_whole(5, 1) == b"hello"
        assert repr(transport) == "<Transport idle=1 active=0>"
        for request in (changed, same):
            await ask(transport, request)

        assert (server.connections, other.connections) == (2, 1)
        await transport.close()


async def test_idle_connections_make_room_where_there_are_no_descriptors() -> None:
    short: list[str] = []
    async with BadServer(saying(OK)) as server, BadServer(saying(OK)) as other:
        transport = Transport()
        transport.on_shortage = short.append
        await ask(transport, wire(server.port))
        transport.most = 1
        await ask(transport, wire(other.port))
        assert (repr(transport), short) == ("<Transport idle=1 active=0>", [])

        async with transport.exchange(wire(other.port), connect_s=1, head_s=1):
            with pytest.raises(TransportError) as caught:
                await ask(transport, wire(server.port))
        assert (caught.value.cause, caught.value.detail) == ("local", "descriptors")
        assert short == ["descriptors"]
        await transport.close()


async def test_a_connection_that_lacks_a_descriptor_is_no_fault_of_the_provider_s() -> None:
    short: list[str] = []
    async with BadServer(saying(OK)) as server:
        transport = Transport()
        transport.on_shortage = short.append
        with no_descriptors(), pytest.raises(TransportError) as caught:
            await ask(transport, wire(server.port))
        assert (caught.value.cause, caught.value.detail, caught.value.sent) == ("local", "descriptors", False)
        assert short == ["descriptors"]
        assert (await ask(transport, wire(server.port)))[2] == b"hello"
        await transport.close()
