"""How requests end that get no answer, or not the whole of one: what the client is told, and what is reported."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace
from stand_ins import Taker, request
from virtual_time import in_virtual_time
from worlds import BEGUN, GOOD, JSON, MESSAGE, OPENAI, OVERLOADED, SSE, START, Quick, Stuck, World, error

from balancer.model import Operation
from balancer.policy import exhausted
from balancer.relay.record import RequestRecord
from balancer.relay.response import ClientResponse, Watch
from balancer.script import Cause, Data, Fail, Head, Pause, Step

# Before content


@in_virtual_time
async def test_the_callers_fault_goes_back_untouched_and_blames_nobody() -> None:
    steps = error(400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", request_id="req_x")
    world = World([steps], [GOOD])

    taker = await world.ask()

    assert taker.status == 400
    assert taker.body == steps[1].data  # type: ignore[union-attr]
    assert taker.headers[b"request-id"] == b"req_x"
    assert taker.headers[b"content-length"] == b"%d" % len(taker.body)
    assert world.asked == "a"
    assert world.fleet.stats("a").failures == 0
    assert (world.ended.outcome, world.ended.status) == ("client_error", 400)


@in_virtual_time
async def test_a_400_that_quotes_our_key_is_the_only_one_that_is_touched() -> None:
    world = World([error(400, "invalid_request_error", "tools: sk-secret-of-a")], [GOOD])

    taker = await world.ask()

    assert b"sk-secret-of-a" not in taker.body
    assert taker.headers[b"content-length"] == b"%d" % len(taker.body)
    assert "sk-secret-of-a" not in world.ended.reason


@in_virtual_time
async def test_nobody_could_answer() -> None:
    world = World([error(529, "overloaded_error")], [[Fail(Cause.REFUSED)]])

    taker = await world.ask()
    said = json.loads(taker.body)

    assert taker.status == 503
    assert said["type"] == "error"
    assert said["error"]["type"] == "api_error"
    assert said["request_id"] == "req_test"
    assert "a: 529 overloaded_error" in said["error"]["message"]
    assert "b: connection refused" in said["error"]["message"]
    assert 1 <= int(taker.headers[b"retry-after"]) <= 60
    assert taker.headers[b"request-id"] == b"req_test"
    assert taker.headers[b"x-balancer-attempts"] == b"%d" % len(world.ended.attempts)
    assert b"x-balancer-provider" not in taker.headers
    assert (world.ended.outcome, world.ended.reason) == ("failed", said["error"]["message"])


@in_virtual_time
async def test_everybody_limited_is_a_429() -> None:
    limited = error(429, "rate_limit_error", retry_after="40")
    world = World([limited], [limited])

    taker = await world.ask()

    assert (taker.status, taker.headers[b"retry-after"]) == (429, b"40")
    assert world.ended.outcome == "failed", "it is not the client that can mend it"


@in_virtual_time
async def test_who_was_not_asked_is_named_with_the_reason_of_its_cooldown() -> None:
    world = World([error(500)], [error(529, "overloaded_error", retry_after="60")])
    await world.ask()

    taker = await world.ask()

    message = json.loads(taker.body)["error"]["message"]
    assert message.endswith("b: cooling down after 529 overloaded_error (asks to wait 54 s)")


REFUSED = error(401, "authentication_error")
NOT_RETRIED = "a: its key was refused (401 authentication_error): check its auth_value in providers.yaml"


@in_virtual_time
async def test_what_only_a_person_can_mend_is_told_at_once_also_while_it_cools_down() -> None:
    world = World([REFUSED], [error(402, "billing_error")])

    for _ in range(2):  # the second time one of them is not asked
        taker = await world.ask()
        said = json.loads(taker.body)

        assert (taker.status, said["error"]["type"]) == (503, "api_error")
        assert taker.headers[b"x-should-retry"] == b"false"
        assert b"retry-after" not in taker.headers
        assert NOT_RETRIED in said["error"]["message"]
        assert "b: its account has no credit (402 billing_error)" in said["error"]["message"]
        assert world.ended.duration_s < 0.1
    assert world.asked == "aba"


@in_virtual_time
async def test_mixed_with_what_passes_the_client_is_kept_waiting() -> None:
    taker = await World([REFUSED], [error(529, "overloaded_error")]).ask()

    assert taker.status == 503
    assert b"x-should-retry" not in taker.headers
    assert 1 <= int(taker.headers[b"retry-after"]) <= 60


@in_virtual_time
async def test_behind_pings_the_event_makes_claude_code_ask_once_more_without_streaming() -> None:
    one = """
