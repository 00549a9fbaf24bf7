"""The connections of clients: what goes which way, what is refused, what is waited for, and for how long.

What needs time runs in virtual time, so bounds are tried from both sides. What needs the operating system (who closes,
what is left for the collector of cycles) runs over real sockets.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path

import pytest
import pytest_asyncio
from client_side import BODY, HOST, MESSAGE, STREAMED, WHOLE, Failing, Front, Wire, chunked, post
from frames import ANSWER
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live.harness import eventually
from uvicorn.server import ServerState
from virtual_time import VirtualTimeLoop, in_virtual_time, loop, settled

from balancer.app import create_app
from balancer.script import Data, Head, Pause
from balancer.server import exchange, http11, run
from balancer.server.limits import ClientLimits

DIRECT, PASSED = "Exchange", "AsgiClient"
ASK = b'{"model":"m","max_tokens":5,"stream":%b,"messages":[],"metadata":{"user_id":"%d"}}'
START = b"POST /v1/messages HTTP/1.1\r\n" + HOST
LIMITS = ClientLimits()


def ask(number: int, stream: bool = True) -> bytes:
    """Return a body that is like no other."""
    return ASK % (b"true" if stream else b"false", number)


async def given_bytes(front: Front, *parts: bytes, plain: bool = False) -> Wire:
    """Return the connection after the client has said `parts`, and everything that takes no time has happened."""
    wire = front.connect(plain=plain)
    for part in parts:
        wire.says(part)
        await settled()
    return wire


# Which way


PLAIN = {
    "a message": post(),
    "counting": post(path=b"/v1/messages/count_tokens"),
    "a query": post(path=b"/v1/messages?beta=true"),
    "close": post(BODY, b"connection: close"),
    "a key of the client's own": post(BODY, b"x-api-key: k"),
    "trailers offered": post(BODY, b"te: trailers"),
}
NOT_PLAIN = {
    "HTTP/1.0": post(version=b"1.0"),
    "chunks": chunked(),
    "a client that asks whether to go on": post(BODY, b"expect: 100-continue"),
    "an expectation of another kind": post(BODY, b"expect: x"),
    "another method": post().replace(b"POST", b"PUT"),
    "another path": post(path=b"/v1/messages/"),
    "an absolute target": post(path=b"http://localhost/v1/messages"),
    "no body": b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"\r\n",
    "an empty body": post(b""),
    "another host": post().replace(b"localhost", b"elsewhere.example"),
    "a page of another origin": post(BODY, b"origin: https://elsewhere.example"),
}


@pytest.mark.parametrize("request_bytes", PLAIN.values(), ids=PLAIN)
@in_virtual_time
async def test_a_plain_request_is_answered_without_asgi(request_bytes: bytes) -> None:
    front = Front(WHOLE)
    wire = await given_bytes(front, request_bytes)

    assert front.ways == [DIRECT]
    assert wire.statuses == [200]


@pytest.mark.parametrize("request_bytes", NOT_PLAIN.values(), ids=NOT_PLAIN)
@in_virtual_time
async def test_whatever_is_not_plain_goes_through_asgi(request_bytes: bytes) -> None:
    front = Front(WHOLE)
    wire = front.connect()
    ways = []
    wire.says(request_bytes)
    ways.append(type(wire.connection.cycle).__name__)
    await settled()

    assert ways == ["RequestResponseCycle"]
    assert front.ways in ([PASSED], [])  # refused, or not for the hot paths
    assert len(wire.answers) >= 1


@in_virtual_time
async def test_only_a_client_that_asks_is_told_to_go_on() -> None:
    for line, statuses in ((b"expect: 100-Continue", [100, 200]), (b"x-a: 100-continue", [200])):
        wire = await given_bytes(Front(WHOLE), chunked(ask(1, stream=False), line))

        assert wire.statuses == statuses


@in_virtual_time
async def test_while_it_drains_everything_goes_through_asgi_and_is_told_to_come_back() -> None:
    front = Front()
    front.drain()
    wire = await given_bytes(front, post())

    assert front.ways == []
    assert (wire.statuses, wire.closed) == ([503], True)


@pytest.mark.parametrize(("size", "expected"), [(0, 200), (1, 413)], ids=["the longest", "one byte more"])
@in_virtual_time
async def test_a_body_is_as_long_as_the_limit_at_most(size: int, expected: int) -> None:
    front = Front(WHOLE, settings="limits: {max_body_bytes: 2048}")
    wire = await given_bytes(front, post(BODY + b" " * (2048 - len(BODY) + size)))

    assert wire.statuses == [expected]
    assert front.ways == ([DIRECT] if expected == 200 else [])


# The same bytes, both ways

FIELDS = [
    b"connection: close", b"connection: keep-alive", b"x-api-key: k", b"authorization: Bearer k", b"x-balancer-key: no",
    b"content-type: application/json", b"content-type: application/json; charset=utf-8", b"content-type: text/plain",
    b"content-encoding: gzip", b"content-encoding: identity", b"accept: */*", b"anthropic-beta: a,b", b"X-Tenant:  t ",
    b"user-agent: claude-cli/2.1 (external)", b"x-stainless-timeout: 600", b"x-claude-code-session-id: s",
    b"origin: http://localhost", b"origin: https://elsewhere.example", b"x-empty:", b"te: trailers", b"expect: x",
]  # fmt: skip
BODIES = [
    ask(1), ask(2, stream=False), b'{"model":"m"}', b"{", b"[]", b'{"model":1}', b'{"model":"m","stream":true}',
    b'{"model":"m","max_tokens":5,"messages":[],"stream":"yes"}', b"\xff", b'{"model":"' + b"m" * 300 + b'"}',
]  # fmt: skip
PATHS = [
    b"/v1/messages", b"/v1/messages?beta=true", b"/v1/messages/count_tokens", b"/v1/messages?", b"/v1/messages??a",
    b"/other", b"/v1/messages/", b"/v1/messages#f", b"//v1/messages",
]  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Bytes of a request: sound, or wrong in a way that the parser lets through."""
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=5, unique=True))
    body, path = draw(st.sampled_from(BODIES)), draw(st.sampled_from(PATHS))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]))
    if draw(st.integers(0, 4)) == 0 and version == b"1.1":
        return chunked(body, *fields, size=draw(st.integers(1, 20))).replace(b"/v1/messages", path, 1)
    return post(body, *fields, path=path, version=version)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(
    sent=st.lists(requests(), min_size=1, max_size=3),
    cuts=st.lists(st.tuples(st.integers(1, 200), st.booleans()), max_size=8),
    script=st.sampled_from([STREAMED, WHOLE, [Head(529), Data(b"{}")], [Head(200), Data(b"x")]]),
    spoilt=st.sampled_from([b"", b"", b"", b"\r\n", b"GARBAGE\r\n\r\n", b"POST / HTTP/1.1\r\n x\r\n\r\n"]),
)
def test_both_ways_give_the_relay_and_the_client_the_same(
    sent: list[bytes], cuts: list[tuple[int, bool]], script: list[object], spoilt: bytes
) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        direct, passed = (runner.run(_outcome(b"".join(sent), cuts, spoilt, script, way)) for way in (True, False))

    assert direct == passed


