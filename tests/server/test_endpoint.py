"""The hot paths: what reaches the relay, what is refused before it, and who shares whose answer."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib

import brotli
import pytest
from client_side import BODY, COUNTED, HOST, JSON, SSE, WHOLE, Failing, Front, Wire, chunked, post
from frames import DELTA, OVERLOADED, START, STOP, TEXT
from server.test_asgi import Server, part
from virtual_time import in_virtual_time, settled

from balancer.model import Operation, Request
from balancer.relay.writer import ResponseWriter
from balancer.script import Cause, Data, Fail, Head, Pause, Step
from balancer.server.access import is_json
from balancer.server.endpoint import USER_AGENT_MAX
from balancer.server.paths import OPERATIONS

ASK = b'{"model":"m","max_tokens":5,"stream":true,"messages":[]}'
COUNT = b"/v1/messages/count_tokens"
SLOW: list[Step] = [SSE, Data(START + TEXT + DELTA), Pause(5), Data(STOP)]


async def asked(*lines: bytes, body: bytes = ASK, path: bytes = b"/v1/messages", settings: str = "") -> Request:
    """Return the request that reaches the relay when a client asks like this."""
    front = Front(settings=settings)
    front.connect().says(post(body, *lines, path=path))
    await settled()
    (request,) = front.relay.requests
    return request


def error(wire: Wire) -> tuple[int, str, str]:
    """Return status, type and words of the only answer, which names its request."""
    (answer,) = wire.answers
    told = json.loads(answer.body)
    assert told["type"] == "error"
    assert told["request_id"] == answer.headers["request-id"] == answer.headers["x-balancer-request-id"]
    return answer.status, told["error"]["type"], told["error"]["message"]


# What reaches the relay


@in_virtual_time
async def test_a_request_as_the_relay_gets_it() -> None:
    lines = b"content-type: application/json", b"User-Agent: claude-cli/2.1.330 (external, cli)", b"x-Tenant: T"
    request = await asked(*lines, b"x-api-key: k", b"x-stainless-timeout: 600", path=b"/v1/messages?beta=true")

    assert request.id.startswith("req_")
    assert (request.operation, request.query, request.model) == (Operation.MESSAGES, b"beta=true", "m")
    assert (request.stream, request.max_tokens, request.client_timeout_s) == (True, 5, 600.0)
    assert request.headers == (
        (b"host", b"localhost"),
        (b"content-length", b"%d" % len(ASK)),
        (b"content-type", b"application/json"),
        (b"user-agent", b"claude-cli/2.1.330 (external, cli)"),
        (b"x-tenant", b"T"),
        (b"x-api-key", b"k"),
        (b"x-stainless-timeout", b"600"),
    )
    assert request.names == tuple(name for name, _ in request.headers)
    assert request.claude_code
    assert request.user_agent == "claude-cli/2.1.330 (external, cli)"
    assert len(request.client) == 16


@pytest.mark.parametrize(("path", "operation"), OPERATIONS.items())
@in_virtual_time
async def test_every_hot_path_asks_for_something_else(path: str, operation: Operation) -> None:
    request = await asked(path=path.encode())

    assert request.operation is operation
    assert request.stream is operation.streams  # a count is no stream, whatever the body says


@in_virtual_time
async def test_names_are_not_told_where_a_header_stands_twice() -> None:
    assert (await asked(b"x-a: 1", b"x-a: 2")).names == ()


AGENTS = {
    "none": (b"", "", False),
    "another client": (b"curl/8", "curl/8", False),
    "one that only names it": (b"x claude-cli/2", "x claude-cli/2", False),
    "as long as is logged": (b"a" * USER_AGENT_MAX, "a" * USER_AGENT_MAX, False),
    "longer": (b"a" * USER_AGENT_MAX + b"b", "a" * USER_AGENT_MAX, False),
    "a key": (b"x sk-ant-0123456789", "x [redacted]", False),
    "a colour": (b"a \xc2\x9b31m b", "a \xc2 31m b", False),
}


@pytest.mark.parametrize(("agent", "shown", "claude_code"), AGENTS.values(), ids=AGENTS)
@in_virtual_time
async def test_a_client_is_known_by_what_it_calls_itself(agent: bytes, shown: str, claude_code: bool) -> None:
    request = await asked(b"user-agent: " + agent)

    assert (request.user_agent, request.claude_code) == (shown, claude_code)


TIMEOUTS = {b"600": 600.0, b"0.5": 0.5, b"": None, b"soon": None}


@pytest.mark.parametrize(("value", "seconds"), TIMEOUTS.items())
@in_virtual_time
async def test_how_long_a_client_waits(value: bytes, seconds: float | None) -> None:
    assert (await asked(b"x-stainless-timeout: " + value)).client_timeout_s == seconds


@pytest.mark.parametrize(("by", "pinned"), [("session", False), ("prefix", True)])
@in_virtual_time
async def test_a_conversation_is_known_by_what_the_settings_say(by: str, pinned: bool) -> None:
    body = b'{"model":"m","system":[{"type":"text","text":"x","cache_control":{}}],"messages":[{}]}'
    request = await asked(body=body, settings=f"sticky: {{by: {by}}}")

    assert (request.conversation is not None) is pinned


@in_virtual_time
async def test_an_open_stream_does_not_hold_its_body() -> None:
    for line in (b"x-a: b", b"expect: x"):
        front = Front(SLOW)
        front.connect().says(post(ASK, line))
        await settled()

        assert front.relay.requests[0].body == b""
        assert front.relay.bodies == [ASK]


# What is refused

ENCODING = (
    "content-encoding 'zstd' is not supported; send the body as it is, or compressed by one of gzip, deflate and br"
)
KIND = "is not JSON; send content-type: application/json"
REFUSED: dict[str, tuple[bytes, int, str, str]] = {
    "a coding": (post(ASK, b"content-encoding: zstd"), 415, "invalid_request_error", ENCODING),
    "codings": (post(ASK, b"content-encoding: gzip, br"), 415, "invalid_request_error", "'gzip, br'"),
    "a coding that is not what it says": (post(ASK, b"content-encoding: gzip"), 400, "invalid_request_error", "gzip"),
    "another kind": (post(ASK, b"content-type: text/plain"), 415, "invalid_request_error", KIND),
    "no kind": (post(ASK, b"content-type:"), 415, "invalid_request_error", "content-type is missing"),
    "not a word of a kind": (post(ASK).replace(b"content-type", b"x-type"), 415, "invalid_request_error", "content-type is missing"),
    "chunks without a kind": (chunked(ASK).replace(b"content-type", b"x-type"), 415, "invalid_request_error", "content-type is missing"),
    "a kind that holds a key": (post(ASK, b"content-type: sk-ant-012345"), 415, "invalid_request_error", "'[redacted]'"),
    "a long kind": (post(ASK, b"content-type: " + b"x" * 99), 415, "invalid_request_error", "'" + "x" * 80 + "'"),
    "no JSON": (post(b"{"), 400, "invalid_request_error", "not valid JSON"),
    "no model": (post(b'{"messages":[]}'), 400, "invalid_request_error", "model"),
    "another method": (post(ASK).replace(b"POST", b"PUT"), 405, "invalid_request_error", "PUT is not allowed here; use POST"),
    "an unknown method": (post(ASK).replace(b"POST", b"DELETE"), 405, "invalid_request_error", "DELETE is not allowed"),
    "no body": (b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"\r\n", 400, "invalid_request_error", ""),
    "two hosts": (post(ASK, HOST[:-2]), 400, "invalid_request_error", "one Host header"),
    "another host": (post(ASK).replace(b"localhost", b"elsewhere.example"), 421, "invalid_request_error", "allowed_hosts"),
    "another origin": (post(ASK, b"origin: https://a.example"), 403, "permission_error", "other origins"),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "status", "kind", "words"), REFUSED.values(), ids=REFUSED)
@in_virtual_time
async def test_what_needs_no_provider_is_refused_before_one_is_asked(
    sent: bytes, status: int, kind: str, words: str
) -> None:
    front = Front()
    wire = front.connect()
    wire.says(sent)
    await settled()
    got, told, message = error(wire)

    assert (got, told) == (status, kind)
    assert words in message
    assert front.relay.requests == []
    assert front.told == []
    assert not wire.closed, "the next request may be a better one"


PACKED = {b"gzip": gzip.compress, b"X-GZIP": gzip.compress, b"deflate": zlib.compress, b" br ": brotli.compress}


def packed(body: bytes, coding: bytes, *lines: bytes) -> bytes:
    return post(PACKED[coding](body), b"content-encoding: " + coding, *lines)


@pytest.mark.parametrize("line", [b"x-a: b", b"expect: x"], ids=["direct", "through ASGI"])
@pytest.mark.parametrize("coding", PACKED)
@in_virtual_time
async def test_a_compressed_body_goes_on_as_it_was_before(coding: bytes, line: bytes) -> None:
    front = Front(SLOW)
    front.connect().says(packed(ASK, coding, line))
    await settled()

    (request,) = front.relay.requests
    assert front.relay.bodies == [ASK]
    assert request.body == b"", "and an open stream does not hold it"
    names = [name for name, _ in request.headers]
    assert b"content-encoding" not in names
    assert b"content-length" not in names
    assert request.names == tuple(names)


@in_virtual_time
async def test_a_compressed_body_and_a_plain_one_are_identical_requests() -> None:
    front = Front(SLOW)
    front.connect().says(packed(ASK, b"gzip"))
    await settled()
    front.connect().says(post(ASK))
    await settled()

    assert len(front.relay.requests) == 1


@pytest.mark.parametrize("coding", PACKED)
@pytest.mark.parametrize("more", [0, 1])
@in_virtual_time
async def test_a_compressed_body_is_as_long_as_the_limit_at_most(coding: bytes, more: int) -> None:
    front = Front(settings="limits: {max_body_bytes: 300000}")
    wire = front.connect()
    wire.says(packed(ASK + b" " * (300_000 - len(ASK) + more), coding))
    await settled()

    assert len(front.relay.requests) == 1 - more
    if more:
        status, kind, message = error(wire)
        assert (status, kind) == (413, "request_too_large")
        assert "300000 bytes when decompressed" in message


DAMAGED = {
    "cut": gzip.compress(ASK)[:-1],
    "without its checksum": gzip.compress(ASK)[:-8],
    "something behind it": gzip.compress(ASK) + b"x",
    "two in one": gzip.compress(ASK) * 2,
    "no gzip": ASK,
}


@pytest.mark.parametrize("body", DAMAGED.values(), ids=DAMAGED)
@in_virtual_time
async def test_a_damaged_body_is_refused(body: bytes) -> None:
    front = Front()
    wire = front.connect()
    wire.says(post(body, b"content-encoding: gzip"))
    await settled()
    status, _, message = error(wire)

    assert (status, front.relay.requests) == (400, [])
    assert "the body is not what its content-encoding says" in message


@in_virtual_time
async def test_an_unknown_coding_is_answered_with_those_that_are_known() -> None:
    front = Front()
    wire = front.connect()
    wire.says(post(ASK, b"content-encoding: zstd"))
    await settled()

    (answer,) = wire.answers
    assert answer.headers["accept-encoding"] == "gzip, deflate, br"


@in_virtual_time
async def test_who_asks_for_an_answer_of_its_own_is_joined_with_nobody() -> None:
    front = Front(SLOW)
    for line in (b"x-balancer-dedup: off", b"x-balancer-dedup: off", b"cache-control: no-cache", b"x-a: b"):
        front.connect().says(post(ASK, line))
        await settled()

    assert len(front.relay.requests) == 4


ACCEPTED = [
    b"content-encoding: identity", b"content-encoding:  Identity ", b"content-encoding:", b"content-type: application/json",
    b"content-type: Application/JSON; charset=utf-8", b"content-type: application/problem+json",
    b"origin: http://localhost", b"sec-fetch-site: same-origin",
]  # fmt: skip


@pytest.mark.parametrize("line", ACCEPTED)
@in_virtual_time
async def test_what_says_the_same_in_other_words_is_accepted(line: bytes) -> None:
    await asked(line)


KINDS = {
    b"application/json": True, b"application/json;charset=utf-8": True, b" APPLICATION/JSON ": True,
    b"application/vnd.api+json": True, b"application/jsonl": False, b"text/json": False, b"": False,
    b"text/plain; application/json": False,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "expected"), KINDS.items())
def test_what_counts_as_json(kind: bytes, expected: bool) -> None:
    assert is_json(kind) is expected


@pytest.mark.parametrize("begins", [True, False], ids=["before the body", "while the body comes"])
@in_virtual_time
async def test_a_balancer_that_stops_takes_no_request_more(begins: bool) -> None:
    front = Front()
    wire = front.connect()
    data = post(ASK)
    if begins:
        front.drain()
    wire.says(data[:-1])
    front.drain()
    wire.says(data[-1:])
    await settled()

    assert error(wire) == (503, "api_error", "this balancer is shutting down; try again")
    assert wire.answers[0].headers["retry-after"] == "1"
    assert front.relay.requests == []


@in_virtual_time
async def test_a_client_that_leaves_within_its_body_is_answered_nothing() -> None:
    front = Front()
    wire = front.connect()
    wire.says(chunked(ASK)[:-20])
    await settled()
    wire.leaves()
    await settled()

    assert (wire.got, front.told, front.state.tasks) == (b"", [], set())


# Who shares whose answer


async def both(
    front: Front, *, leading: bytes = post(ASK), following: bytes = post(ASK), after_s: float = 1.0
) -> tuple[Wire, Wire]:
    """Two clients ask, one a little after the other."""
    wires = front.connect(), front.connect()
    for wire, data in zip(wires, (leading, following), strict=True):
        wire.says(data)
        await asyncio.sleep(after_s)
    return wires


def roles(*wires: Wire) -> list[str]:
    return [wire.answers[0].headers.get("x-balancer-dedup", "") for wire in wires]


@in_virtual_time
async def test_the_same_at_the_same_time_is_asked_once() -> None:
    front = Front(SLOW)
    wires = await both(front)
    await asyncio.sleep(10)
    first, second = (wire.answers[0] for wire in wires)

    assert (len(front.relay.requests), roles(*wires)) == (1, ["leader", "follower"])
    assert first.body == second.body
    assert (first.whole, second.whole) == (True, True)
    assert first.headers["x-balancer-request-id"] != second.headers["x-balancer-request-id"]
    assert front.in_flight.held_bytes == 0


@in_virtual_time
async def test_both_are_recorded_and_each_says_what_it_was() -> None:
    front = Front(SLOW)
    lines = b"user-agent: claude-cli/2.1", b"x-api-key: k"
    await both(front, leading=post(ASK, *lines), following=post(ASK, *lines))
    await asyncio.sleep(10)
    leader, follower = front.ended

    assert {event.dedup: event.id for event in front.ended} == {
        "leader": front.began[0].id,
        "follower": front.began[1].id,
    }
    for event in (leader, follower):
        assert (event.status, event.outcome, event.provider, event.provider_model) == (200, "ok", "a", "m")
    for began in front.began:
        assert (began.user_agent, began.body_bytes, began.model) == ("claude-cli/2.1", len(ASK), "m")
        assert began.client == front.relay.requests[0].client != ""


@in_virtual_time
async def test_an_answer_that_nobody_joined_has_no_leader() -> None:
    front = Front()
    wire = front.connect()
    wire.says(post(ASK))
    await settled()

    assert [event.dedup for event in front.ended] == [""]
    assert roles(wire) == ["leader"]  # the header went out before that was known


@in_virtual_time
async def test_a_failure_behind_pings_is_recorded_alike_for_both() -> None:
    """The head went out before anybody had answered, so it does not name the provider."""
    broken: list[Step] = [SSE, Pause(15), Data(START + TEXT + DELTA), Pause(1), Data(OVERLOADED)]
    front = Front(broken)
    await both(front)
    await asyncio.sleep(60)

    assert [(event.outcome, event.provider) for event in front.ended] == [("broken_stream", "a")] * 2


@in_virtual_time
async def test_switched_off_everybody_asks_for_himself() -> None:
    front = Front(SLOW, settings="deduplication: {enabled: false}")
    wires = await both(front)
    await asyncio.sleep(10)

    assert (len(front.relay.requests), roles(*wires)) == (2, ["", ""])
    assert [event.dedup for event in front.ended] == ["", ""]


@in_virtual_time
async def test_the_limit_of_the_file_holds_for_what_is_shared() -> None:
    front = Front(SLOW)
    front.in_flight.max_bytes = 10
    await both(front)

    assert len(front.relay.requests) == 2


REPLAYS = {
    "a count": ("", COUNT, COUNTED, 4.9, 1),
    "a count, later": ("", COUNT, COUNTED, 5.1, 2),
    "a message": ("", b"/v1/messages", WHOLE, 0.1, 2),
    "a message that may be replayed": ("deduplication: {replay_s: 8}", b"/v1/messages", WHOLE, 7.9, 1),
    "the same, later": ("deduplication: {replay_s: 8}", b"/v1/messages", WHOLE, 8.1, 2),
    "a count that may be replayed longer": ("deduplication: {replay_s: 8}", COUNT, COUNTED, 7.9, 1),
    "a count where it is shorter": ("deduplication: {replay_s: 1}", COUNT, COUNTED, 4.9, 1),
    "an error": ("deduplication: {replay_s: 8}", b"/v1/messages", [Head(400, JSON.headers), Data(b"{}")], 0.1, 2),
}


@pytest.mark.parametrize(("settings", "path", "script", "after_s", "times"), REPLAYS.values(), ids=REPLAYS)
@in_virtual_time
async def test_what_is_given_again_and_for_how_long(
    settings: str, path: bytes, script: list[Step], after_s: float, times: int
) -> None:
    front = Front(script, settings=settings)
    data = post(BODY, path=path)
    wires = await both(front, leading=data, following=data, after_s=after_s)

    assert len(front.transport.asked) == times
    assert wires[0].answers[0].body == wires[1].answers[0].body or times == 2


@in_virtual_time
async def test_a_reload_parts_what_is_the_same() -> None:
    front = Front(SLOW)
    first = front.connect()
    first.says(post(ASK))
    await settled()
    front.fleet.reload(front.fleet.config, 0.0)
    second = front.connect()
    second.says(post(ASK))
    await settled()

    assert len(front.relay.requests) == 2


# Clients that leave


@pytest.mark.parametrize("line", [b"x-a: b", b"expect: x"], ids=["direct", "asgi"])
@pytest.mark.parametrize("settings", ["", "deduplication: {enabled: false}"], ids=["shared", "alone"])
@in_virtual_time
async def test_a_client_that_leaves_ends_the_work_for_it_once(
    line: bytes, settings: str, caplog: pytest.LogCaptureFixture
) -> None:
    front = Front(SLOW, settings=settings)
    wire = front.connect()
    wire.says(post(ASK, line))
    await asyncio.sleep(1)
    wire.leaves()
    await asyncio.sleep(1)

    assert [(event.outcome, event.reason) for event in front.ended] == [("abandoned", "the client left")]
    assert front.transport.closed == [1001]
    assert front.state.tasks == set()
    assert caplog.messages == []  # to the server it is no failure


@pytest.mark.parametrize("settings", ["", "deduplication: {enabled: false}"], ids=["shared", "alone"])
@in_virtual_time
async def test_after_an_answer_nothing_waits_for_its_client_any_more(settings: str) -> None:
    front = Front(SLOW, settings=settings)
    server = Server(part(ASK))
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(ASK))]
    scope: dict[str, object] = {"path": "/v1/messages", "method": "POST", "http_version": "1.1", "headers": headers}
    work = asyncio.ensure_future(
        front({**scope, "client": ("127.0.0.1", 5), "query_string": b""}, server.receive, server.send)
    )
    await asyncio.sleep(1)
    assert server.receiving == 1
    await work
    await settled()

    assert server.receiving == 0
    assert server.sent[-1]["more_body"] is False


@in_virtual_time
async def test_a_fault_of_ours_leaves_no_follower_waiting() -> None:
    class FailsLate(Failing):
        async def answer(
            self, request: Request, writer: ResponseWriter, task: object = None, route: object = None
        ) -> None:
            writer.start(200, ())
            await writer.write(b"so far")
            await asyncio.sleep(5)
            raise RuntimeError("a fault of ours")

    front = Front(relay=FailsLate)
    wires = await both(front)
    await asyncio.sleep(10)

    for wire in wires:
        assert (wire.closed, wire.answers[0].body, wire.answers[0].whole) == (True, b"so far", False)
    assert front.in_flight.held_bytes == 0


@pytest.mark.parametrize("first", [0, 1], ids=["the leader first", "the follower first"])
@in_virtual_time
async def test_the_answer_goes_on_for_the_other_one(first: int) -> None:
    front = Front(SLOW)
    wires = await both(front)
    wires[first].leaves()
    await asyncio.sleep(10)

    assert wires[1 - first].answers[0].whole
    assert front.transport.closed == []
    assert sorted((event.dedup, event.outcome) for event in front.ended) == sorted(
        [("leader", "ok"), ("follower", "ok" if first == 0 else "abandoned")]
    )
    assert front.state.tasks == set()


@in_virtual_time
async def test_when_both_have_left_the_provider_is_left() -> None:
    front = Front(SLOW)
    wires = await both(front)
    wires[0].leaves()
    await asyncio.sleep(0.5)
    assert front.transport.closed == []
    wires[1].leaves()
    await asyncio.sleep(0.5)

    assert front.transport.closed == [1001]
    assert [event.outcome for event in front.ended] == ["abandoned", "abandoned"]
    assert front.state.tasks == set()


@in_virtual_time
async def test_a_task_that_is_cancelled_from_outside_is_cancelled() -> None:
    """The server does that when the time to drain is over: it is no client that left."""
    front = Front(SLOW)
    wires = await both(front)
    tasks = [*front.state.tasks]
    for task in tasks:
        task.cancel()
    await asyncio.sleep(2)

    assert len(tasks) == 2
    assert all(task.done() for task in tasks)
    for wire in wires:
        assert b"stopped before the answer was whole" in wire.answers[0].body


@in_virtual_time
async def test_a_balancer_that_is_stopped_waits_for_no_client_that_has_yet_to_read_its_answer() -> None:
    front = Front(SLOW)
    wires = await both(front)
    wires[0].connection.pause_writing()
    await asyncio.sleep(10)
    (task,) = front.state.tasks
    task.cancel()
    await settled()

    assert [wire.answers[0].whole for wire in wires] == [False, True]
    assert wires[0].closed
    assert front.in_flight.held_bytes == 0


@in_virtual_time
async def test_an_answer_that_breaks_is_broken_for_both() -> None:
    front = Front([SSE, Data(START + TEXT + DELTA), Pause(5), Fail(Cause.RESET)], settings="on_broken_stream: abort")
    wires = await both(front)
    await asyncio.sleep(10)

    for wire in wires:
        assert (wire.closed, wire.answers[0].whole) == (True, False)
        assert wire.answers[0].body == START + TEXT + DELTA
