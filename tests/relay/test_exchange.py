"""Running a dialect's flow: side requests, the request proper, injected faults."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fakezed import MODELS, PAIR, answer
from stand_ins import PlayedTransport, Taker, candidate, provider, request
from virtual_time import in_virtual_time
from worlds import GOOD, JSON, MESSAGE, OPENAI, WHOLE, ZED, World, error, script

from balancer import dialects
from balancer.dialect import Ask, Flow, TypedState
from balancer.dialects.simulated import faults
from balancer.dialects.simulated.faults import Drill
from balancer.model import Fault, Operation, Origin, Reply, WireRequest
from balancer.policy.deadlines import CLIENT_MARGIN_S
from balancer.relay.exchange import FlowRunner, GoodAnswer, injected
from balancer.relay.limits import RelayLimits
from balancer.script import Cause, Data, Fail, Head, Pause, Step
from balancer.state.stats import ProviderStats
from balancer.transport import TransportError

MESSAGES_API = dialects.get("anthropic")
ORIGIN = Origin(tls=False, host="127.0.0.1", port=1001)


def turns() -> bytes:
    """Return a request that is too long for Zed, so that it is shortened with a side request."""
    said = [{"role": role, "content": "x" * 500} for _ in range(9) for role in ("user", "assistant")]
    return json.dumps(
        {"model": "m", "max_tokens": 9, "messages": [*said, {"role": "user", "content": "go on"}]}
    ).encode()


def ask(operation: Operation = Operation.MESSAGES) -> Ask:
    about = candidate("a", origin=ORIGIN)
    return Ask(request(operation=operation, stream=False), about, operation, TypedState())


def runner(*scripts: list[Step], limits: RelayLimits | None = None) -> tuple[FlowRunner, PlayedTransport]:
    transport = PlayedTransport({1001: list(scripts)})
    return FlowRunner(transport, asyncio.get_running_loop().time, limits or RelayLimits()), transport


async def status(answer: GoodAnswer) -> int:
    return answer.head.status


# The request proper


@pytest.mark.parametrize("code", [200, 201, 204, 299])
@in_virtual_time
async def test_a_2xx_is_received(code: int) -> None:
    flows, _ = runner([Head(code, ()), Data(MESSAGE)])

    assert await flows.run(MESSAGES_API, ask(), 9.0, status) == code


@pytest.mark.parametrize("code", [300, 304, 400, 404, 500, 529, 599])
@in_virtual_time
async def test_any_other_status_is_the_fault_that_the_dialect_makes_of_it(code: int) -> None:
    flows, _ = runner(error(code, "api_error", "said so"))

    fault = await flows.run(MESSAGES_API, ask(), 9.0, status)

    assert isinstance(fault, Fault)
    assert (fault.status, fault.message) == (code, "said so")


@pytest.mark.parametrize("too_many", [0, 1])
@in_virtual_time
async def test_the_body_of_an_error_is_bounded(too_many: int) -> None:
    steps = error(529, "overloaded_error")
    size = len(steps[1].data)  # type: ignore[union-attr]
    flows, _ = runner(steps, limits=RelayLimits(refusal_max_bytes=size - too_many))

    if too_many:
        with pytest.raises(TransportError, match="too_large"):
            await flows.run(MESSAGES_API, ask(), 9.0, status)
    else:
        assert isinstance(await flows.run(MESSAGES_API, ask(), 9.0, status), Fault)


@in_virtual_time
async def test_the_head_has_to_come_before_the_deadline() -> None:
    flows, _ = runner([Pause(60), *WHOLE])
    await asyncio.sleep(3)

    with pytest.raises(TransportError, match="head_timeout"):
        await flows.run(MESSAGES_API, ask(), 7.0, status)

    assert asyncio.get_running_loop().time() == pytest.approx(7.0)


@in_virtual_time
async def test_a_deadline_that_is_over_is_no_wait_without_end() -> None:
    flows, _ = runner([Pause(60), *WHOLE])

    with pytest.raises(TransportError, match="head_timeout"):
        await flows.run(MESSAGES_API, ask(), -1.0, status)

    assert asyncio.get_running_loop().time() == pytest.approx(0.0, abs=0.01)


@in_virtual_time
async def test_the_receiver_is_handed_decoder_head_body_and_deadline() -> None:
    flows, _ = runner([Pause(1), *WHOLE])

    async def read(good: GoodAnswer) -> object:
        assert (good.head.status, good.head.body, good.deadline) == (200, b"", 9.0)
        body = await good.body.read_whole(9999, 1.0)
        return [piece.data for piece in [*good.decoder.feed(body), *good.decoder.end()]]

    assert await flows.run(MESSAGES_API, ask(), 9.0, read) == [MESSAGE]


@in_virtual_time
async def test_a_request_that_is_repaired_is_sent_again_and_the_first_refusal_is_dropped() -> None:
    world = World(
        [
            error(
                400,
                "invalid_request_error",
                "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            ),
            [JSON, Data(CHAT)],
        ],
        text=OPENAI,
    )

    taker = await world.ask(
        body=b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}', stream=False
    )

    assert (taker.status, world.asked) == (200, "aa")
    assert [attempt.outcome for attempt in world.ended.attempts] == ["completed"]
    assert world.ended.notes


CHAT = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
).encode()


class Idle(type(MESSAGES_API)):  # type: ignore[misc]
    """A dialect whose flow asks for nothing: a mistake of its own."""

    def flow(self, ask: Ask) -> Flow:
        yield WireRequest(ORIGIN, b"POST", b"/side", (), side_request=True)


@in_virtual_time
async def test_a_flow_without_a_request_is_an_error_of_ours() -> None:
    flows, _ = runner(WHOLE)

    with pytest.raises(RuntimeError, match="without a request"):
        await flows.run(Idle(), ask(), 9.0, status)


class Twice(type(MESSAGES_API)):  # type: ignore[misc]
    """A dialect that asks again, though the first answer was a good one."""

    def flow(self, ask: Ask) -> Flow:
        yield WireRequest(ORIGIN, b"POST", b"/first", ())
        yield WireRequest(ORIGIN, b"POST", b"/second", ())


@in_virtual_time
async def test_only_the_answer_to_the_last_request_of_a_flow_is_received() -> None:
    flows, transport = runner([Head(201), Data(b"x")], [Head(202), Data(MESSAGE)])

    assert await flows.run(Twice(), ask(), 9.0, status) == 202

    assert [wire.target for wire in transport.sent] == [b"/first", b"/second"]
    assert transport.closed == [1001, 1001], "neither body was read to its end"


class Converting(type(MESSAGES_API)):  # type: ignore[misc]
    """A dialect that converts what it sends, and repairs it once; it notes in which thread."""

    converts = 1.0

    def __init__(self, *, side: bool = False) -> None:
        self.threads: list[bool] = []
        self._side = side

    def flow(self, ask: Ask) -> Flow:
        self._note()
        yield WireRequest(ORIGIN, b"POST", b"/first", (), side_request=self._side)
        self._note()
        yield WireRequest(ORIGIN, b"POST", b"/second", ())
        self._note()

    def _note(self) -> None:
        self.threads.append(threading.current_thread() is threading.main_thread())


@pytest.mark.parametrize(("length", "on_loop"), [(10, [True, True, True]), (4_000_000, [False, False, True])])
async def test_a_long_request_is_converted_in_a_thread(length: int, on_loop: list[bool]) -> None:
    flows, _ = runner([Head(400), Data(b"x")], [Head(200), Data(MESSAGE)])
    dialect, asked = Converting(), request(b"x" * length, stream=False)
    about = Ask(asked, candidate("a", origin=ORIGIN), Operation.MESSAGES, TypedState())

    assert await flows.run(dialect, about, asyncio.get_running_loop().time() + 9.0, status) == 200
    assert dialect.threads == on_loop


async def test_what_is_converted_behind_a_side_request_is_converted_in_a_thread() -> None:
    flows, _ = runner([Head(200), Data(b"x")], [Head(200), Data(MESSAGE)])
    dialect, asked = Converting(side=True), request(b"x" * 4_000_000, stream=False)
    about = Ask(asked, candidate("a", origin=ORIGIN), Operation.MESSAGES, TypedState())

    assert await flows.run(dialect, about, asyncio.get_running_loop().time() + 9.0, status) == 200
    assert dialect.threads == [False, False, True]


# Side requests


@in_virtual_time
async def test_a_side_request_with_time_of_its_own_does_not_use_up_the_answers() -> None:
    world = World([[Head(404)], [JSON, Pause(1.2), Data(answer())], [JSON, Data(answer())]], text=ZED)

    taker = await world.ask(body=turns(), stream=True)

    assert (taker.status, taker.end) == (200, "whole")
    assert taker.headers[b"x-balancer-zed-rotation"].startswith(b"ai;")
    assert [wire.within_s is not None for wire in world.transport.sent] == [False, True, False]


@in_virtual_time
async def test_a_side_request_without_time_of_its_own_uses_that_of_the_answer() -> None:
    slow: list[list[Step]] = [[Pause(10.7), Head(404)], [JSON, Pause(0.4), Data(answer())]]
    world = World(slow, text=ZED)

    body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'
    await world.ask(body=body, client_timeout_s=11.0 + CLIENT_MARGIN_S)

    assert world.ended.attempts[0].outcome == "broken", "0.3 s were left of 11"
    assert world.ended.attempts[0].duration_s == pytest.approx(11.0)


@in_virtual_time
async def test_the_same_side_request_is_sent_once_for_all_that_need_it_at_once() -> None:
    minted = script(JSON, Pause(0.1), Data(b'{"token":"llm-token"}'))
    catalogue = script(JSON, Data(json.dumps(MODELS).encode()))
    me = script(JSON, Data(b'{"user":{},"organizations":[]}'))
    world = World([me, minted, catalogue, [JSON, Data(answer())]], text=ZED.replace("sk-secret-of-a", f"'{PAIR}'"))
    body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'

    takers = await asyncio.gather(*(world.ask(body=body) for _ in range(5)))

    assert [taker.end for taker in takers] == ["whole"] * 5
    kinds = [wire.target for wire in world.transport.sent]
    assert kinds.count(b"/client/llm_tokens") == 1
    assert kinds.count(b"/models") == 1
    assert kinds.count(b"/completions") == 5


@in_virtual_time
async def test_a_client_that_leaves_takes_no_side_request_from_the_others() -> None:
    minted = script(JSON, Pause(0.5), Data(b'{"token":"llm-token"}'))
    me = script(JSON, Data(b'{"user":{},"organizations":[]}'))
    world = World([me, minted, [Head(404)], [JSON, Data(answer())]], text=ZED.replace("sk-secret-of-a", f"'{PAIR}'"))
    body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'
    leaving, staying = Taker(), Taker()
    first = world.begin(leaving, body=body)
    second = world.begin(staying, body=body)
    await asyncio.sleep(0.2)
    first.cancel()
    await second

    assert staying.end == "whole"
    assert [wire.target for wire in world.transport.sent].count(b"/client/llm_tokens") == 1


class Sides(type(MESSAGES_API)):  # type: ignore[misc]
    """A dialect that sends a side request and keeps what came back; then it asks."""

    def __init__(self, **more: Any) -> None:
        self.replies: list[Reply] = []
        self._more = more

    def flow(self, ask: Ask) -> Flow:
        self.replies.append((yield WireRequest(ORIGIN, b"GET", b"/side", (), side_request=True, **self._more)))
        yield WireRequest(ORIGIN, b"POST", b"/main", ())


SIDES: dict[str, tuple[list[Step], dict[str, Any], Reply, float]] = {
    "an answer": ([Head(201, ((b"a", b"b"),)), Data(b"xy")], {}, Reply(201, ((b"a", b"b"),), b"xy"), 0.0),
    "a refusal": ([Head(500), Data(b"no")], {}, Reply(500, (), b"no"), 0.0),
    "no connection": ([Fail(Cause.REFUSED)], {}, Reply(0, (), b"refused"), 0.0),
    "a break": ([Head(200), Data(b"x"), Fail(Cause.RESET)], {}, Reply(0, (), b"reset"), 0.0),
    "no head in the attempt's time": ([Pause(60)], {}, Reply(0, (), b"head_timeout"), 9.0),
    "no head in its own time": ([Pause(60)], {"within_s": 3.0}, Reply(0, (), b"timeout"), 3.0),
    "no end in its own time": (script(Head(200), *script(Data(b"x"), Pause(1)) * 9), {"within_s": 3.5}, Reply(0, (), b"timeout"), 3.5),
    "too much": ([Head(200), Data(b"x" * 101)], {}, Reply(0, (), b"too_large"), 0.0),
    "just not too much": ([Head(200), Data(b"x" * 100)], {}, Reply(200, (), b"x" * 100), 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", SIDES)
@in_virtual_time
async def test_whatever_becomes_of_a_side_request_is_a_reply_to_the_flow(name: str) -> None:
    steps, more, reply, seconds = SIDES[name]
    dialect = Sides(**more)
    flows, _ = runner(steps, WHOLE, limits=RelayLimits(side_request_max_bytes=100))
    await asyncio.sleep(20)
    began = asyncio.get_running_loop().time()

    assert await flows.run(dialect, ask(), began + 9.0, status) == 200

    assert dialect.replies == [reply]
    assert asyncio.get_running_loop().time() - began == pytest.approx(seconds)


@pytest.mark.parametrize(("own_s", "deadline"), [(None, 9.0), (5.0, 11.0)])
@in_virtual_time
async def test_the_deadline_moves_by_what_a_side_request_took_of_its_own_time(
    own_s: float | None, deadline: float
) -> None:
    dialect = Sides(within_s=own_s)
    flows, _ = runner([Pause(2), Head(200)], WHOLE)
    await asyncio.sleep(3)

    async def due(good: GoodAnswer) -> float:
        return good.deadline

    assert await flows.run(dialect, ask(), 9.0, due) == pytest.approx(deadline)


@in_virtual_time
async def test_a_side_request_that_is_over_is_sent_again_to_those_that_come_later() -> None:
    dialect = Sides(single_flight="the same")
    flows, transport = runner(script(Head(200), Data(b"one")), WHOLE, script(Head(200), Data(b"two")), WHOLE)

    for _ in range(2):
        await flows.run(dialect, ask(), 9.0, status)

    assert [reply.body for reply in dialect.replies] == [b"one", b"two"]
    assert len(transport.asked) == 4


@in_virtual_time
async def test_side_requests_of_different_keys_are_sent_each() -> None:
    first, second = Sides(single_flight="one"), Sides(single_flight="two")
    flows, transport = runner(script(Pause(1), Head(200)), script(Pause(1), Head(200)), WHOLE)

    await asyncio.gather(*(flows.run(dialect, ask(), 9.0, status) for dialect in (first, second)))

    assert len(transport.asked) == 4


@in_virtual_time
async def test_a_side_request_may_have_more_time_of_its_own_than_the_attempt_has() -> None:
    dialect = Sides(within_s=5.0)
    flows, _ = runner([Pause(3), Head(200)], [Pause(0.5), *WHOLE])

    assert await flows.run(dialect, ask(), 1.0, status) == 200

    assert [reply.status for reply in dialect.replies] == [200]


# Whole answers


@in_virtual_time
async def test_a_whole_answer_is_what_a_client_would_get() -> None:
    flows, _ = runner([JSON, Data(b'{"input_tokens":'), Data(b"42}")])

    assert await flows.whole(MESSAGES_API, ask(Operation.COUNT_TOKENS), 9.0) == b'{"input_tokens":42}'


WRONG: dict[str, tuple[list[Step], int, str]] = {
    "refused": (error(401, "authentication_error", "bad key"), 401, "bad key"),
    "an error inside a 200": (
        [JSON, Data(b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}')], 529, "busy",
    ),
    "a web page": ([JSON, Data(b"<html>")], 502, "an HTML page"),
    "nothing": ([JSON], 502, "nothing"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
@in_virtual_time
async def test_what_is_no_answer_is_its_fault(name: str) -> None:
    steps, code, words = WRONG[name]
    flows, _ = runner(steps)

    fault = await flows.whole(MESSAGES_API, ask(), 9.0)

    assert isinstance(fault, Fault)
    assert fault.status == code
    assert words in fault.message


@in_virtual_time
async def test_a_whole_answer_is_bounded() -> None:
    flows, _ = runner(WHOLE, limits=RelayLimits(side_request_max_bytes=len(MESSAGE) - 1))

    with pytest.raises(TransportError, match="too_large"):
        await flows.whole(MESSAGES_API, ask(), 9.0)


LISTS: dict[str, tuple[list[Step], bool]] = {
    "a list": ([JSON, Data(b'{"data":[{"id":"m","type":"model"}],"has_more":false}')], True),
    "a refusal": (error(401), False),
    "a web page": ([JSON, Data(b"<html>")], False),
    "silence": ([Pause(60)], False),
    "a drip": (script(JSON, *script(Data(b" "), Pause(0.5)) * 20), False),
    "no connection": ([Fail(Cause.REFUSED)], False),
}


@pytest.mark.parametrize("name", LISTS)
@in_virtual_time
async def test_a_providers_models_are_listed_or_left_out(name: str) -> None:
    steps, listed = LISTS[name]
    world = World([steps])

    body = await world.relay.list_models(world.fleet.config.providers["a"], 2.0)

    assert (body is not None) is listed
    assert asyncio.get_running_loop().time() <= 2.01
    assert world.fleet.stats("a").failures == 0, "that says nothing about answers"


@in_virtual_time
async def test_who_has_no_key_of_its_own_or_no_list_is_not_asked_for_one() -> None:
    world = World([GOOD])

    assert await world.relay.list_models(provider("a", passthrough=True), 2.0) is None
    assert world.asked == ""


# Injected faults


def stats(drill: Drill | None) -> ProviderStats:
    return ProviderStats(drill=drill)


WIRE = WireRequest(ORIGIN, b"POST", b"/", (), (b"secret body",))


def test_without_an_order_a_request_is_sent() -> None:
    assert injected(WIRE, stats(None), 0.0, stream=True) is None


def test_an_ordered_fault_is_played_and_nothing_is_sent() -> None:
    about = stats(Drill("a", "529"))

    played = injected(WIRE, about, 0.0, stream=True)

    assert played is not None
    assert played.script is not None
    assert next(played.script()) == next(faults.FAULTS["529"].play(True))
    assert played.body == ()
    assert about.drill == Drill("a", "529")


@pytest.mark.parametrize("stream", [True, False])
def test_the_fault_is_played_as_the_client_asked(stream: bool) -> None:
    played = injected(WIRE, stats(Drill("a", "empty")), 0.0, stream=stream)

    assert played is not None
    assert played.script is not None
    assert _steps(played.script()) == _steps(faults.FAULTS["empty"].play(stream))
    assert _steps(faults.FAULTS["empty"].play(True)) != _steps(faults.FAULTS["empty"].play(False))


def _steps(played: Iterator[Step]) -> list[str]:
    return [repr(step) for step in played]


def test_an_order_for_some_requests_ends_after_them() -> None:
    about = stats(Drill("a", "529", requests_left=2))

    met = [injected(WIRE, about, 0.0, stream=True) is not None for _ in range(4)]

    assert met == [True, True, False, False]


def test_an_order_for_a_time_ends_with_it() -> None:
    about = stats(Drill("a", "529", until=10.0))

    met = [injected(WIRE, about, now, stream=True) is not None for now in (0.0, 9.9, 10.0)]

    assert met == [True, True, False]


@pytest.mark.parametrize("text", [None, OPENAI, ZED], ids=["anthropic", "openai", "zed"])
@pytest.mark.parametrize("fault", sorted(faults.FAULTS))
@in_virtual_time
async def test_every_fault_is_the_same_whatever_the_type_of_the_provider(fault: str, text: str | None) -> None:
    """Faults are played in the words of the Messages API."""
    world = World([[Head(404)], GOOD], text=text)
    world.fleet.orders.inject("a", Drill("a", fault), 0.0, 0.0)
    body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'

    await world.ask(body=body)

    reference = World([GOOD])
    reference.fleet.orders.inject("a", Drill("a", fault), 0.0, 0.0)
    await reference.ask(body=body)
    first, same = world.ended.attempts[0], reference.ended.attempts[0]
    assert (first.outcome, first.stage, first.status, first.drill) == (same.outcome, same.stage, same.status, True)


@in_virtual_time
async def test_a_fault_that_is_called_off_during_the_attempt_is_not_met() -> None:
    world = World([[Pause(0.2), Head(404)], [JSON, Data(answer())]], text=ZED)
    world.fleet.orders.inject("a", Drill("a", "529"), 0.0, 0.0)
    task = world.begin(
        taker := Taker(), body=b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'
    )
    await asyncio.sleep(0.1)
    world.fleet.orders.inject("a", None, 0.0, 0.0)
    await task

    assert taker.status == 200
    assert [attempt.drill for attempt in world.ended.attempts] == [False]
