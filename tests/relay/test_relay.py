"""The life of a request, as stories: what the providers do, who is asked, what the client gets."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from typing import Any

import pytest
from stand_ins import Taker, request
from virtual_time import in_virtual_time
from worlds import (
    ANSWER,
    CONFIG,
    DELTA,
    GOOD,
    JSON,
    MESSAGE,
    OVERLOADED,
    SSE,
    START,
    STOP,
    TEXT,
    WHOLE,
    World,
    error,
)

from balancer.dialects.simulated.faults import Drill
from balancer.events import ReasoningLeft
from balancer.model import OpenAIRequest, Operation
from balancer.script import Cause, Data, Fail, Head, Pause, Step

PINGS: list[Step] = [Data(b'event: ping\ndata: {"type": "ping"}\n\n'), Pause(0.2)] * 30

BEFORE_CONTENT: dict[str, list[Step]] = {
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
    "no connection": [Fail(Cause.REFUSED)],
    "a reset": [Fail(Cause.RESET)],
    "a reset after the head": [SSE, Fail(Cause.RESET)],
    "silence": [Pause(60)],
    "silence after the head": [SSE, Data(START), Pause(60)],
    "pings and nothing else": [SSE, *PINGS],
    "an error event first": [SSE, Data(OVERLOADED)],
    "an error event after the start": [SSE, Data(START + TEXT), Data(OVERLOADED)],
    "an empty 200": [SSE],
    "an HTML 200": [Head(200, ((b"content-type", b"text/html"),)), Data(b"<html>\n\n</html>")],
    "a JSON 200": [JSON, Data(b'{"type":"completion"}')],
    "a start and no more": [SSE, Data(START + TEXT)],
    "garbage": [SSE, Data(START + b"data: {oops\n\n")],
    "204": [Head(204, ())],
}


@pytest.mark.parametrize("steps", BEFORE_CONTENT.values(), ids=BEFORE_CONTENT)
@in_virtual_time
async def test_what_goes_wrong_before_content_is_never_seen(steps: list[Step]) -> None:
    world = World([steps], [GOOD])

    taker = await world.ask()

    assert (taker.status, taker.body, taker.end) == (200, ANSWER, "whole")
    assert world.asked == "ab"
    assert taker.headers[b"x-balancer-provider"] == b"b"
    assert taker.headers[b"x-balancer-attempts"] == b"2"


@pytest.mark.parametrize("stream", [True, False])
@in_virtual_time
async def test_a_whole_answer_in_the_other_form_is_turned_and_asked_for_once(stream: bool) -> None:
    world = World([WHOLE if stream else GOOD], [GOOD])

    taker = await world.ask(stream=stream)

    assert (taker.status, taker.end, world.asked) == (200, "whole", "a")
    assert b"hi" in taker.body if stream else json.loads(taker.body)["stop_reason"] == "end_turn"
    assert taker.body.count(b"event: message_stop\n") == (1 if stream else 0)


@in_virtual_time
async def test_a_missing_message_stop_behind_a_stop_reason_is_told_and_rests_nobody() -> None:
    steps: list[Step] = [SSE, Data(ANSWER.partition(b"event: message_stop")[0]), Data(b"data: [DONE]\n\n")]
    world = World([steps, GOOD], [GOOD])

    taker = await world.ask()

    assert (world.asked, b"message_stop\n" in taker.body) == ("a", False)
    assert b"no message_stop" in taker.body
    await world.ask()
    assert world.asked == "aa", "it did not rest"


WHOLE_FAULTS: dict[str, list[Step]] = {
    "529": error(529, "overloaded_error"),
    "an error object in a 200": [JSON, Data(b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}')],
    "HTML": [JSON, Data(b"<html></html>")],
    "nothing": [JSON],
    "not a message": [JSON, Data(b'{"type":"completion"}')],
    "cut": [JSON, Data(MESSAGE[:20])],
    "reset in the middle": [JSON, Data(MESSAGE[:20]), Fail(Cause.RESET)],
    "silence": [Pause(60)],
}


@pytest.mark.parametrize("steps", WHOLE_FAULTS.values(), ids=WHOLE_FAULTS)
@in_virtual_time
async def test_the_same_without_streaming(steps: list[Step]) -> None:
    world = World([steps], [WHOLE])

    taker = await world.ask(stream=False)

    assert (taker.status, taker.body, taker.end) == (200, MESSAGE, "whole")
    assert world.asked == "ab"


@in_virtual_time
async def test_the_model_is_spliced_for_the_second_and_the_body_is_the_clients_for_the_first() -> None:
    world = World([error(529)], [GOOD])

    await world.ask(body=b'{"model": "m", "messages": [], "odd":  1}')

    first, second = (b"".join(wire.body) for wire in world.transport.sent)
    assert first == b'{"model": "m", "messages": [], "odd":  1}'
    assert second == b'{"model": "other", "messages": [], "odd":  1}'


@in_virtual_time
async def test_during_its_cooldown_a_provider_is_not_asked() -> None:
    world = World([error(529), GOOD], [GOOD])

    for _ in range(5):
        assert (await world.ask()).end == "whole"

    assert world.asked == "abbbbb"


@in_virtual_time
async def test_a_provider_that_waits_too_long_is_left_after_its_time() -> None:
    world = World([[SSE, Data(START), Pause(60)]], [GOOD])

    await world.ask()

    assert asyncio.get_running_loop().time() == pytest.approx(1.0), "request_timeout"


@in_virtual_time
async def test_headers_of_the_provider_that_are_kept_and_that_are_dropped() -> None:
    taker = await World([GOOD]).ask()

    assert taker.headers[b"request-id"] == b"req_up"
    assert b"set-cookie" not in taker.headers
    assert taker.headers[b"x-balancer-request-id"] == b"req_test"
    assert taker.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert taker.headers[b"cache-control"] == b"no-cache"
    assert taker.headers[b"x-accel-buffering"] == b"no", "else nginx collects the stream"


@in_virtual_time
async def test_a_client_that_leaves_closes_the_upstream_and_blames_nobody() -> None:
    world = World([[SSE, Data(START + TEXT + DELTA), Pause(60)]])
    taker = Taker()
    task = world.begin(taker)
    await taker.begun.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert world.transport.closed == [1001]
    assert world.fleet.stats("a").failures == 0
    assert world.fleet.stats("a").in_flight == 0
    assert (world.ended.outcome, world.ended.reason) == ("abandoned", "the client left")
    assert [attempt.outcome for attempt in world.ended.attempts] == ["abandoned"]


@in_virtual_time
async def test_the_body_is_dropped_when_the_answer_has_begun() -> None:
    world = World([[SSE, Data(START + TEXT + DELTA), Pause(60)]])
    ask, taker = request(), Taker()
    task = asyncio.create_task(world.relay.answer(ask, taker))
    await taker.begun.wait()

    assert ask.body == b""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@in_virtual_time
async def test_tokens_are_counted_by_the_provider() -> None:
    world = World([error(500)], [[JSON, Data(b'{"input_tokens": 42}')]])

    taker = await world.ask(operation=Operation.COUNT_TOKENS, stream=False)

    assert json.loads(taker.body) == {"input_tokens": 42}
    assert taker.headers[b"x-balancer-token-source"] == b"provider"


@in_virtual_time
async def test_places_are_counted_and_given_back() -> None:
    world = World([GOOD])

    await asyncio.gather(*(world.ask() for _ in range(50)))

    assert world.fleet.admission.in_flight == 0
    assert world.fleet.stats("a").in_flight == 0


@pytest.mark.parametrize(("gap_s", "most"), [(0.01, 1.2 * 100 + 10), (0.1, 1.2 * 100 + 40 + 10), (5.0, 2 * 100 + 10)])
@pytest.mark.parametrize("status", [500, 529], ids=["both alike", "each its own way"])
@in_virtual_time
async def test_attempts_in_a_total_outage_without_cooldowns(gap_s: float, most: float, status: int) -> None:
    """Besides 1.2 for each request, at most two a second look whether the other one works again."""
    text = CONFIG.format(settings="").replace("failure_cooldown: 60", "failure_cooldown: 0")
    world = World([error(500)], [error(status)], text=text)

    tasks = []
    for number in range(100):
        tasks.append(world.begin(Taker(), body=b'{"n":%d}' % number))
        await asyncio.sleep(gap_s)
    await asyncio.gather(*tasks)

    assert 100 <= len(world.asked) <= most


@in_virtual_time
async def test_content_of_a_stream_from_before_a_failure_opens_no_provider_that_is_being_probed() -> None:
    old: list[Step] = [SSE, Pause(10), Data(START + TEXT + DELTA), Pause(10), Data(STOP)]
    probe: list[Step] = [SSE, Pause(20), Data(ANSWER)]
    text = CONFIG.format(settings="").replace("request_timeout: 1", "request_timeout: 60")
    world = World([old, error(500), probe], [GOOD], text=text)
    takers = [Taker() for _ in range(4)]

    tasks = []
    for taker, pause_s in zip(takers, (0.1, 8.0, 3.0, 0.0), strict=True):
        tasks.append(world.begin(taker))
        await asyncio.sleep(pause_s)
    await asyncio.gather(*tasks)

    assert world.asked == "aabab"
    assert [taker.status for taker in takers] == [200] * 4


@in_virtual_time
async def test_who_finds_no_place_in_the_balancer_waits_and_then_is_told_to_come_again() -> None:
    slow: list[Step] = [Pause(0.9), *GOOD]
    world = World([slow], [slow], ", limits: {max_in_flight: 1, queue_s: 1}")
    first, second, third = Taker(), Taker(), Taker()

    await asyncio.gather(*(world.begin(taker) for taker in (first, second, third)))

    assert [taker.status for taker in (first, second, third)] == [200, 200, 503]
    assert b"every place for 'm' is taken" in third.body
    assert [round(event.queued_s, 1) for event in world.events if hasattr(event, "queued_s")] == [0.0, 1.0, 0.9]


@in_virtual_time
async def test_a_place_in_the_balancer_is_waited_for_no_longer_than_the_client_waits() -> None:
    """Its limit would run out first: it is to be told why it gets no answer."""
    world = World(
        [[SSE, Data(START + TEXT + DELTA), Pause(40), Data(STOP)]], None, ", limits: {max_in_flight: 1, queue_s: 30}"
    )
    first, second = Taker(), Taker()

    tasks = [world.begin(first), world.begin(second, client_timeout_s=12.0)]
    await asyncio.sleep(7.5)

    assert second.status == 503
    assert b"every place for 'm' is taken" in second.body
    await asyncio.gather(*tasks)


@in_virtual_time
async def test_a_conversation_comes_back_to_the_provider_that_was_only_full() -> None:
    world = World([GOOD])
    mine = functools.partial(world.ask, conversation="mine")
    await mine()

    world.fleet.stats("a").in_flight = 8
    await mine()
    world.fleet.stats("a").in_flight = 0
    await mine()

    assert world.asked == "aba"


@in_virtual_time
async def test_a_conversation_moves_with_the_provider_that_failed_it() -> None:
    world = World([GOOD, error(529), GOOD], [GOOD])
    mine = functools.partial(world.ask, conversation="mine")
    await mine()
    await mine()
    await asyncio.sleep(300)  # its cooldown is over
    await mine()

    assert world.asked == "aabb"


@in_virtual_time
async def test_a_wait_for_a_place_at_a_provider_is_counted_as_queued() -> None:
    world = World([[Pause(0.5), *GOOD]], text=ONE_PLACE)

    await asyncio.gather(world.ask(), world.ask())

    queued = [round(event.queued_s, 2) for event in world.events if hasattr(event, "queued_s")]
    assert queued == [0.0, 0.5]


ONE_PLACE = """
providers: [{name: a, type: anthropic, base_url: "http://127.0.0.1:1001", auth_value: sk-secret-of-a, max_in_flight: 1}]
model_routes: {"m": [{provider: a, model: passthrough}]}
"""


@in_virtual_time
async def test_a_fault_of_our_own_is_logged_and_blames_no_provider(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Taker):
        async def write(self, data: bytes, *, last: bool = False) -> None:
            if not self.body:
                self.body = b"x"
                raise LookupError("what it says may be secret")
            await super().write(data, last=last)

    world, taker = World([GOOD]), Faulty()
    with caplog.at_level(logging.ERROR):
        await world.begin(taker)

    assert taker.end == "aborted"
    assert [(a.outcome, a.stage) for a in world.ended.attempts] == [("broken", "stream")]
    assert world.ended.outcome == "broken_stream"
    assert "secret" not in world.ended.reason
    assert world.fleet.stats("a").failures == 0
    assert "asking a failed in a way that it should not" in caplog.text


PASSED_ON = """
providers:
  - {name: a, type: anthropic, base_url: "http://127.0.0.1:1001", auth_value: passthrough}
  - {name: b, type: anthropic, base_url: "http://127.0.0.1:1002", auth_value: sk-secret-of-b}