providers: [{name: a, type: anthropic, base_url: "http://127.0.0.1:1001", auth_value: sk-secret-of-a}]
model_routes: {"m": [{provider: a}]}
"""
    taker = await World([[Pause(11), *REFUSED]], text=one).ask()

    assert taker.status == 200
    event = taker.body.split(b"event: error\ndata: ")[1]
    error_told = json.loads(event)["error"]
    assert error_told["type"] == "api_error", "an overloaded_error would be streamed again for ten minutes"
    assert NOT_RETRIED in error_told["message"]


@in_virtual_time
async def test_tokens_are_estimated_whatever_only_a_person_can_mend() -> None:
    world = World([REFUSED], [REFUSED])
    for order in (None, "pause"):
        if order:
            for name in "ab":
                world.fleet.orders.pause(name, 0.0)
        taker = await world.ask(operation=Operation.COUNT_TOKENS, stream=False)

        assert taker.status == 200
        assert taker.headers[b"x-balancer-token-source"] == b"estimate"


@in_virtual_time
async def test_a_request_that_finds_all_candidates_paused_is_told_who_resumes_them() -> None:
    world = World([GOOD], [GOOD])
    for name in "ab":
        world.fleet.orders.pause(name, 0.0)

    taker = await world.ask()

    assert (taker.status, taker.headers[b"x-should-retry"], world.asked) == (503, b"false", "")
    assert json.loads(taker.body)["error"]["message"] == (
        "no provider can answer for 'm': a: it was paused by hand: run balancer resume a; "
        "b: it was paused by hand: run balancer resume b"
    )


@in_virtual_time
async def test_a_provider_that_is_paused_while_a_request_waits_is_not_asked_by_it() -> None:
    world = World([error(500)], [GOOD], ", limits: {queue_s: 5}")
    world.fleet.orders.pause("b", 0.0)
    task = world.begin(taker := Taker())
    await asyncio.sleep(0.1)  # a has failed: the request waits to come back to it
    world.fleet.orders.pause("a", 0.0)
    await task

    assert taker.status == 503
    assert world.asked == "a"


@in_virtual_time
async def test_no_route_names_the_patterns() -> None:
    world = World([GOOD])

    taker = await world.ask(replace(request(), model="unknown"))

    assert taker.status == 404
    assert json.loads(taker.body)["error"]["type"] == "not_found_error"
    assert b"'m'" in taker.body
    assert (world.asked, world.ended.outcome) == ("", "client_error")


@in_virtual_time
async def test_pings_are_sent_behind_a_provider_that_takes_long_and_failing_over_goes_on() -> None:
    world = World([[SSE, Data(START), Pause(25), Data(OVERLOADED)]], [GOOD], text=PATIENT)

    taker = await world.ask()

    assert taker.body.count(b"event: message_start") == 1
    assert taker.body.startswith(b"event: ping\n")
    assert taker.body.count(b"event: ping\n") == 2
    assert (taker.status, taker.end, world.asked) == (200, "whole", "ab")


PATIENT = """
providers:
  - {name: a, type: anthropic, base_url: "http://127.0.0.1:1001", auth_value: sk-secret-of-a}
  - {name: b, type: anthropic, base_url: "http://127.0.0.1:1002", auth_value: sk-secret-of-b}
