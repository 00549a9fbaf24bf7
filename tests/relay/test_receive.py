"""From a provider's answer to the client: what is held back, when the response is committed, what is handed on, and how."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import cast

import pytest
from fakezed import answer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stand_ins import HandFed, Taker, candidate, request, wire_request
from virtual_time import in_virtual_time
from worlds import (
    ANSWER,
    BEGUN,
    DELTA,
    FLOWING,
    GOOD,
    JSON,
    MESSAGE,
    OPENAI,
    OVERLOADED,
    SSE,
    START,
    STOP,
    TEXT,
    WHOLE,
    ZED,
    Quick,
    World,
    chunk,
    script,
    settled,
)

from balancer.coalescing.key import Key, key
from balancer.coalescing.shared import InFlight
from balancer.coalescing.writers import TeeWriter, follow
from balancer.dialect import Ask, TypedState
from balancer.headers import Headers
from balancer.model import Completed, Fault, Operation, Outcome, Piece, Reply, Usage
from balancer.relay.counting import Counting
from balancer.relay.exchange import GoodAnswer
from balancer.relay.limits import RelayLimits
from balancer.relay.receive import Receiver
from balancer.relay.record import RequestRecord
from balancer.relay.response import ClientResponse, Watch
from balancer.script import Cause, Data, Fail, Head, Pause, Step
from balancer.transport import TransportError, UpstreamResponse
from balancer.wire.decoder import BaseDecoder
from balancer.wire.stream import PING, StreamDecoder

KEY = cast("Key", key(request(), 1, 0))

# Held back


@pytest.mark.parametrize(("too_many", "asked"), [(0, "a"), (1, "ab")], ids=["as many as may be", "one byte more"])
@in_virtual_time
async def test_what_is_held_back_is_bounded(too_many: int, asked: str) -> None:
    news = b'event: news\ndata: {"type":"news"}\n\n'
    held = len(START) + 5 * len(news)
    world = World(
        [[SSE, Data(START), *[Data(news)] * 5, Data(TEXT + DELTA + STOP)]],
        [GOOD],
        limits=RelayLimits(held_max_bytes=held - too_many),
    )

    taker = await world.ask()

    assert world.asked == asked
    assert taker.end == "whole"
    reasons = [attempt.reason for attempt in world.ended.attempts]
    assert reasons == (["its answer was too large (nothing but preliminaries)", ""] if too_many else [""])


@in_virtual_time
async def test_pings_of_the_provider_are_left_out_before_content_and_handed_on_behind_it() -> None:
    taker = await World([[SSE, Data(PING), Data(START), Data(PING), Data(TEXT + DELTA), Data(PING), Data(STOP)]]).ask()

    assert taker.body == START + TEXT + DELTA + PING + STOP


@in_virtual_time
async def test_pings_are_not_counted_as_held() -> None:
    world = World([[SSE, *[Data(PING)] * 50, Data(ANSWER)]], limits=RelayLimits(held_max_bytes=len(START) + len(TEXT)))

    await world.ask()

    assert world.asked == "a"


@in_virtual_time
async def test_the_clients_head_is_given_once_with_what_was_held() -> None:
    given: list[tuple[str, bytes]] = []

    class Watched(Quick):
        def start(self, status: int, headers: Headers) -> None:
            given.append(("start", b"%d" % status))
            super().start(status, headers)

        def put(self, data: bytes, *, last: bool = False) -> bool:
            given.append(("put", data))
            return super().put(data, last=last)

    world = World([[SSE, Data(START), Pause(0.1), Data(TEXT), Pause(0.1), Data(DELTA), Pause(0.1), Data(STOP)]])
    await world.begin(Watched())

    assert given == [("start", b"200"), ("put", START + TEXT + DELTA), ("put", STOP)]


@in_virtual_time
async def test_a_whole_answer_goes_out_with_its_length() -> None:
    halves = script(JSON, Data(MESSAGE[:30]), Data(MESSAGE[30:]))
    world = World([halves])
    taker = await world.ask(stream=False)

    assert [attempt.outcome for attempt in world.ended.attempts] == ["completed"]
    assert taker.headers[b"content-length"] == b"%d" % len(MESSAGE)
    assert taker.headers[b"content-type"] == b"application/json"
    assert (taker.body, taker.end) == (MESSAGE, "whole")


@pytest.mark.parametrize("pause_s", [0.9, 1.1])
@in_virtual_time
async def test_content_has_to_begin_in_time_whatever_comes_before_it(pause_s: float) -> None:
    drip: list[Step] = [SSE, Data(START), Pause(pause_s / 2), Data(PING), Pause(pause_s / 2), Data(TEXT + DELTA + STOP)]
    world = World([drip], [GOOD])

    await world.ask()

    assert world.asked == ("a" if pause_s < 1 else "ab")


@in_virtual_time
async def test_time_that_is_used_up_between_two_reads_is_no_content_in_time() -> None:
    """The provider never fell silent: each of its pings came in time."""
    world = World([script(SSE, *script(Data(PING), Pause(0.25)) * 20)], [GOOD])

    await world.ask()

    assert world.ended.attempts[0].reason == "no content in time"
    assert world.ended.attempts[0].duration_s == pytest.approx(1.0)


@in_virtual_time
async def test_content_behind_the_beginning_has_the_idle_time_for_each_wait() -> None:
    """The time to begin is over by then."""
    slow: list[Step] = [SSE, Data(BEGUN), Pause(4), Data(DELTA), Pause(4), Data(STOP)]
    world = World([slow], [GOOD], ", stream_idle_timeout: 5")

    taker = await world.ask()

    assert (taker.body, taker.end) == (BEGUN + DELTA + STOP, "whole")
    assert asyncio.get_running_loop().time() == pytest.approx(8)


# After content

AFTER_CONTENT: dict[str, tuple[list[Step], str]] = {
    "an error event": ([Data(OVERLOADED)], "529 overloaded_error"),
    "an error event in the same read as content": ([Data(DELTA + OVERLOADED)], "529 overloaded_error"),
    "a clean end without message_stop": ([], "the stream ended before the end of its message"),
    "a reset": ([Fail(Cause.RESET)], "connection reset"),
    "half a frame": ([Data(DELTA[:30])], "the stream ended before the end of its message"),
    "silence": ([Pause(9)], "fell silent"),
}


@pytest.mark.parametrize("name", AFTER_CONTENT)
@in_virtual_time
async def test_content_that_came_is_given_before_its_failure(name: str) -> None:
    steps, reason = AFTER_CONTENT[name]
    world = World([[SSE, Data(BEGUN), *steps]], [GOOD], ", stream_idle_timeout: 5")

    taker = await world.ask(claude_code=True)

    assert (taker.body, taker.end) == (BEGUN + (DELTA if "same read" in name else b""), "aborted")
    assert world.asked == "a"
    assert world.ended.attempts[0].reason == reason
    assert world.ended.attempts[0].stage == "stream"


NO_PROGRESS = {
    "pings": PING,
    "comments": b": keep-alive\n\n",
    "line breaks": b"\n",
    "half an event that never ends": b"x",
    "events without data": b"event: content_block_delta\n\n",
    "events of an unknown type": b'event: new\ndata: {"type":"new"}\n\n',
    "empty deltas": b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":""}}\n\n',
    "empty deltas in other words": b'data: {"type":"content_block_delta","delta":{"text":""}}\n\n',
    "blocks of text without text": b'event: content_block_start\ndata: {"type":"content_block_start","index":1,'
    b'"content_block":{"type":"text","text":""}}\n\n',
}


@pytest.mark.parametrize("quick", [True, False], ids=["a quick client", "a client that is waited for"])
@pytest.mark.parametrize("frame", NO_PROGRESS.values(), ids=NO_PROGRESS)
@in_virtual_time
async def test_bytes_without_progress_keep_a_stream_alive_for_a_bounded_time(frame: bytes, quick: bool) -> None:
    steps: list[Step] = [SSE, Data(BEGUN), *script(Pause(1), Data(frame)) * 100]
    world = World([steps], [GOOD], ", stream_idle_timeout: 2")
    taker = Quick() if quick else Taker()

    await world.relay.answer(request(), taker)

    ended = world.ended
    assert (ended.outcome, world.asked) == ("broken_stream", "a")
    assert ended.attempts[0].reason == "fell silent (nothing but pings and the like for 20 s)"
    assert 20 <= asyncio.get_running_loop().time() <= 23
    assert b"event: error" in taker.body
    assert b"message_stop\n" not in taker.body


@pytest.mark.parametrize("quick", [True, False], ids=["a quick client", "a client that is waited for"])
@in_virtual_time
async def test_content_now_and_then_keeps_a_stream_alive_for_as_long_as_it_takes(quick: bool) -> None:
    slow: list[Step] = [*script(Pause(1), Data(PING)) * 15, Data(DELTA)]
    world = World([[SSE, Data(BEGUN), *slow * 10, Data(STOP)]], [GOOD], ", stream_idle_timeout: 2")
    taker = Quick() if quick else Taker()

    await world.relay.answer(request(), taker)

    assert taker.end == "whole"
    assert asyncio.get_running_loop().time() >= 150


@in_virtual_time
async def test_how_long_may_be_said_for_each_provider() -> None:
    steps: list[Step] = [SSE, Data(BEGUN), *script(Pause(1), Data(PING)) * 100]
    world = World([steps], [GOOD], ", stream_idle_timeout: 2, stream_stall_timeout: 5")

    await world.ask()

    assert world.ended.attempts[0].reason == "fell silent (nothing but pings and the like for 5 s)"


@pytest.mark.parametrize("frame", NO_PROGRESS.values(), ids=NO_PROGRESS)
@in_virtual_time
async def test_bytes_without_progress_that_flow_are_bounded_too(frame: bytes) -> None:
    fed, client = HandFed(), Quick()
    world = World([], settings=", stream_idle_timeout: 2", fed=fed)
    task = world.begin(client)
    fed.says(FLOWING + chunk(BEGUN))
    for said in (*[DELTA] * 30, *[frame] * 60):
        if task.done():
            break
        fed.says(chunk(said))
        await asyncio.sleep(1)
    await task

    assert 50 <= asyncio.get_running_loop().time() <= 53
    assert world.ended.attempts[0].reason == "fell silent (nothing but pings and the like for 20 s)"
    assert client.body.startswith(BEGUN + DELTA * 30)
    assert world.fleet.stats("a").failures == 1


@in_virtual_time
async def test_comments_of_a_server_of_another_type_are_no_progress_either() -> None:
    comments = script(Pause(1), Data(b": OPENROUTER PROCESSING\n\n")) * 100
    text = OPENAI.replace("request_timeout: 1}", "request_timeout: 1, stream_idle_timeout: 2}")
    world = World([[SSE, Data(delta("hi")), *comments]], text=text)

    await world.ask()

    assert "nothing but pings" in world.ended.attempts[0].reason


class Scripted(BaseDecoder):
    """A decoder that says what the test says, one list of pieces a read."""

    def __init__(self, *reads: list[Piece], completes: bool = True, notes: tuple[str, ...] = ()) -> None:
        self.complete = False
        self._reads = list(reads)
        self._completes = completes
        self.notes = notes
        self.late: list[bytes] = []

    def feed(self, data: bytes) -> list[Piece]:
        if self.complete or not self._reads:
            self.late.append(data)
            return []
        pieces = self._reads.pop(0)
        self.complete = self._completes and not self._reads
        return pieces

    def end(self) -> list[Piece]:
        return []


class Body(UpstreamResponse):
    """A body of which every read gives one byte, until there is no more; `error` ends it instead.

    `late` is there already when it is looked for after the end of the message.
    """

    def __init__(self, reads: int, error: TransportError | None = None, late: bytes | None = None) -> None:
        self._left = reads
        self._error = error
        self._late = late
        self.within_s: list[float] = []

    def read_nowait(self) -> bytes | None:
        if self._left:
            return None
        late, self._late = self._late, None
        return late

    async def read(self, within_s: float) -> bytes:
        self.within_s.append(within_s)
        self._left -= 1
        if self._left < 0 and self._error:
            raise self._error
        return b"x" if self._left >= 0 else b""


async def received(
    decoder: Scripted, body: Body, *, deadline: float = 100.0, quick: bool = False
) -> tuple[Outcome, Taker, RequestRecord]:
    """Receive an answer by itself; a `quick` client takes it at once."""
    now = asyncio.get_running_loop().time
    world, taker, asked = World([]), Quick() if quick else Taker(), request()
    receiver = Receiver(world.fleet, Counting(now), now)
    record = RequestRecord(asked, now(), 0)
    with ClientResponse(taker, Watch(now), None, asked.stream, (), now()) as response:
        about = Ask(asked, candidate(), asked.operation, TypedState())
        outcome = await receiver.receive(record, response, about, GoodAnswer(decoder, Reply(200, ()), body, deadline))
    return outcome, taker, record


@in_virtual_time
async def test_an_end_that_no_decoder_objects_to_is_no_whole_answer() -> None:
    for decoder in (Scripted([Piece(b"a", has_content=True)], [], completes=False), Scripted(completes=False)):
        outcome, taker, _ = await received(decoder, Body(1))
        assert "truncated" in str(outcome)
        assert taker.end == ""


@in_virtual_time
async def test_notes_and_headers_of_the_decoder_go_along() -> None:
    decoder = Scripted([Piece(b"a", has_content=True)], notes=("repaired",))
    decoder.headers = ((b"x-rotation", b"9"),)
    _, taker, record = await received(decoder, Body(1))

    assert record.notes == ("repaired",)
    assert taker.headers[b"x-rotation"] == b"9"


class Flowing(Body):
    """A body whose reads are handed on as they come, each in a turn of its own."""

    flows = True

    def __init__(self, begins: int, flows: int) -> None:
        super().__init__(begins)
        self._flowing = flows
        self.waits = 0

    async def flow(self, give: Callable[[bytes], bool], within_s: float) -> None:
        self.waits += 1
        while self._flowing:
            self._flowing -= 1
            await asyncio.sleep(0)
            if not give(b"x"):
                return
        raise TransportError(Cause.CLOSED, sent=True)


@in_virtual_time
async def test_content_that_flows_wakes_the_relay_only_for_more_than_content() -> None:
    content = [Piece(b"c")]
    reads = [[Piece(b"a", has_content=True)], content, [], content, [Piece(b"d"), Piece(b"e")], content, content]
    body = Flowing(1, 99)
    outcome, taker, _ = await received(Scripted(*reads), body, quick=True)

    assert isinstance(outcome, Completed)
    assert (taker.body, taker.end) == (b"accdecc", "whole")
    assert body.waits == 2, "two pieces at once are looked at, and so is the end"


@in_virtual_time
async def test_usage_that_comes_by_itself_while_content_flows_is_counted() -> None:
    reads = [[Piece(b"a", has_content=True)], [Piece(b"b", usage=Usage(output_tokens=7))], [Piece(b"c")]]
    outcome, taker, _ = await received(Scripted(*reads), Flowing(1, 99), quick=True)

    assert outcome == Completed(Usage(output_tokens=7))
    assert taker.body == b"abc"


@in_virtual_time
async def test_an_error_that_comes_by_itself_while_content_flows_ends_the_answer() -> None:
    reads = [[Piece(b"a", has_content=True)], [Piece(b"", error=Fault(529, "overloaded_error"))], [Piece(b"c")]]
    outcome, taker, _ = await received(Scripted(*reads), Flowing(1, 99), quick=True)

    assert "overloaded_error" in str(outcome)
    assert taker.body == b"a"


@in_virtual_time
async def test_usage_is_put_together_from_all_that_reported_some() -> None:
    reads = [
        [Piece(b"a", usage=Usage(input_tokens=5, output_tokens=1))],
        [Piece(b"b", has_content=True), Piece(b"c", usage=Usage(output_tokens=2))],
        [Piece(b"d", usage=Usage(output_tokens=9, cache_read_tokens=3))],
    ]
    outcome, taker, record = await received(Scripted(*reads), Body(3))

    assert outcome == Completed(Usage(5, 9, 3))
    assert (taker.body, taker.end, record.usage) == (b"abcd", "whole", Usage(5, 9, 3))


@in_virtual_time
async def test_an_answer_that_is_complete_without_a_last_piece_is_ended() -> None:
    outcome, taker, _ = await received(Scripted([Piece(b"a", has_content=True)], []), Body(2))

    assert isinstance(outcome, Completed)
    assert (taker.body, taker.end) == (b"a", "whole")


@in_virtual_time
async def test_what_stands_behind_the_error_in_the_same_read_is_not_given() -> None:
    reads = [[Piece(b"a", has_content=True), Piece(b"", error=Fault(529, "overloaded_error")), Piece(b"b")]]
    outcome, taker, _ = await received(Scripted(*reads), Body(1))

    assert "overloaded_error" in str(outcome)
    assert taker.body == b"a"


@in_virtual_time
async def test_what_follows_the_end_is_read_for_a_short_time_for_its_notes_alone() -> None:
    decoder, body = Scripted([Piece(b"a", has_content=True)]), Body(3, TransportError(Cause.IDLE_TIMEOUT))
    outcome, taker, _ = await received(decoder, body)

    assert isinstance(outcome, Completed)
    assert taker.body == b"a"
    assert decoder.late == [b"x", b"x"]
    assert body.within_s[1:] == [1.0, 1.0, 1.0]


@in_virtual_time
async def test_what_came_with_the_end_is_the_first_of_what_follows_it() -> None:
    decoder = Scripted([Piece(b"a", has_content=True)])
    _, taker, _ = await received(decoder, Body(1, late=b"late"))

    assert taker.body == b"a"
    assert decoder.late == [b"late"]


@in_virtual_time
async def test_who_waits_for_content_waits_no_longer_than_the_deadline_or_the_idle_time() -> None:
    content = [Piece(b"a", has_content=True)]
    for deadline, first_s in ((3.0, 3.0), (500.0, 120.0)):
        body = Body(2)
        await received(Scripted(content, content), body, deadline=asyncio.get_running_loop().time() + deadline)
        assert body.within_s[:2] == [first_s, 120.0]

    with pytest.raises(TransportError, match="silent"):
        await received(Scripted(content), Body(1), deadline=asyncio.get_running_loop().time())


@pytest.mark.parametrize("operation", [Operation.MESSAGES, Operation.COUNT_TOKENS])
@in_virtual_time
async def test_only_an_answer_says_how_fast_a_provider_begins(operation: Operation) -> None:
    world = World([[Pause(0.5), *(WHOLE if operation is Operation.MESSAGES else [JSON, Data(b'{"input_tokens":1}')])]])

    taker = await world.ask(stream=False, operation=operation)

    latest = world.fleet.stats("a").latest_first_content_s
    assert latest == (pytest.approx(0.5) if operation is Operation.MESSAGES else None)
    assert (b"x-balancer-token-source" in taker.headers) is (operation is Operation.COUNT_TOKENS)


@in_virtual_time
async def test_the_usage_of_an_answer_calibrates_the_estimates_for_its_provider_and_model() -> None:
    said = b'{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},\
"finish_reason":"stop"}],"usage":{"prompt_tokens":60,"completion_tokens":1}}'
    world = World([script(JSON, Data(said))], text=OPENAI)
    words = "hello world, and all who are in it; " * 4
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": words}]}).encode()

    await world.ask(body=body, stream=False)
    await settled()
    counted = await world.ask(body=body, stream=False, operation=Operation.COUNT_TOKENS)

    assert json.loads(counted.body) == {"input_tokens": 60}


# Answers of which only the end is missing


def delta(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return (
        b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"
    )


USAGE = b'data: {"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":4,"completion_tokens":8}}\n\n'
ENDINGS: dict[str, tuple[list[Step], float, int | None]] = {
    "it ends at once": ([Data(USAGE + b"data: [DONE]\n\n")], 0.0, 8),
    "usage comes late": ([Pause(1.5), Data(USAGE + b"data: [DONE]\n\n")], 1.5, 8),
    "usage comes too late": ([Pause(2.5), Data(USAGE)], 2.0, None),
    "it never ends": ([Pause(60)], 2.0, None),
    "it breaks": ([Pause(0.5), Fail(Cause.RESET)], 0.5, None),
    "it ends without a word": ([Pause(0.5)], 0.5, None),
    "it drips": (script(Pause(0.5), Data(b": wait\n\n")) * 9, 2.0, None),
}


@pytest.mark.parametrize("name", ENDINGS)
@in_virtual_time
async def test_an_answer_that_lacks_only_its_end_is_not_waited_for_long(name: str) -> None:
    steps, seconds, tokens = ENDINGS[name]
    world = World([[SSE, Data(delta("hi")), Data(delta("", "stop")), *steps]], text=OPENAI)

    taker = await world.ask(body=b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}')

    assert (taker.end, world.ended.outcome) == ("whole", "ok")
    assert b"message_stop" in taker.body
    assert asyncio.get_running_loop().time() == pytest.approx(seconds)
    assert world.ended.usage.output_tokens == tokens


@pytest.mark.parametrize("pause_s", [1.5, 2.5])
@in_virtual_time
async def test_content_that_flows_stops_flowing_where_only_the_end_is_left(pause_s: float) -> None:
    fed, client = HandFed(), Quick()
    world = World([], text=OPENAI, fed=fed)
    body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'
    task = world.begin(client, body=body)
    fed.says(FLOWING + chunk(delta("hi")))
    await settled()
    for word in ("how", "are", "you"):
        fed.says(chunk(delta(word)))
        await settled()
        assert word.encode() in client.body

    fed.says(chunk(delta("", "stop")))
    asyncio.get_running_loop().call_later(pause_s, fed.says, chunk(USAGE) + b"0\r\n\r\n")
    began = asyncio.get_running_loop().time()
    await task

    assert (client.end, world.ended.outcome) == ("whole", "ok")
    assert asyncio.get_running_loop().time() - began == pytest.approx(min(pause_s, 2.0), abs=0.01)
    assert world.ended.usage.output_tokens == (8 if pause_s < 2 else None)


@pytest.mark.parametrize(("pause_s", "kept"), [(0.9, True), (1.1, False)])
@in_virtual_time
async def test_a_connection_is_kept_if_the_body_ends_soon_after_the_message(pause_s: float, kept: bool) -> None:
    fed, client = HandFed(), Quick()
    world = World([], fed=fed)
    task = world.begin(client)
    fed.says(FLOWING + chunk(ANSWER))
    await client.begun.wait()
    assert client.end == "whole", "the client does not wait for that"

    asyncio.get_running_loop().call_later(pause_s, fed.says, b"0\r\n\r\n")
    await task

    assert fed.kept is kept


@in_virtual_time
async def test_what_follows_the_end_of_an_answer_is_looked_at_for_the_log() -> None:
    head = Head(200, ((b"x-zed-server-supports-status-messages", b"1"),))
    late = b'{"status":{"failed":{"code":"http_500","message":"m"}}}\n'
    world = World([[Head(404)], [head, Data(answer(wrapped=False)), Data(late)]], text=ZED)

    taker = await world.ask(body=b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}')

    assert (taker.status, taker.end) == (200, "whole")
    assert b"http_500" not in taker.body
    assert any("reported a failure" in note for note in world.ended.notes)


# Content that is handed on as it comes

LATER = [
    *[DELTA.replace(b"an error", b"%d" % number) for number in range(6)],
    b'event: ping\ndata: {"type":"ping"}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":3}}\n\n',
    DELTA.replace(b"an error", b"x" * 300),
    b": a comment\n\n",
    DELTA.replace(b"\n", b"\r\n"),
    DELTA.replace(b"an error", b"\xc3\xa9"),
]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=80)
@given(
    cuts=st.lists(st.tuples(st.integers(1, 400), st.booleans()), max_size=40),
    takes=st.lists(st.booleans(), max_size=20),
    joining=st.sets(st.integers(0, 15), max_size=2),
    leaving=st.sets(st.integers(0, 15), max_size=2),
    chunks=st.integers(1, 3),
)
@in_virtual_time
async def test_whatever_comes_in_whatever_pieces_everybody_gets_all_of_it_in_order(
    cuts: list[tuple[int, bool]], takes: list[bool], joining: set[int], leaving: set[int], chunks: int
) -> None:
    frames = [BEGUN, *LATER, STOP]
    parts = [b"".join(frames[at : at + chunks]) for at in range(0, len(frames), chunks)]
    said = b"".join(map(chunk, parts)) + b"0\r\n\r\n"
    fed = HandFed()
    world = World([], fed=fed)
    registry, client = InFlight(1_000_000, lambda: 0.0), Quick(takes)
    shared = registry.lead(KEY)
    leading = TeeWriter(client, registry, shared, 0.0)
    task = asyncio.create_task(world.relay.answer(request(), leading))
    await settled()
    followers: list[tuple[Quick, asyncio.Task[None]]] = []

    async def joins(taker: Quick) -> None:
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
            followers.append((taker, asyncio.create_task(joins(taker))))
        if number in leaving and followers:
            followers.pop()[1].cancel()
        if waits:
            await settled()
    await asyncio.wait_for(task, 5)
    await leading.drained()
    await asyncio.gather(*(following for _, following in followers))

    for taker in (client, *(taker for taker, _ in followers if taker.status)):
        assert (taker.body, taker.end) == (b"".join(frames).replace(b": a comment", b":"), "whole")
    assert fed.kept
    assert (world.ended.outcome, world.ended.usage.output_tokens) == ("ok", 5)
    assert world.ended.dedup == ("leader" if shared.followed else "")
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
@in_virtual_time
async def test_content_that_flows_and_breaks_off_is_given_whole_and_never_ends_well(name: str, at_once: bool) -> None:
    said, error, lost = ENDS[name]
    fed, client = HandFed(), Quick()
    world = World([], settings=", stream_idle_timeout: 5", fed=fed)
    task = world.begin(client, claude_code=True)
    fed.says(FLOWING + chunk(BEGUN))
    await settled()

    fed.says(chunk(DELTA), chunk(LATER[7]), chunk(DELTA))
    if not at_once:
        await settled()
    fed.says(*said)
    if lost:
        fed.breaks(error)
    await asyncio.wait_for(task, 60)

    content = BEGUN + DELTA + LATER[7] + DELTA + (DELTA if "behind" in name else b"")
    assert (client.body, client.end) == (content, "aborted")
    assert world.ended.outcome == "broken_stream"
    assert world.ended.usage.output_tokens == 3, "of LATER[7]"
    assert world.fleet.stats("a").failures == 1
    assert world.fleet.stats("a").in_flight == 0
    if name == "silence":
        assert asyncio.get_running_loop().time() == pytest.approx(5, abs=0.01)


@pytest.mark.parametrize(
    "said", [[chunk(DELTA)], [b"%x\r\n" % len(DELTA), DELTA + b"\r\n"]], ids=["at once", "in two reads"]
)
@in_virtual_time
async def test_what_could_not_be_given_is_no_gap_in_a_whole_answer(said: list[bytes]) -> None:
    class Failing(Quick):
        def put(self, data: bytes, *, last: bool = False) -> bool:
            if self.body:
                raise LookupError
            return super().put(data, last=last)

    fed, client = HandFed(), Failing()
    world = World([], fed=fed)
    task = world.begin(client, claude_code=True)
    fed.says(FLOWING + chunk(BEGUN))
    await settled()

    fed.says(*said, chunk(STOP) + b"0\r\n\r\n")
    await asyncio.wait_for(task, 5)

    assert (client.body, client.end) == (BEGUN, "aborted")
    assert not fed.kept
    assert world.fleet.stats("a").failures == 0  # it was not the provider


@in_virtual_time
async def test_a_client_that_leaves_in_the_turn_in_which_content_comes_is_given_no_more() -> None:
    fed, client = HandFed(), Quick()
    world = World([], fed=fed)
    registry = InFlight(1_000_000, lambda: 0.0)
    leading = TeeWriter(client, registry, registry.lead(KEY), 0.0)
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


@in_virtual_time
async def test_an_answer_that_is_complete_without_a_piece_is_not_waited_for() -> None:
    class Curt(StreamDecoder):
        def feed(self, data: bytes) -> list[Piece]:
            pieces = super().feed(data)
            return [] if self.complete else pieces

    fed, client, asked = HandFed(), Quick(), request()
    now = asyncio.get_running_loop().time
    world = World([], fed=fed)
    record = RequestRecord(asked, now(), 0)

    async def answers() -> Outcome:
        async with fed.exchange(wire_request(), connect_s=1, head_s=1) as body:
            with ClientResponse(client, Watch(now), None, True, (), now()) as response:
                good = GoodAnswer(Curt(), Reply(200, body.headers), body, 9.0)
                about = Ask(asked, candidate(), asked.operation, TypedState())
                return await Receiver(world.fleet, Counting(now), now).receive(record, response, about, good)

    task = asyncio.create_task(answers())
    fed.says(FLOWING + chunk(BEGUN))
    await settled()
    fed.says(chunk(STOP))
    await asyncio.wait_for(client.ended.wait(), 5)
    fed.says(b"0\r\n\r\n")

    assert isinstance(await task, Completed)
    assert (client.body, client.end) == (BEGUN, "whole")
    assert fed.kept