async def _outcome(
    data: bytes, cuts: list[tuple[int, bool]], spoilt: bytes, script: list[object], direct: bool
) -> object:
    """Return what reaches the relay, what the client gets, and whether its connection is closed."""
    front = Front(script, direct=direct)  # type: ignore[arg-type]
    wire = front.connect()
    for size, waits in cuts:
        wire.says(data[:size])
        data = data[size:]
        if waits:
            await settled()
    wire.says(data)
    await settled()
    wire.says(spoilt)  # by itself: whether the requests before it in the same read are begun is a matter of chance
    await asyncio.sleep(200)
    assert wire.closed
    asked = [
        (r.operation, r.query, r.headers, r.model, r.stream, r.max_tokens, r.conversation, r.client, r.claude_code)
        for r in front.relay.requests
    ]
    ends = [(event.operation, event.status, event.outcome, event.dedup) for event in front.ended]
    if not direct:
        assert DIRECT not in front.ways
    return asked, front.relay.bodies, [answer.comparable for answer in wire.answers], ends, wire.aborted


@pytest.mark.parametrize("request_bytes", [*PLAIN.values(), *NOT_PLAIN.values()], ids=[*PLAIN, *NOT_PLAIN])
@in_virtual_time
async def test_uvicorn_by_itself_answers_alike(request_bytes: bytes) -> None:
    """People may serve the application with `uvicorn` on the command line."""
    ours, plain = Front(WHOLE), Front(WHOLE)
    wires = [await given_bytes(ours, request_bytes), await given_bytes(plain, request_bytes, plain=True)]

    assert [a.comparable for a in wires[0].answers] == [a.comparable for a in wires[1].answers]
    assert ours.relay.bodies == plain.relay.bodies