model_routes: {"m": [{provider: a, model: passthrough, priority: 1}, {provider: b, model: other, priority: 2}]}
"""


@in_virtual_time
async def test_when_everybody_failed_behind_pings_the_error_makes_claude_code_stream_again() -> None:
    world = World([[Pause(25), Fail(Cause.RESET)]], [error(500)], text=PATIENT)

    taker = await world.ask()

    assert taker.status == 200
    assert b"event: error\n" in taker.body
    assert b"overloaded_error" in taker.body
    assert b"req_test" in taker.body
    assert (world.ended.outcome, world.ended.status) == ("failed", 200)


@in_virtual_time
async def test_what_only_the_client_can_mend_is_said_behind_pings_as_what_it_is() -> None:
    late = [Pause(25), *error(400, "invalid_request_error", "prompt is too long: 2 tokens > 1 maximum; sk-secret-of-a")]
    world = World([late], [GOOD], text=PATIENT)

    taker = await world.ask()

    assert b'"type":"invalid_request_error","message":"prompt is too long' in taker.body
    assert b"overloaded_error" not in taker.body
    assert b"sk-secret-of-a" not in taker.body
    assert (world.asked, world.ended.outcome) == ("a", "client_error")


@in_virtual_time
async def test_an_errors_answer_is_kept_from_those_who_ask_later() -> None:
    """`mark_unshareable` is called before the words that say so."""
    order: list[str] = []

    class Noted(Taker):
        def mark_unshareable(self) -> None:
            order.append("marked")

        async def write(self, data: bytes, *, last: bool = False) -> None:
            order.append("error" if b"event: error" in data else "other")
            await super().write(data, last=last)

    world = World([[SSE, Data(BEGUN), Fail(Cause.RESET)]])
    await world.begin(Noted())

    assert order == ["other", "marked", "error"]


# After content

BROKEN: dict[str, tuple[list[Step], str, str]] = {
    "an error event": ([Data(OVERLOADED)], "overloaded_error", "529 overloaded_error"),
    "a refused key": ([Data(OVERLOADED.replace(b"overloaded_error", b"authentication_error"))], "api_error", "401"),
    "a reset": ([Fail(Cause.RESET)], "api_error", "connection reset"),
    "a clean end": ([], "api_error", "before the end"),
}


@pytest.mark.parametrize("name", BROKEN)
@in_virtual_time
async def test_the_event_of_a_broken_stream_says_who_broke_it_and_how(name: str) -> None:
    steps, kind, reason = BROKEN[name]
    world = World([[SSE, Data(BEGUN), *steps]])

    taker = await world.ask()

    event = taker.body.removeprefix(BEGUN)
    assert event.startswith(b"event: error\ndata: ")
    said = json.loads(event.removeprefix(b"event: error\ndata: "))
    assert said["error"]["type"] == kind
    assert said["error"]["message"].startswith("a broke off its answer: ")
    assert said["request_id"] == "req_test"
    assert (taker.end, world.ended.outcome) == ("whole", "broken_stream")
    assert reason in world.ended.reason
    assert world.ended.provider == "a"


MANNERS = [
    ("auto", True, True, "aborted"),
    ("auto", True, False, "whole"),
    ("abort", True, True, "aborted"),
    ("abort", True, False, "aborted"),
    ("error_event", True, True, "whole"),
    ("error_event", True, False, "whole"),
]


@pytest.mark.parametrize(("setting", "stream", "claude_code", "end"), MANNERS)
@in_virtual_time
async def test_on_broken_stream(setting: str, stream: bool, claude_code: bool, end: str) -> None:
    world = World([[SSE, Data(BEGUN), Fail(Cause.RESET)]], settings=f", on_broken_stream: {setting}")

    taker = await world.ask(stream=stream, claude_code=claude_code)

    assert taker.end == end
    assert (b"event: error" in taker.body) is (end == "whole")
    assert b"message_stop" not in taker.body.removeprefix(BEGUN)


@pytest.mark.parametrize("setting", ["auto", "abort", "error_event"])
@in_virtual_time
async def test_a_whole_answer_that_breaks_after_its_head_is_cut(setting: str) -> None:
    """An event has no place in it."""

    class Failing(Taker):
        async def write(self, data: bytes, *, last: bool = False) -> None:
            raise LookupError

    world, taker = World([[JSON, Data(MESSAGE)]], settings=f", on_broken_stream: {setting}"), Failing()

    await world.begin(taker, stream=False)

    assert (taker.body, taker.end) == (b"", "aborted")
    assert world.ended.outcome == "broken_stream"


@in_virtual_time
async def test_a_secret_in_a_providers_words_is_in_neither_event_nor_report() -> None:
    quoting = OVERLOADED.replace(b'"message":"', b'"message":"sk-secret-of-a ')
    assert quoting != OVERLOADED
    world = World([[SSE, Data(BEGUN), Data(quoting)]])

    taker = await world.ask()

    assert b"sk-secret-of-a" not in taker.body
    assert "sk-secret-of-a" not in repr(world.events)


# The client leaves, is stuck, or the balancer is stopped


class Waiting(Taker):
    """A client that takes `takes` writes and then waits; `put` takes nothing."""

    def __init__(self, takes: int) -> None:
        super().__init__()
        self._left = takes
        self.waits = asyncio.Event()

    async def write(self, data: bytes, *, last: bool = False) -> None:
        self._left -= 1
        if self._left < 0 and not self.waits.is_set():
            self.waits.set()
            await asyncio.Event().wait()
        await super().write(data, last=last)


async def interrupted(steps: list[Step], taker: Taker, after_s: float, *, leaves: bool, **more: Any) -> World:
    """Cancel a request after a time, because its client leaves or because the balancer is stopped."""
    world = World([steps], text=PATIENT)
    taker.gone = False
    task = world.begin(taker, **more)
    await asyncio.sleep(after_s)
    taker.gone = leaves
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return world


STOPPED = exhausted.STOPPED.message


@in_virtual_time
async def test_stopped_before_anything_was_given_the_client_is_told_by_a_status() -> None:
    taker = Taker()
    world = await interrupted([Pause(60)], taker, 5, leaves=False)

    assert (taker.status, taker.end, taker.headers[b"retry-after"]) == (503, "whole", b"1")
    assert STOPPED.encode() in taker.body
    assert (world.ended.outcome, world.ended.reason) == ("failed", STOPPED)
    assert [attempt.outcome for attempt in world.ended.attempts] == ["abandoned"]
    assert world.fleet.stats("a").failures == 0


@in_virtual_time
async def test_stopped_behind_pings_the_client_is_told_by_an_event() -> None:
    taker = Taker()
    world = await interrupted([SSE, Data(START), Pause(60)], taker, 15, leaves=False)

    assert (taker.status, taker.end) == (200, "whole")
    assert b"event: error" in taker.body
    assert STOPPED.encode() in taker.body
    assert world.ended.outcome == "failed"


@in_virtual_time
async def test_stopped_after_content_the_client_is_told_by_an_event() -> None:
    taker = Taker()
    world = await interrupted([SSE, Data(BEGUN), Pause(60)], taker, 5, leaves=False)

    assert taker.body.startswith(BEGUN + b"event: error\n")
    assert STOPPED.encode() in taker.body
    assert taker.end == "whole"
    assert (world.ended.outcome, world.ended.reason) == ("broken_stream", STOPPED)


@in_virtual_time
async def test_stopped_while_a_slow_client_is_given_a_whole_answer_it_is_cut_off() -> None:
    taker = Waiting(0)
    world = await interrupted([JSON, Data(MESSAGE)], taker, 5, leaves=False, stream=False)

    assert (taker.body, taker.end) == (b"", "aborted")
    assert world.ended.outcome == "broken_stream"


@in_virtual_time
async def test_stopped_while_a_slow_client_is_given_the_last_of_a_stream_it_is_cut_off() -> None:
    """An event behind the end of a message would be out of place."""
    taker = Waiting(0)
    world = await interrupted(GOOD, taker, 5, leaves=False)

    assert (taker.body, taker.end) == (b"", "aborted")
    assert (world.ended.outcome, world.ended.reason) == ("broken_stream", STOPPED)


@in_virtual_time
async def test_stopped_in_the_middle_of_a_whole_answer_the_client_is_cut_off() -> None:
    """An event has no place in JSON."""
    now = asyncio.get_running_loop().time
    world, taker = World([GOOD]), Quick()
    taker.gone = False
    with ClientResponse(taker, Watch(now), None, False, (), now()) as response:
        response.commit(())
        assert response.put(MESSAGE[:9])
        await world.relay._endings.cut_off(RequestRecord(request(stream=False), now(), 0), response)

    assert (taker.body, taker.end) == (MESSAGE[:9], "aborted")


LEAVING: dict[str, tuple[list[Step], float, int]] = {
    "before anything came": ([Pause(60)], 5, 9),
    "behind pings": ([SSE, Data(START), Pause(60)], 15, 9),
    "after content": ([SSE, Data(BEGUN), Pause(60)], 5, 9),
    "with the last of the answer on its way": (GOOD, 5, 0),
}


@pytest.mark.parametrize("name", LEAVING)
@in_virtual_time
async def test_a_client_that_leaves_is_given_nothing_more_and_reported_as_gone(name: str) -> None:
    steps, after_s, takes = LEAVING[name]
    taker = Waiting(takes)
    world = await interrupted(steps, taker, after_s, leaves=True)

    assert b"event: error" not in taker.body
    assert taker.end == ""
    assert (world.ended.outcome, world.ended.reason) == ("abandoned", "the client left")
    assert world.fleet.stats("a").failures == 0


STUCK_AT: dict[str, tuple[list[Step], int]] = {
    "a ping": ([SSE, Data(START), Pause(400)], 0),
    "the first content": ([SSE, Data(BEGUN), Pause(400)], 0),
    "the last of the answer": (GOOD, 0),
    "an error's answer": (error(400, "invalid_request_error", "no such thing"), 0),
}


@pytest.mark.parametrize("name", STUCK_AT)
@in_virtual_time
async def test_a_client_that_is_stuck_is_cut_off_whatever_it_does_not_take(name: str) -> None:
    steps, takes = STUCK_AT[name]
    world, taker = (
        World([steps], text=PATIENT.replace("auth_value: sk-secret-of-a", "auth_value: s, request_timeout: 300")),
        Stuck(takes),
    )

    with pytest.raises(asyncio.CancelledError):
        await world.begin(taker)

    assert taker.end == "aborted"
    assert asyncio.get_running_loop().time() < 145
    if name != "an error's answer":
        assert (world.ended.outcome, world.ended.reason) == ("abandoned", "the client took nothing for too long")


@in_virtual_time
async def test_a_request_that_is_over_is_not_ended_again() -> None:
    """The task is cancelled while it reads what follows the end of the provider's answer."""
    world, taker = World([[*GOOD, Pause(0.5)]]), Quick()
    task = world.begin(taker)
    await asyncio.sleep(0.1)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert taker.end == "whole"
    assert world.ended.outcome == "ok"