model_routes: {"m": [{provider: a, priority: 1}, {provider: b, priority: 2}]}
"""


@in_virtual_time
async def test_that_another_provider_answers_for_a_refused_credential_is_logged_once_for_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World([error(402, "billing_error", "Your subscription has not been paid.")], [GOOD], text=PASSED_ON)
    for client in ("aa11", "aa11", "bb22"):
        taker = await world.ask(client=client)
        assert (taker.status, taker.headers[b"x-balancer-attempts"]) == (200, b"2")

    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.split(" (")[0] for line in lines] == [
        "a refused the credential that client aa11 sent",
        "a refused the credential that client bb22 sent",
    ]
    assert all(line.endswith(": b answers in its place") for line in lines)


@in_virtual_time
async def test_a_refused_credential_goes_back_as_it_came_and_is_not_logged_where_nobody_else_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = {"anthropic_ratelimit_unified_reset": "1800007200", "retry_after": "7200"}
    limited = error(429, "rate_limit_error", "Your limit resets at three.", **limits)
    world = World([limited, GOOD], text=PASSED_ON.replace(", {provider: b, priority: 2}", ""))

    taker = await world.ask(client="aa11")
    assert (taker.status, taker.headers[b"retry-after"]) == (429, b"7200")
    assert taker.headers[b"anthropic-ratelimit-unified-reset"] == b"1800007200"
    assert b"Your limit resets at three." in taker.body
    assert (await world.ask(client="bb22")).status == 200, "it is nobody else's matter"
    assert not caplog.records


@in_virtual_time
async def test_the_limits_of_a_provider_go_along_with_the_balancers_own_answer() -> None:
    limits = {"anthropic_ratelimit_unified_reset": "1800007200", "retry_after": "7200"}
    limited = error(429, "rate_limit_error", "Your limit resets at three.", **limits)
    world = World([limited], text=CONFIG_OF_ONE)
    for _ in range(3):
        taker = await world.ask()
        assert (taker.status, taker.headers[b"retry-after"]) == (429, b"60")
        assert taker.headers[b"anthropic-ratelimit-unified-reset"] == b"1800007200"
        assert b"Your limit resets at three." in taker.body
        assert b"asks to wait 2 h 0 min, until" in taker.body

    assert world.asked == "a", "what it named is kept"


CONFIG_OF_ONE = """
providers: [{name: a, type: anthropic, base_url: "http://127.0.0.1:1001", auth_value: sk-secret-of-a, request_timeout: 900}]
model_routes: {"m": [{provider: a}]}
"""


@in_virtual_time
async def test_the_only_provider_may_take_as_long_as_it_is_configured_to() -> None:
    world = World([[SSE, Pause(330.0), Data(ANSWER)]], text=CONFIG_OF_ONE)

    taker = await world.ask()

    assert (taker.status, taker.end, world.asked) == (200, "whole", "a")
    assert b"event: error" not in taker.body


@in_virtual_time
async def test_the_last_provider_left_may_take_its_time() -> None:
    slow: list[Step] = [SSE, Pause(100.0), Data(ANSWER)]
    world = World([slow], [slow], text=PASSED_ON)

    taker = await world.ask()

    assert (taker.status, taker.end, world.asked) == (200, "whole", "ab")
    assert world.ended.duration_s == pytest.approx(160.0)


# Whose the thinking is

THINKING = b'{"model":"m","messages":[{"role":"assistant","content":[{"type":"thinking","signature":"s"}]}]}'


def of(organization: bytes) -> list[Step]:
    """Return the script of a good answer that names its organization."""
    return [Head(200, (*SSE.headers, (b"anthropic-organization-id", organization))), *GOOD[1:]]


def left(world: World) -> list[tuple[str, str]]:
    return [(event.previous, event.provider) for event in world.events if isinstance(event, ReasoningLeft)]


@in_virtual_time
async def test_reasoning_that_is_left_behind_is_told_once() -> None:
    world = World([of(b"one"), error(529)], [of(b"two")])
    for _ in range(3):
        await world.ask(conversation="x", body=THINKING)

    assert world.asked == "aabb"
    assert left(world) == [("a", "b")]


@pytest.mark.parametrize("body", [THINKING, b'{"model":"m","messages":[]}'])
@in_virtual_time
async def test_within_one_organization_or_without_thinking_nothing_is_left_behind(body: bytes) -> None:
    world = World([of(b"one"), error(529)], [of(b"one" if body is THINKING else b"two")])
    for _ in range(2):
        await world.ask(conversation="x", body=body)

    assert world.asked == "aab"
    assert left(world) == []


BOUND = "The block is bound to a different conversation. See the header anthropic-beta."


@in_virtual_time
async def test_a_refusal_of_thinking_goes_back_at_once_where_the_other_provider_is_of_the_same_organization() -> None:
    refusal = error(400, "invalid_request_error", BOUND)
    world = World([error(529), refusal], [of(b"one")])
    world.fleet.stats("a").content_began(1.0, 0.0, ((b"anthropic-organization-id", b"one"),))
    await world.ask(conversation="x")  # who b is
    world.fleet.orders.wake("a", 1.0)

    taker = await world.ask(conversation="y", body=THINKING)

    assert world.asked == "aba"
    assert taker.status == 400
    assert json.loads(taker.body)["error"]["message"] == BOUND


@in_virtual_time
async def test_the_account_of_a_credential_that_is_passed_on_is_the_clients() -> None:
    text = CONFIG.format(settings="").replace("auth_value: sk-secret-of-a", "auth_value: passthrough")
    world = World([of(b"one")], text=text)
    await world.ask()

    assert world.fleet.stats("a").organization == ""


# Clients of OpenAI's API. With real sockets and the real SDK: `live/test_openai_sdk.py`

PASSED = """
providers:
  - {name: a, type: openai, base_url: "http://127.0.0.1:1001", auth_value: sk-secret-of-a, request_timeout: 60}
  - {name: b, type: openai, base_url: "http://127.0.0.1:1002", auth_value: sk-secret-of-b, request_timeout: 60}
  - {name: c, type: anthropic, base_url: "http://127.0.0.1:1003", auth_value: sk-secret-of-c}