# What is refused

LONG = b"x-long: " + b"x" * 70_000 + b"\r\n"
TOO_LONG = "longer than 65536 bytes"
INVALID = "not a valid HTTP request"
CODED = START + b"content-type: application/json\r\ntransfer-encoding: %b\r\n\r\n"
REFUSED = {
    "a long header": ([START + LONG + b"\r\n"], TOO_LONG),
    "a long header in two parts": ([START + LONG[:9], LONG[9:] + b"\r\n"], TOO_LONG),
    "many headers": ([START + b"x-a: b\r\n" * 9000 + b"\r\n"], TOO_LONG),
    "a long address": ([b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"], TOO_LONG),
    "headers without end": ([START, *[b"x-a: b\r\n" * 2000] * 20], TOO_LONG),
    "trailers without end": ([chunked()[:-2], *[b"x-a: b\r\n" * 2000] * 20], TOO_LONG),
    "a trailer without end": ([chunked()[:-2], b"x-a: ", *[b"b" * 16_000] * 20], TOO_LONG),
    "another coding": ([CODED % b"gzip, chunked" + b"0\r\n\r\n"], "transfer-encoding"),
    "a coding that is none": ([CODED % b"xchunked" + b"0\r\n\r\n"], "transfer-encoding"),
    "a chunk without size": ([CODED % b"chunked", b"zz\r\nabc"], INVALID),
    "a chunk without end": ([CODED % b"chunked", b"2\r\n{}xx"], INVALID),
    "a coding and a length": ([post(BODY, b"transfer-encoding: chunked")], INVALID),
    "a coding that is not the last, and a length": ([post(BODY, b"transfer-encoding: gzip")], INVALID),
    "two lengths": ([post(BODY, b"content-length: 3")], INVALID),
    "the same length twice": ([post(BODY, b"content-length: %d" % len(BODY))], INVALID),
    "a length with a sign": ([post(BODY).replace(b"length: ", b"length: +")], INVALID),
    "a length in hexadecimal": ([post(BODY).replace(b"length: ", b"length: 0x")], INVALID),
    "a folded header": ([post(BODY, b"x-a: b", b" c")], INVALID),
    "a header without name": ([post(BODY, b": b")], INVALID),
    "a blank before the colon": ([post(BODY, b"x-a : b")], INVALID),
    "a zero inside a header": ([post(BODY, b"x-a: \0")], INVALID),
    "a version that is none": ([post(BODY, version=b"9.9")], INVALID),
    "no HTTP at all": ([b"\x16\x03\x01\x02\x00\x01\x00"], INVALID),
    "a target that is none": ([post(BODY, path=b"http://[")], INVALID),
}  # fmt: skip


@pytest.mark.parametrize(
    "before", [b"", post(), b"GET /other HTTP/1.1\r\n" + HOST + b"\r\n"], ids=["new", "used", "asgi"]
)
@pytest.mark.parametrize(("parts", "words"), REFUSED.values(), ids=REFUSED)
@in_virtual_time
async def test_what_is_no_request_is_told_so_and_the_connection_closed(
    parts: list[bytes], words: str, before: bytes
) -> None:
    front = Front(WHOLE)
    wire = await given_bytes(front, before, *parts)

    assert wire.closed
    assert wire.statuses == ([200, 400] if before else [400])
    answer = wire.answers[-1]
    assert words in answer.body.decode()
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-balancer-request-id"] == answer.headers["request-id"]
    assert answer.headers["request-id"] in answer.body.decode()
    assert len(front.relay.requests) == (before == post())


@pytest.mark.parametrize("reads", [1, 2])
@pytest.mark.parametrize("over", [0, 1])
@in_virtual_time
async def test_a_head_is_as_long_as_the_limit_at_most(over: int, reads: int) -> None:
    """Counted is the target, and every header as it is sent."""
    front = Front(WHOLE, limits=ClientLimits(head_max_bytes=1000))
    lines = post().split(b"\r\n", 1)[1].removesuffix(b"\r\n" + BODY)
    data = post(BODY, b"x-long: " + b"x" * (1000 + over - len(b"/v1/messages" + lines + b"x-long: \r\n")))
    at = len(data) // reads
    wire = await given_bytes(front, data[:at], data[at:])

    assert wire.statuses == [400 if over else 200]


@in_virtual_time
async def test_a_refused_request_puts_nothing_into_the_answer_before_it() -> None:
    front = Front([Head(200, ((b"content-type", b"text/event-stream"),)), Pause(5), *STREAMED[1:]])
    wire = await given_bytes(front, post(ask(1)) + CODED % b"chunked" + b"zz\r\n")

    assert wire.closed
    assert (wire.answers, wire.late) == ([], b"")


@in_virtual_time
async def test_a_body_that_goes_wrong_behind_its_answer_only_closes() -> None:
    front = Front()
    wire = await given_bytes(
        front, b"GET /other HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n", b"zz\r\n"
    )

    assert (wire.statuses, wire.closed, wire.late) == ([200], True, b"")


@in_virtual_time
async def test_every_head_is_measured_by_itself() -> None:
    line = b"x-long: " + b"x" * 40_000
    wire = await given_bytes(
        Front(WHOLE),
        *[part for n in (1, 2, 3) for data in [post(ask(n, stream=False), line)] for part in (data[:99], data[99:])],
    )

    assert wire.statuses == [200, 200, 200]


@in_virtual_time
async def test_what_a_chunk_holds_is_no_trailer() -> None:
    body = b'{"model":"m","max_tokens":5,"messages":[]' + b" " * 300_000 + b"}"
    data = chunked(body, size=len(body))
    wire = await given_bytes(Front(WHOLE), *[data[at : at + 50_000] for at in range(0, len(data), 50_000)])

    assert wire.statuses == [200]


@in_virtual_time
async def test_trailers_are_no_headers_and_not_the_next_head() -> None:
    line = b"x-long: " + b"x" * 39_000 + b"\r\n"
    trailers = b"origin: https://elsewhere.example\r\nhost: elsewhere.example\r\n" + line
    first, last = chunked(ask(1), trailers=trailers), post(ask(2), line[:-2])
    front = Front()
    wire = await given_bytes(front, first[:-9], first[-9:], last[:99], last[99:30_000], last[30_000:])

    assert wire.statuses == [200, 200]


# How long is waited


@in_virtual_time
async def test_a_new_connection_that_says_nothing_is_closed_after_the_time_of_a_head() -> None:
    wire = Front().connect()

    assert await wire.closes() == pytest.approx(LIMITS.head_s, abs=0.01)
    assert wire.got == b""


LATE = {
    "a head": (START, LIMITS.head_s, "headers did not come"),
    "a body": (post()[:-1], LIMITS.body_idle_s, "body stopped"),
    "chunks": (chunked()[:-20], LIMITS.body_idle_s, "body stopped"),
    "trailers": (chunked(trailers=b"x-a: b\r\n")[:-4], LIMITS.body_idle_s, "body stopped"),
    "a body that is not looked at": (post(path=b"/v1/messages/x")[:-1], LIMITS.body_idle_s, ""),
}


@pytest.mark.parametrize("before", [b"", post(ask(9))], ids=["new", "used"])
@pytest.mark.parametrize(("said", "within_s", "words"), LATE.values(), ids=LATE)
@in_virtual_time
async def test_what_stops_is_told_so_after_its_time(said: bytes, within_s: float, words: str, before: bytes) -> None:
    front = Front()
    wire = await given_bytes(front, before, said)

    assert await wire.closes() == pytest.approx(within_s, abs=0.01)
    last = wire.answers[-1]
    assert last.status == (408 if words else 200)  # what was answered already is only closed
    assert words in last.body.decode()
    await asyncio.sleep(1)
    assert wire.late == b""  # it is told once, though the application has waited for its body as long


DRIPS = {"a head": (START + b"x-a: ", b"a"), "a body": (post(b" " * 50_000)[:-49_000], b"a"),
         "chunks": (CODED % b"chunked", b"1\r\na\r\n")}  # fmt: skip


@pytest.mark.parametrize(("begin", "drop"), DRIPS.values(), ids=DRIPS)
@in_virtual_time
async def test_a_drip_keeps_no_connection(begin: bytes, drop: bytes) -> None:
    wire = await given_bytes(Front(), begin)
    for _ in range(200):
        wire.says(drop)
        await asyncio.sleep(1)
        if wire.closed:
            break

    assert wire.statuses == [408]
    assert asyncio.get_running_loop().time() <= 2 * LIMITS.body_idle_s


@pytest.mark.parametrize("kind", ["direct", "chunks"])
@in_virtual_time
async def test_a_long_body_at_a_modest_pace_is_taken(kind: str) -> None:
    body = b'{"model":"m","max_tokens":5,"messages":[]' + b" " * 60_000 + b"}"
    data = post(body) if kind == "direct" else chunked(body, size=2600)
    wire = await given_bytes(Front(WHOLE), data[:300])
    for at in range(300, len(data), 260):
        await asyncio.sleep(1)
        wire.says(data[at : at + 260])
    await settled()

    assert wire.statuses == [200]


AFTER = {
    "a direct answer": (post(), b""),
    "an answer by asgi": (chunked(), b""),
    "an answer of another path": (b"GET /other HTTP/1.1\r\n" + HOST + b"\r\n", b""),
    "a line break after it": (post(), b"\r\n"),
    "a line break after an answer by asgi": (chunked(), b"\r\n"),
    "requests ahead of time": (post(ask(1, stream=False)) + post(ask(2, stream=False)), b""),
}


@pytest.mark.parametrize(("said", "more"), AFTER.values(), ids=AFTER)
@in_virtual_time
async def test_a_connection_that_is_not_used_any_more_is_closed_after_its_time(said: bytes, more: bytes) -> None:
    wire = await given_bytes(Front(WHOLE), said)
    await asyncio.sleep(1)
    wire.says(more)

    assert await wire.closes() == pytest.approx(run.KEEP_ALIVE_S - 1, abs=0.01)
    assert 400 not in wire.statuses


@in_virtual_time
async def test_an_answered_request_whose_body_ends_later_begins_the_time_of_the_next() -> None:
    data = b"GET /other HTTP/1.1\r\n" + HOST + b"content-length: 2\r\n\r\n"
    wire = await given_bytes(Front(), data + b"a")
    await asyncio.sleep(20)
    wire.says(b"b")

    assert await wire.closes() == pytest.approx(run.KEEP_ALIVE_S, abs=0.01)
    assert wire.statuses == [200]


@in_virtual_time
async def test_a_client_is_not_hurried_while_its_answer_is_on_the_way() -> None:
    slow = [Head(200, ((b"content-type", b"text/event-stream"),)), Pause(110), *STREAMED[1:]]
    wire = await given_bytes(
        Front(slow, settings="stream_idle_timeout: 200, request_timeout: 200"), post(ask(1)), START
    )

    assert await wire.closes() == pytest.approx(4 * LIMITS.head_s, abs=0.01)
    assert wire.statuses == [200, 408]


@pytest.mark.parametrize("kind", [post, chunked], ids=["direct", "asgi"])
@in_virtual_time
async def test_an_answer_may_take_longer_than_a_head_and_the_time_of_the_next_request_begins_behind_it(
    kind: Callable[[bytes], bytes],
) -> None:
    slow = [Head(200, ((b"content-type", b"text/event-stream"),)), Pause(100), *STREAMED[1:]]
    data = kind(ask(1))
    front = Front(slow, settings="stream_idle_timeout: 200, request_timeout: 200")
    wire = await given_bytes(front, data[:50], data[50:])

    assert await wire.closes() == pytest.approx(100 + run.KEEP_ALIVE_S, abs=0.01)
    assert [(answer.status, answer.whole) for answer in wire.answers] == [(200, True)]


@in_virtual_time
async def test_a_body_that_we_do_not_read_is_not_late() -> None:
    """A request that came ahead of time waits for its turn, and its body with it."""
    slow = [Head(200, ((b"content-type", b"text/event-stream"),)), Pause(110), *STREAMED[1:]]
    front = Front(slow, STREAMED, settings="stream_idle_timeout: 200, request_timeout: 200")
    wire = await given_bytes(front, post(ask(1)) + post(ask(2))[:-1])
    assert not wire.reads
    await asyncio.sleep(115)
    assert (wire.closed, wire.statuses) == (False, [200])
    wire.says(post(ask(2))[-1:])
    await settled()

    assert wire.statuses == [200, 200]


# What must happen once


@pytest.mark.parametrize("said", [post, chunked], ids=["direct", "asgi"])
@in_virtual_time
async def test_requests_one_after_the_other_are_counted_once_each(said: object) -> None:
    front = Front(WHOLE)
    wire = await given_bytes(front, *[said(ask(n, stream=False)) for n in range(5)])  # type: ignore[operator]

    assert wire.statuses == [200] * 5
    assert front.state.total_requests == 5
    assert len(front.relay.requests) == 5
    assert front.state.tasks == set()


@in_virtual_time
async def test_a_connection_has_one_task_and_two_timers_however_many_requests_it_brings() -> None:
    front = Front(WHOLE)
    wire = await given_bytes(front, post(ask(0, stream=False)))
    tasks, timers = loop().tasks, loop().timers
    for number in range(1, 20):
        wire.says(post(ask(number, stream=False)))
        await settled()

    assert len(wire.answers) == 20
    assert loop().tasks == tasks
    assert loop().timers - timers <= 1  # the relay's own


@in_virtual_time
async def test_a_body_in_many_parts_has_one_timer() -> None:
    wire = Front(WHOLE).connect()
    timers = loop().timers
    data = post(ask(1, stream=False))
    wire.says(*[data[at : at + 1] for at in range(len(data))])

    assert loop().timers - timers == 1


@in_virtual_time
async def test_a_request_that_comes_before_the_task_is_ready_is_answered_by_another() -> None:
    front = Front(WHOLE)
    wire = front.connect()
    wire.says(post(ask(1, stream=False)))
    for _ in range(20):
        if wire.got.endswith(MESSAGE):
            break
        await asyncio.sleep(0)
    wire.says(post(ask(2, stream=False)))
    await settled()
    wire.says(post(ask(3, stream=False)))
    await settled()

    assert wire.statuses == [200] * 3
    assert front.ways == [DIRECT] * 3
    assert front.state.tasks == set()


# What goes wrong on our side


@pytest.mark.parametrize("begun", [False, True])
@in_virtual_time
async def test_a_fault_of_ours_ends_the_connection(begun: bool) -> None:
    relay = type("FailingRelay", (Failing,), {"begins": begun})
    for _ in range(2):  # the second is not taken for the same request as the first
        front = Front(relay=relay)
        wire = await given_bytes(front, post())

        assert wire.closed
        assert [(answer.status, answer.whole) for answer in wire.answers] == ([(200, False)] if begun else [])
        assert (b"so far" in wire.got) is begun


@in_virtual_time
async def test_a_server_that_stops_closes_idle_connections_and_lets_answers_end() -> None:
    front = Front([Head(200, ((b"content-type", b"text/event-stream"),)), Pause(1), *STREAMED[1:]])
    idle, asking = front.connect(), front.connect()
    asking.says(post(ask(1)))
    await settled()
    for connection in list(front.state.connections):
        connection.shutdown()
    await settled()
    assert (idle.closed, asking.closed) == (True, False)
    await asyncio.sleep(2)

    assert asking.closed
    assert [(answer.whole, answer.headers["connection"]) for answer in asking.answers] == [(True, "close")]


# Clients that leave


@pytest.mark.parametrize("line", [b"x-a: b", b"expect: x"], ids=["direct", "asgi"])
@pytest.mark.parametrize("ahead", [0, 2])
@in_virtual_time
async def test_a_client_that_leaves_ends_the_work_for_it(line: bytes, ahead: int) -> None:
    front = Front([Head(200, ((b"content-type", b"text/event-stream"),)), Data(ANSWER[:600]), Pause(50)])
    wire = await given_bytes(front, post(ask(1), line) + b"".join(post(ask(2 + n)) for n in range(ahead)))
    await asyncio.sleep(0.1)
    wire.leaves()
    await asyncio.sleep(0.1)

    assert [event.outcome for event in front.ended] == ["abandoned"]
    assert len(front.relay.requests) == 1
    assert front.state.tasks == set()
    assert front.state.connections == set()


# Over real sockets

CONFIG = """\
providers:
  - {name: a, type: simulated, simulated_config: {latency: 0, speed: 0}}
model_routes:
  "*": [{provider: a}]
settings: {log_file: null, log_level: CRITICAL, drills: true}
"""


@pytest_asyncio.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """Serve simulated answers inside this process."""
    path = tmp_path / "providers.yaml"
    path.write_text(CONFIG)
    app = create_app(str(path), limits=ClientLimits(head_s=0.3, body_idle_s=0.3))
    await app.start()
    config = run.configured(app)
    config.load()
    state = ServerState()
    listening = await asyncio.get_running_loop().create_server(
        lambda: http11.ClientConnection(config, state, {}), "127.0.0.1", 0
    )
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    for connection in list(state.connections):
        connection.transport.abort()
    await app.stop()


STOPS = {
    "a head": (START, b"408"),
    "a body": (post()[:-1], b"408"),
    "a body of a control endpoint": (
        b"POST /admin/drill HTTP/1.1\r\n" + HOST + b"content-type: application/json\r\ncontent-length: 99\r\n\r\n{",
        b"408",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("said", "status"), STOPS.values(), ids=STOPS)
async def test_a_client_that_stops_is_sent_away(port: int, said: bytes, status: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "sent", [post()[:-9], post(), post() + post()], ids=["half a body", "a request", "two requests"]
)
async def test_a_client_that_leaves_leaves_nothing_for_the_collector(port: int, sent: bytes) -> None:
    """It comes late: until then, bodies of 32 MB that stopped half way would be kept."""
    gc.collect()
    gc.disable()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        if sent.endswith(BODY):
            await reader.readuntil(b"usage")
        else:
            await eventually(lambda: bool(kept()))
        writer.close()
        await eventually(lambda: not kept())
    finally:
        gc.enable()


def kept() -> list[object]:
    """Return what there is of clients' connections and requests."""
    return [one for one in gc.get_objects() if type(one) in (http11.ClientConnection, exchange.Exchange)]


@pytest.mark.parametrize("before", [b"", post()], ids=["new", "used"])
@pytest.mark.parametrize("cuts", [(), (30,), (200,), (30, 200)], ids=str)
@in_virtual_time
async def test_who_asks_for_another_protocol_is_served_with_this_one(before: bytes, cuts: tuple[int, ...]) -> None:
    front = Front(WHOLE)
    upgrade = post(
        ask(7, stream=False), b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMA"
    )
    places = (0, *cuts, len(upgrade))
    wire = await given_bytes(front, before, *(upgrade[a:b] for a, b in pairwise(places)))
    wire.says(post(ask(8, stream=False)))
    await settled()

    assert wire.statuses == [200] * (3 if before else 2)
    assert front.relay.bodies[-2:] == [ask(7, stream=False), ask(8, stream=False)]
    assert {name for name, _ in front.relay.requests[-2].headers} & {b"upgrade", b"http2-settings"} == set()


@in_virtual_time
async def test_a_tunnel_is_refused() -> None:
    wire = await given_bytes(Front(WHOLE), b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\nx")

    assert (wire.statuses, wire.closed) == ([405], True)
