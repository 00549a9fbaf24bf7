"""The life of a request, as stories: what the providers do, who is asked, what the client gets."""

from __future__ import annotations

import asyncio
import functools
import json
import random
from typing import Any

import pytest
from fakezed import answer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from stand_ins import HandFed, PlayedTransport, Taker, request
from wire.test_messages import ANSWER, DELTA, OVERLOADED, START, STOP, TEXT

from balancer import config, events
from balancer.clock import Clock
from balancer.coalescing.key import key
from balancer.coalescing.shared import InFlight
from balancer.coalescing.writers import TeeWriter, follow
from balancer.dialects import anthropic
from balancer.model import Operation, Piece, Request
from balancer.relay.relay import Relay
from balancer.script import Data, Fail, Head, Pause, Step
from balancer.state.fleet import Fleet
from balancer.wire.stream import StreamDecoder

SSE = Head(200, ((b"content-type", b"text/event-stream"), (b"request-id", b"req_up"), (b"set-cookie", b"no")))
JSON = Head(200, ((b"content-type", b"application/json"),))
MESSAGE = b'{"type":"message","content":[{"type":"text","text":"hi"}],"usage":{"input_tokens":1,"output_tokens":2}}'
GOOD: list[Step] = [SSE, Data(ANSWER)]
WHOLE: list[Step] = [JSON, Data(MESSAGE)]


def error(status: int, kind: str = "api_error", message: str = "no", **headers: str) -> list[Step]:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    lines = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return [Head(status, ((b"content-type", b"application/json"), *lines)), Data(body)]


class World:
    """A relay with two providers, a and b, that follow scripts."""

    def __init__(
        self,
        a: list[list[Step]],
        b: list[list[Step]],
        settings: str = "",
        clock: Any = None,
        fed: HandFed | None = None,
    ) -> None:
        text = f"""
providers:
  - {{name: a, type: anthropic, base_url: "http://127.0.0.1:1001", auth_value: sk-secret-of-a, request_timeout: 1, max_in_flight: 8}}
  - {{name: b, type: anthropic, base_url: "http://127.0.0.1:1002", auth_value: sk-secret-of-b, request_timeout: 1}}
model_routes:
  "m": [{{provider: a, model: passthrough, priority: 1}}, {{provider: b, model: other, priority: 2}}]
settings: {{failure_cooldown: 60{settings}}}
"""
        self.told: list[Any] = []
        bus = events.Bus()
        bus.add(self.told.append)
        self.fleet = Fleet(config.parse(text, "providers.yaml", {}), bus, random.Random(1))
        self.transport = PlayedTransport({1001: a, 1002: b})
        loop = asyncio.get_running_loop()
        transport: Any = fed or self.transport
        self.relay = Relay(self.fleet, transport, Clock(clock or loop.time, lambda: 1.8e9))

    async def ask(self, ask: Request | None = None, **more: Any) -> Taker:
        taker = Taker()
        await self.relay.answer(ask or request(**more), taker)
        return taker

    @property
    def asked(self) -> str:
        return "".join({1001: "a", 1002: "b"}[port] for port in self.transport.asked)

    @property
    def ended(self) -> events.RequestEnded:
        return [event for event in self.told if isinstance(event, events.RequestEnded)][-1]


PINGS: list[Step] = [Data(b'event: ping\ndata: {"type": "ping"}\n\n'), Pause(0.2)] * 30

BEFORE_SUBSTANCE: dict[str, list[Step]] = {
    "529": error(529, "overloaded_error"),
    "500": error(500),
    "429": error(429, "rate_limit_error", retry_after="30"),
    "401": error(401, "authentication_error"),
    "402": error(402, "billing_error"),
    "403": error(403, "permission_error"),
    "404": error(404, "not_found_error", "model: m"),
    "408": error(408),
    "400 about credit": error(400, "invalid_request_error", "Your credit balance is too low"),
    "400 about a signature": error(400, "invalid_request_error", "Invalid `signature` in `thinking` block"),
    "a redirect": [Head(307, ((b"location", b"http://elsewhere/"),))],
    "no connection": [Fail("refused")],
    "a reset": [Fail("reset")],
    "a reset after the head": [SSE, Fail("reset")],
    "silence": [Pause(60)],
    "silence after the head": [SSE, Data(START), Pause(60)],
    "pings and nothing else": [SSE, *PINGS],
    "an error event first": [SSE, Data(OVERLOADED)],
    "an error event after the start": [SSE, Data(START + TEXT), Data(OVERLOADED)],
    "an empty 200": [SSE],
    "an HTML 200": [Head(200, ((b"content-type", b"text/html"),)), Data(b"<html>\n\n</html>")],
    "a JSON 200": [JSON, Data(MESSAGE)],
    "a start and no more": [SSE, Data(START + TEXT)],
    "garbage": [SSE, Data(START + b"data: {oops\n\n")],
    "204": [Head(204, ())],
}