model_routes:
  "m": [{provider: c, priority: 1}, {provider: a, priority: 2}, {provider: b, priority: 3}]
  "other": [{provider: c}]
settings: {log_file: null, failure_cooldown: 0, drills: true}
"""
RESPONSE = b'{"id": "resp_1", "object": "response", "output": []}'
WORD = b'data: {"type": "response.output_text.delta", "delta": "hi"}\n\n'


def openai_request(**more: Any) -> OpenAIRequest:
    fields = {"id": "r", "operation": Operation.RESPONSES, "query": b"", "headers": (), "body": b"{}", "model": "m"}
    return OpenAIRequest(**{**fields, "stream": False, "client": "me", **more})


@in_virtual_time
async def test_only_providers_that_speak_openais_api_are_asked_for_it() -> None:
    world = World([error(500)], [error(500)], text=PASSED)

    failed = await world.ask(openai_request())
    asked = world.asked
    unspoken = await world.ask(openai_request(model="other"))

    assert set(asked) == set("ab")
    assert b"skipped, because only type openai is asked here: c (type anthropic)" in failed.body
    assert (unspoken.status, world.asked) == (404, asked)
    assert b"the route 'other' has no provider of type openai" in unspoken.body


@in_virtual_time
async def test_who_could_answer_and_is_paused_is_named() -> None:
    world = World([WHOLE], text=PASSED)
    for name in ("a", "b"):
        world.fleet.orders.pause(name, 0.0)

    taker = await world.ask(openai_request())

    assert taker.status == 503
    assert b"a, b: paused, or disabled; skipped" in taker.body


@in_virtual_time
async def test_a_stored_response_is_gone_on_from_where_it_is_stored() -> None:
    world = World([error(500), [JSON, Data(RESPONSE)]], [[JSON, Data(RESPONSE)]], text=PASSED)
    await world.ask(openai_request())  # stored by b

    again = await world.ask(openai_request(previous="resp_1"))
    stranger = await world.ask(openai_request(previous="resp_1", client="you"))
    unknown = await world.ask(openai_request(previous="resp_2"))

    assert (again.status, stranger.status, unknown.status) == (200, 400, 200)
    assert b"there is no response 'resp_1'" in stranger.body
    assert world.asked == "abba"


@in_virtual_time
async def test_a_failure_that_a_provider_tells_itself_goes_to_the_client() -> None:
    failed = b'data: {"type": "response.failed", "response": {"error": {"message": "sk-secret-of-a is down"}}}\n\n'
    world = World([[SSE, Data(WORD), Data(failed)]], text=PASSED)

    taker = await world.ask(openai_request(stream=True))

    assert (taker.body, taker.end) == (WORD + failed.replace(b"sk-secret-of-a", b"[redacted]"), "whole")
    assert world.ended.outcome == "broken_stream"
    assert world.asked == "a"


@in_virtual_time
async def test_an_injected_fault_teaches_nothing() -> None:
    world = World([[JSON, Data(RESPONSE)]], [[JSON, Data(RESPONSE)]], text=PASSED)
    world.fleet.orders.inject("a", Drill("a", "404", requests_left=1), 0.0, 0.0)

    for _ in range(2):
        assert (await world.ask(openai_request())).status == 200

    assert world.asked[-1:] == "a"


@in_virtual_time
async def test_a_client_of_openais_api_is_kept_waiting_with_comments() -> None:
    done = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    answers: list[list[Step]] = [[SSE, Pause(25), Data(done)], [SSE, Pause(25)]]
    world = World(answers, [[SSE]], text=PASSED)

    def asked() -> OpenAIRequest:
        return openai_request(operation=Operation.CHAT_COMPLETIONS, stream=True)

    assert (await world.ask(asked())).body == b": ping\n\n" * 2 + done
    refused = (await world.ask(asked())).body
    assert refused.startswith(b": ping\n\n: ping\n\n")
    assert refused.replace(b": ping\n\n", b"").startswith(b'data: {"error":{"message":"no provider could answer')