# Counting


@in_virtual_time
async def test_where_no_provider_can_count_the_client_gets_an_estimate() -> None:
    world = World([error(500)], [error(404)])

    taker = await world.ask(
        operation=Operation.COUNT_TOKENS, stream=False, body=b'{"messages":[{"role":"user","content":"hello world"}]}'
    )

    assert (taker.status, taker.end) == (200, "whole")
    assert taker.headers[b"x-balancer-token-source"] == b"estimate"
    assert taker.headers[b"content-length"] == b"%d" % len(taker.body)
    assert 2 <= json.loads(taker.body)["input_tokens"] < 40
    assert world.ended.outcome == "ok"


@pytest.mark.parametrize(
    ("words", "expected"),
    [("count_tokens is not supported here", 200), ("messages: at least one message is required", 400)],
    ids=["the provider can't count", "the request is wrong"],
)
@in_virtual_time
async def test_what_a_provider_can_not_count_is_estimated_and_what_is_wrong_goes_back(
    words: str, expected: int
) -> None:
    refusal = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": words}}).encode()
    world = World([[Head(400), Data(refusal)]], [[Head(400), Data(refusal)]])

    taker = await world.ask(
        operation=Operation.COUNT_TOKENS, stream=False, body=b'{"messages":[{"role":"user","content":"hello world"}]}'
    )

    assert taker.status == expected
    assert taker.headers.get(b"x-balancer-token-source") == (b"estimate" if expected == 200 else None)