@pytest.mark.parametrize("steps", BEFORE_SUBSTANCE.values(), ids=BEFORE_SUBSTANCE)
async def test_what_goes_wrong_before_substance_is_never_seen(steps: list[Step]) -> None:
    world = World([steps], [GOOD])

    taker = await world.ask()

    assert (taker.status, taker.body, taker.end) == (200, ANSWER, "whole")
    assert world.asked == "ab"
    assert taker.headers[b"x-balancer-provider"] == b"b"
    assert taker.headers[b"x-balancer-attempts"] == b"2"


WHOLE_FAULTS: dict[str, list[Step]] = {
    "529": error(529, "overloaded_error"),
    "an error object in a 200": [JSON, Data(b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}')],
    "HTML": [JSON, Data(b"<html></html>")],
    "nothing": [JSON],
    "not a message": [JSON, Data(b'{"type":"completion"}')],
    "cut": [JSON, Data(MESSAGE[:20])],
    "reset in the middle": [JSON, Data(MESSAGE[:20]), Fail("reset")],
    "silence": [Pause(60)],
}


@pytest.mark.parametrize("steps", WHOLE_FAULTS.values(), ids=WHOLE_FAULTS)
async def test_the_same_without_streaming(steps: list[Step]) -> None:
    world = World([steps], [WHOLE])

    taker = await world.ask(stream=False)

    assert (taker.status, taker.body, taker.end) == (200, MESSAGE, "whole")
    assert world.asked == "ab"


async def test_the_model_is_spliced_for_the_second_and_the_body_is_the_clients_for_the_first() -> None:
    world = World([error(529)], [GOOD])

    await world.ask(body=b'{"model": "m", "messages": [], "odd":  1}')

    first, second = (b"".join(wire.body) for wire in world.transport.sent)
    assert first == b'{"model": "m", "messages": [], "odd":  1}'
    assert second == b'{"model": "other", "messages": [], "odd":  1}'


async def test_while_it_rests_a_provider_is_not_asked() -> None:
    world = World([error(529), GOOD], [GOOD])

    for _ in range(5):
        assert (await world.ask()).end == "whole"

    assert world.asked == "abbbbb"


async def test_the_callers_fault_goes_back_untouched_and_blames_nobody() -> None:
    steps = error(400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", request_id="req_x")
    world = World([steps], [GOOD])

    taker = await world.ask()

    assert taker.status == 400
    assert taker.body == steps[1].data  # type: ignore[union-attr]
    assert taker.headers[b"request-id"] == b"req_x"
    assert world.asked == "a"
    assert world.fleet.stats("a").failures == 0


async def test_a_400_that_quotes_our_key_is_the_only_one_that_is_touched() -> None:
    world = World([error(400, "invalid_request_error", "bad: sk-secret-of-a")], [GOOD])

    assert b"sk-secret-of-a" not in (await world.ask()).body


async def test_kept_and_dropped_headers_of_the_answer() -> None:
    taker = await World([GOOD], [GOOD]).ask()

    assert taker.headers[b"request-id"] == b"req_up"
    assert b"set-cookie" not in taker.headers
    assert taker.headers[b"x-balancer-request-id"] == b"req_test"


AFTER_SUBSTANCE: dict[str, list[Step]] = {
    "an error event": [SSE, Data(START + TEXT + DELTA), Data(OVERLOADED)],
    "a clean end without message_stop": [SSE, Data(START + TEXT + DELTA)],
    "a reset": [SSE, Data(START + TEXT + DELTA), Fail("reset")],
    "half a frame": [SSE, Data(START + TEXT + DELTA + DELTA[:30])],
}


@pytest.mark.parametrize("steps", AFTER_SUBSTANCE.values(), ids=AFTER_SUBSTANCE)
async def test_after_substance_claude_code_gets_a_broken_connection(steps: list[Step]) -> None:
    world = World([steps], [GOOD])

    taker = await world.ask(claude_code=True)

    assert (taker.body, taker.end) == (START + TEXT + DELTA, "aborted")
    assert world.asked == "a"
    assert world.ended.outcome == "broken_stream"


@pytest.mark.parametrize("steps", AFTER_SUBSTANCE.values(), ids=AFTER_SUBSTANCE)
async def test_after_substance_others_get_a_truthful_event(steps: list[Step]) -> None:
    taker = await World([steps], [GOOD]).ask()

    assert taker.body.startswith(START + TEXT + DELTA + b"event: error\n")
    assert b"message_stop" not in taker.body.removeprefix(START + TEXT + DELTA)


MANNERS = {"abort": (False, "aborted"), "error_event": (True, "whole")}


@pytest.mark.parametrize(("manner", "expected"), MANNERS.items())
async def test_on_broken_stream(manner: str, expected: tuple[bool, str]) -> None:
    world = World([AFTER_SUBSTANCE["a reset"]], [GOOD], f", on_broken_stream: {manner}")

    for claude_code in (True, False):
        world.fleet.observe  # noqa: B018
        taker = await world.ask(claude_code=claude_code)
        if world.asked[-1] == "a":
            assert (b"event: error" in taker.body, taker.end) == expected


async def test_nobody_could_answer() -> None:
    world = World([error(529, "overloaded_error")], [[Fail("refused")]])

    taker = await world.ask()
    told = json.loads(taker.body)

    assert taker.status == 503
    assert told["type"] == "error"
    assert told["error"]["type"] == "api_error"
    assert told["request_id"] == "req_test"
    assert "a: 529 overloaded_error" in told["error"]["message"]
    assert "b: connection refused" in told["error"]["message"]
    assert 1 <= int(taker.headers[b"retry-after"]) <= 60


async def test_everybody_limited_is_a_429() -> None:
    limited = error(429, "rate_limit_error", retry_after="40")

    taker = await World([limited], [limited]).ask()

    assert (taker.status, taker.headers[b"retry-after"]) == (429, b"40")


async def test_no_route_names_the_patterns() -> None:
    taker = await World([GOOD], [GOOD]).ask(replace(request(), model="unknown"))

    assert taker.status == 404
    assert json.loads(taker.body)["error"]["type"] == "not_found_error"
    assert b"'m'" in taker.body


async def test_a_client_that_leaves_closes_the_upstream_and_blames_nobody() -> None:
    world = World([[SSE, Data(START + TEXT + DELTA), Pause(60)]], [GOOD])
    taker = Taker()
    task = asyncio.create_task(world.relay.answer(request(), taker))
    await taker.begun.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert world.transport.closed == [1001]
    assert world.fleet.stats("a").failures == 0
    assert world.fleet.stats("a").in_flight == 0
    assert world.ended.outcome == "abandoned"
    assert [attempt.outcome for attempt in world.ended.attempts] == ["abandoned"]


async def test_what_is_told_of_a_request() -> None:
    world = World([error(529, "overloaded_error")], [GOOD])

    await world.ask()

    ended = world.ended
    assert [(a.provider, a.outcome, a.status) for a in ended.attempts] == [
        ("a", "refused", 529),
        ("b", "completed", None),
    ]
    assert (ended.provider, ended.provider_model, ended.status, ended.outcome) == ("b", "other", 200, "ok")
    assert (ended.usage.input_tokens, ended.usage.output_tokens, ended.usage.cache_read_tokens) == (7, 5, 3)
    assert ended.first_content_s is not None
    assert isinstance(world.told[0], events.RequestBegan)


async def test_the_body_is_dropped_when_the_answer_has_begun() -> None:
    world = World([[SSE, Data(START + TEXT + DELTA), Pause(60)]], [GOOD])
    ask, taker = request(), Taker()
    task = asyncio.create_task(world.relay.answer(ask, taker))
    await taker.begun.wait()

    assert ask.body == b""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_pings_are_sent_behind_a_provider_that_takes_long_and_failing_over_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("balancer.relay.response.HOLD_MAX_S", 0.05)
    monkeypatch.setattr("balancer.relay.response.PING_S", 0.05)
    world = World([[SSE, Data(START), Pause(0.3), Data(OVERLOADED)]], [GOOD])

    taker = await world.ask()

    assert taker.body.count(b"event: message_start") == 1
    assert taker.body.endswith(ANSWER)
    assert taker.body.startswith(b"event: ping\n")
    assert (taker.status, taker.end) == (200, "whole")


async def test_when_everybody_failed_behind_pings_the_error_makes_claude_code_stream_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("balancer.relay.response.HOLD_MAX_S", 0.05)
    world = World([[Pause(0.3), Fail("reset")]], [error(500)])

    taker = await world.ask()

    assert taker.status == 200
    assert b"event: error\n" in taker.body
    assert b"overloaded_error" in taker.body


async def test_what_only_the_client_can_mend_is_told_behind_pings_as_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("balancer.relay.response.HOLD_MAX_S", 0.05)
    late = [Pause(0.3), *error(400, "invalid_request_error", "prompt is too long: 2 tokens > 1 maximum")]
    world = World([late], [GOOD])

    taker = await world.ask()

    assert b'"type":"invalid_request_error","message":"prompt is too long' in taker.body
    assert b"overloaded_error" not in taker.body
    assert world.asked == "a"


async def test_tokens_are_counted_by_the_provider() -> None:
    world = World([error(500)], [[JSON, Data(b'{"input_tokens": 42}')]])

    taker = await world.ask(operation=Operation.COUNT_TOKENS, stream=False)

    assert json.loads(taker.body) == {"input_tokens": 42}
    assert taker.headers[b"x-balancer-token-source"] == b"provider"


async def test_places_are_counted_and_given_back() -> None:
    world = World([GOOD], [GOOD])

    await asyncio.gather(*(world.ask() for _ in range(50)))

    assert world.fleet.in_flight == 0
    assert world.fleet.stats("a").in_flight == 0


async def test_a_conversation_comes_back_to_the_provider_that_was_only_full() -> None:
    world = World([GOOD], [GOOD])
    mine = functools.partial(world.ask, conversation="mine")
    await mine()

    world.fleet.stats("a").in_flight = 8
    await mine()
    world.fleet.stats("a").in_flight = 0
    await mine()

    assert world.asked == "aba"


ZED = """
providers:
  - {name: a, type: zed, base_url: "http://127.0.0.1:1001", auth_value: sk-secret-of-a, request_timeout: 1,
     zed_config: {max_context_tokens: 1000}}
model_routes: {"m": [{provider: a, model: passthrough}]}
"""


def turns() -> bytes:
    said = [{"role": role, "content": "x" * 500} for _ in range(9) for role in ("user", "assistant")]
    return json.dumps(
        {"model": "m", "max_tokens": 9, "messages": [*said, {"role": "user", "content": "go on"}]}
    ).encode()


async def test_an_errand_with_time_of_its_own_does_not_use_up_the_answers() -> None:
    world = World([], [])
    world.fleet.reload(config.parse(ZED, "providers.yaml", {}), 0.0)
    lines: list[Step] = [JSON, Data(answer())]
    world.transport = PlayedTransport({1001: [[Head(404)], [JSON, Pause(1.2), Data(answer())], lines]})
    world.relay = Relay(world.fleet, world.transport, Clock(asyncio.get_running_loop().time, lambda: 1.8e9))  # type: ignore[arg-type]

    taker = await world.ask(body=turns(), stream=True)

    assert (taker.status, taker.end) == (200, "whole")
    assert taker.headers[b"x-balancer-zed-rotation"].startswith(b"ai;")
    assert [wire.within_s is not None for wire in world.transport.sent] == [False, True, False]


async def test_what_follows_the_end_of_an_answer_is_looked_at_for_the_log() -> None:
    world = World([], [])
    world.fleet.reload(config.parse(ZED, "providers.yaml", {}), 0.0)
    head = Head(200, ((b"x-zed-server-supports-status-messages", b"1"),))
    late = b'{"status":{"failed":{"code":"http_500","message":"m"}}}\n'
    world.transport = PlayedTransport({1001: [[Head(404)], [head, Data(answer(wrapped=False)), Data(late)]]})
    world.relay = Relay(world.fleet, world.transport, Clock(asyncio.get_running_loop().time, lambda: 1.8e9))  # type: ignore[arg-type]

    taker = await world.ask(body=b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}')

    assert (taker.status, taker.end) == (200, "whole")
    assert b"http_500" not in taker.body
    assert any("reported a failure" in note for note in world.ended.notes)


# Content that is handed on as it comes

FLOWING = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BEGUN = START + TEXT + DELTA
LATER = [
    *[DELTA.replace(b"an error", b"%d" % number) for number in range(6)],
    b'event: ping\ndata: {"type":"ping"}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":3}}\n\n',
    DELTA.replace(b"an error", b"x" * 300),
    b": a comment\n\n",
    DELTA.replace(b"\n", b"\r\n"),
    DELTA.replace(b"an error", b"\xc3\xa9"),
]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def settled() -> None:
    """Return when everybody who had something to do has done it."""
    for _ in range(12):
        await asyncio.sleep(0)


class Quick(Taker):
    """Takes what it is given at once, where it does not say otherwise."""

    gone = False

    def __init__(self, takes: list[bool] | None = None) -> None:
        super().__init__()
        self._takes = iter(takes or ())
        self.ended = asyncio.Event()

    def put(self, data: bytes, *, last: bool = False) -> bool:
        assert self.status
        assert not self.end
        self.busy = self.busy or not next(self._takes, True)
        if self.busy:
            return False
        self.body += data
        self.begun.set()
        self.end = "whole" if last else ""
        return True

    async def write(self, data: bytes, *, last: bool = False) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.busy = False
        await super().write(data, last=last)
        if last:
            self.ended.set()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=80)
@given(
    cuts=st.lists(st.tuples(st.integers(1, 400), st.booleans()), max_size=40),
    takes=st.lists(st.booleans(), max_size=20),
    joining=st.sets(st.integers(0, 15), max_size=2),
    leaving=st.sets(st.integers(0, 15), max_size=2),
    chunks=st.integers(1, 3),
)
async def test_whatever_comes_in_whatever_pieces_everybody_gets_all_of_it_in_order(
    cuts: list[tuple[int, bool]], takes: list[bool], joining: set[int], leaving: set[int], chunks: int
) -> None:
    frames = [BEGUN, *LATER, STOP]
    parts = [b"".join(frames[at : at + chunks]) for at in range(0, len(frames), chunks)]
    said = b"".join(map(chunk, parts)) + b"0\r\n\r\n"
    fed = HandFed()
    world = World([], [], fed=fed)
    registry, client = InFlight(1_000_000, lambda: 0.0), Quick(takes)
    shared = registry.lead(key(request(), 1, 0))
    leading = TeeWriter(client, registry, shared, 0.0)
    task = asyncio.create_task(world.relay.answer(request(), leading))
    await settled()
    followers: list[tuple[Quick, asyncio.Task[None]]] = []

    async def twin(taker: Quick) -> None:
        if registry.find(shared.key) is not None:
            await follow(shared, shared.join(), registry, taker, ())

    fed.says(FLOWING)
    at = 0
    for number, (size, waits) in enumerate([*cuts, (len(said), True)]):
        if at < len(said):
            fed.says(said[at : at + size])
            at += size
        if number in joining:
            taker = Quick()
            followers.append((taker, asyncio.create_task(twin(taker))))
        if number in leaving and followers:
            followers.pop()[1].cancel()
        if waits:
            await settled()
    await asyncio.wait_for(task, 5)
    await leading.drained()
    await asyncio.gather(*(following for _, following in followers))

    for taker in (client, *(taker for taker, _ in followers if taker.status)):
        assert (taker.body, taker.end) == (b"".join(frames), "whole")
    assert fed.kept
    assert (world.ended.outcome, world.ended.usage.output_tokens) == ("ok", 5)
    assert registry.held_bytes == 0


ENDS: dict[str, tuple[list[bytes], Exception | None, bool]] = {
    "closed": ([], None, True),
    "reset": ([], ConnectionResetError(), True),
    "an error event": ([chunk(OVERLOADED)], None, False),
    "an error event behind content": ([chunk(DELTA + OVERLOADED)], None, False),
    "garbage": ([chunk(b"data: {oops\n\n")], None, False),
    "half a frame": ([chunk(DELTA[:30]) + b"0\r\n\r\n"], None, False),
    "no chunk": ([b"zz\r\n"], None, False),
    "no chunk behind content": ([chunk(DELTA) + b"zz\r\n"], None, False),
    "a clean end without message_stop": ([b"0\r\n\r\n"], None, False),
    "silence": ([], None, False),
}


@pytest.mark.parametrize("at_once", [True, False], ids=["in the same turn", "later"])
@pytest.mark.parametrize("name", ENDS)
async def test_content_that_flows_and_breaks_off_is_given_whole_and_never_ends_well(name: str, at_once: bool) -> None:
    said, error, lost = ENDS[name]
    fed, client = HandFed(), Quick()
    world = World([], [], ", stream_idle_timeout: 0.2", fed=fed)
    task = asyncio.create_task(world.relay.answer(request(claude_code=True), client))
    fed.says(FLOWING + chunk(BEGUN))
    await settled()

    fed.says(chunk(DELTA), chunk(LATER[7]), chunk(DELTA))
    if not at_once:
        await settled()
    fed.says(*said)
    if lost:
        fed.breaks(error)
    await asyncio.wait_for(task, 5)

    content = BEGUN + DELTA + LATER[7] + DELTA + (DELTA if "behind" in name else b"")
    assert (client.body, client.end) == (content, "aborted")
    assert world.ended.outcome == "broken_stream"
    assert world.fleet.stats("a").failures == 1
    assert world.fleet.stats("a").in_flight == 0


@pytest.mark.parametrize(
    "said", [[chunk(DELTA)], [b"%x\r\n" % len(DELTA), DELTA + b"\r\n"]], ids=["at once", "in two reads"]
)
async def test_what_could_not_be_given_is_no_gap_in_a_whole_answer(said: list[bytes]) -> None:
    class Failing(Quick):
        def put(self, data: bytes, *, last: bool = False) -> bool:
            if self.body:
                raise LookupError
            return super().put(data, last=last)

    fed, client = HandFed(), Failing()
    world = World([], [], fed=fed)
    task = asyncio.create_task(world.relay.answer(request(claude_code=True), client))
    fed.says(FLOWING + chunk(BEGUN))
    await settled()

    fed.says(*said, chunk(STOP) + b"0\r\n\r\n")
    await asyncio.wait_for(task, 5)

    assert (client.body, client.end) == (BEGUN, "aborted")
    assert not fed.kept
    assert world.fleet.stats("a").failures == 0  # it was not the provider


async def test_a_client_that_leaves_in_the_turn_in_which_content_comes_is_given_no_more() -> None:
    fed, client = HandFed(), Quick()
    world = World([], [], fed=fed)
    registry = InFlight(1_000_000, lambda: 0.0)
    leading = TeeWriter(client, registry, registry.lead(key(request(), 1, 0)), 0.0)
    task = asyncio.create_task(world.relay.answer(request(), leading))
    leading.shared.cancel = task.cancel
    fed.says(FLOWING + chunk(BEGUN))
    await settled()

    fed.says(chunk(DELTA))
    leading.leave()
    fed.says(chunk(DELTA), chunk(STOP) + b"0\r\n\r\n")
    await asyncio.gather(task, return_exceptions=True)

    assert (client.body, client.end) == (BEGUN + DELTA, "")
    assert world.ended.outcome == "abandoned"
    assert (world.fleet.stats("a").failures, world.fleet.stats("a").in_flight) == (0, 0)


async def test_an_answer_that_ends_without_a_word_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Curt(StreamDecoder):
        def feed(self, data: bytes) -> list[Piece]:
            pieces = super().feed(data)
            return [] if self.complete else pieces

    monkeypatch.setattr(anthropic, "StreamDecoder", Curt)
    fed, client = HandFed(), Quick()
    world = World([], [], fed=fed)
    task = asyncio.create_task(world.relay.answer(request(), client))
    fed.says(FLOWING + chunk(BEGUN))
    await settled()

    fed.says(chunk(STOP))
    await asyncio.wait_for(client.ended.wait(), 5)
    fed.says(b"0\r\n\r\n")
    await task

    assert (client.body, client.end) == (BEGUN, "whole")
    assert fed.kept