@pytest.mark.parametrize("keys", ["", ", auth: {keys: [key-number-one, key-number-two]}"], ids=["for all", "shared"])
@in_virtual_time
async def test_a_request_to_count_that_finds_no_place_gets_an_estimate_at_once(keys: str) -> None:
    world = World([[Pause(0.9), *GOOD]], None, ", limits: {max_in_flight: 1, queue_s: 30}" + keys)
    first = Taker()
    task = world.begin(first)
    await asyncio.sleep(0)
    arrived = asyncio.get_running_loop().time()

    taker = await world.ask(
        operation=Operation.COUNT_TOKENS, stream=False, body=b'{"messages":[{"role":"user","content":"hello world"}]}'
    )

    assert (taker.status, taker.headers[b"x-balancer-token-source"]) == (200, b"estimate")
    assert (asyncio.get_running_loop().time() - arrived, world.ended.queued_s) == (0.0, 0.0)
    await task
    assert (first.status, world.asked) == (200, "a")


@in_virtual_time
async def test_a_type_that_can_not_count_is_not_asked_to() -> None:
    world = World([GOOD], text=OPENAI)

    taker = await world.ask(
        operation=Operation.COUNT_TOKENS, stream=False, body=b'{"messages":[{"role":"user","content":"hello world"}]}'
    )

    assert (world.asked, taker.status) == ("", 200)
    assert taker.headers[b"x-balancer-token-source"] == b"estimate"


@in_virtual_time
async def test_what_is_no_message_can_not_be_counted() -> None:
    world = World([error(500)], [error(500)])

    taker = await world.ask(operation=Operation.COUNT_TOKENS, stream=False, body=b'{"messages": 5}')

    assert (taker.status, json.loads(taker.body)["error"]["type"]) == (400, "invalid_request_error")
    assert world.ended.outcome == "client_error"


@in_virtual_time
async def test_what_a_provider_says_of_a_request_to_count_is_passed_on() -> None:
    world = World([error(400, "invalid_request_error", "messages: at least one message is required")])

    taker = await world.ask(operation=Operation.COUNT_TOKENS, stream=False)

    assert taker.status == 400
    assert b"at least one message" in taker.body


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@in_virtual_time
async def test_an_address_that_redirects_to_tls_is_asked_once_and_told_at_once(status: int) -> None:
    moved: list[Step] = [Head(status, ((b"location", b"https://127.0.0.1:1001/v1/messages"),))]
    world = World([moved], text=OPENAI.replace("openai", "anthropic"))

    taker = await world.ask()

    assert (world.asked, taker.status, taker.headers[b"x-should-retry"]) == ("a", 503, b"false")
    assert b"base_url should be https:// instead of http://" in taker.body
