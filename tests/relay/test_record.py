"""What is reported of a request, beside its answer."""

from __future__ import annotations

import asyncio
from typing import get_args

import pytest
from stand_ins import Taker, candidate, request
from virtual_time import in_virtual_time
from worlds import DELTA, GOOD, OVERLOADED, SSE, START, STOP, TEXT, World, error

from balancer import events
from balancer.dialects.simulated.faults import Drill
from balancer.model import Abandoned, Broken, Completed, Fault, Outcome, Refused, Stage, Unfit, Usage
from balancer.policy.verdicts import Mark, Verdict
from balancer.relay.record import RequestRecord
from balancer.script import Cause, Data, Fail, Pause


def record(**more: object) -> RequestRecord:
    return RequestRecord(request(), 10.0, 25, **more)  # type: ignore[arg-type]


@in_virtual_time
async def test_a_request_that_failed_over_is_reported_with_both_attempts() -> None:
    world = World([error(529, "overloaded_error")], [GOOD])

    await world.ask()

    ended = world.ended
    assert [(a.provider, a.model, a.outcome, a.stage, a.status, a.reason) for a in ended.attempts] == [
        ("a", "m", "refused", "wait", 529, "529 overloaded_error"),
        ("b", "other", "completed", "stream", None, ""),
    ]
    assert (ended.provider, ended.provider_model, ended.status, ended.outcome) == ("b", "other", 200, "ok")
    assert (ended.usage.input_tokens, ended.usage.output_tokens, ended.usage.cache_read_tokens) == (7, 5, 3)
    assert ended.first_content_s is not None
    assert [type(event).__name__ for event in world.events] == ["RequestBegan", "CooldownStarted", "RequestEnded"]


@in_virtual_time
async def test_the_arrival_is_reported_with_the_size_of_the_body_and_who_asks() -> None:
    world = World([GOOD])

    await world.ask(body=b"{}" * 50, client="c1", user_agent="claude-cli/9")

    began = world.events[0]
    assert isinstance(began, events.RequestBegan)
    assert (began.id, began.operation, began.model, began.stream, began.body_bytes) == (
        "req_test", "messages", "m", True, 100,
    )  # fmt: skip
    assert (began.client, began.user_agent, began.wall) == ("c1", "claude-cli/9", 1.8e9)


@in_virtual_time
async def test_times_are_counted_from_the_arrival() -> None:
    world = World([[Pause(0.25), SSE, Data(START + TEXT + DELTA), Pause(0.5), Data(STOP)]])
    await asyncio.sleep(5)

    await world.ask()

    ended = world.ended
    assert ended.first_content_s == pytest.approx(0.25)
    assert ended.duration_s == pytest.approx(0.75)
    assert [attempt.duration_s for attempt in ended.attempts] == [pytest.approx(ended.duration_s)]


def _stage(cause: Cause) -> str:
    before = {"dns", "refused", "unreachable", "connect_timeout", "tls", "proxy", "local", "not_allowed"}
    return "connect" if cause in before else "wait"


@pytest.mark.parametrize("cause", list(Cause))
@in_virtual_time
async def test_an_attempt_that_sent_nothing_got_no_further_than_connecting(cause: Cause) -> None:
    """What may be asked again, and what is blamed, hangs on the stage."""
    world = World([[Fail(cause)]], [GOOD])

    await world.ask()

    assert [(a.outcome, a.stage) for a in world.ended.attempts] == [("broken", _stage(cause)), ("completed", "stream")]


@pytest.mark.parametrize("cause", list(Cause))
@in_virtual_time
async def test_after_content_every_failure_is_one_of_the_stream(cause: Cause) -> None:
    world = World([[SSE, Data(START + TEXT + DELTA), Fail(cause)]], [GOOD])

    await world.ask()

    assert [(a.outcome, a.stage) for a in world.ended.attempts] == [("broken", "stream")]


@in_virtual_time
async def test_usage_is_that_of_the_attempt_that_answered() -> None:
    talkative = START.replace(b'"input_tokens":7', b'"input_tokens":7000')
    assert talkative != START
    world = World([[SSE, Data(talkative), Data(OVERLOADED)]], [GOOD])

    await world.ask()

    assert world.ended.usage.input_tokens == 7
    assert world.fleet.stats("a").usage["input"] == 0
    assert world.fleet.stats("b").usage["input"] == 7


@in_virtual_time
async def test_what_a_broken_stream_used_is_counted_too() -> None:
    world = World([[SSE, Data(START + TEXT + DELTA), Fail(Cause.RESET)]])

    await world.ask()

    assert world.ended.usage.input_tokens == 7
    assert world.fleet.stats("a").usage["input"] == 7


@in_virtual_time
async def test_an_injected_fault_is_reported_as_one_and_the_next_attempt_is_not() -> None:
    world = World([GOOD], [GOOD])
    world.fleet.orders.inject("a", Drill("a", "529", requests_left=1), 0.0, 0.0)

    await world.ask()

    assert [(a.provider, a.drill) for a in world.ended.attempts] == [("a", True), ("b", False)]


@in_virtual_time
async def test_a_provider_that_fails_by_itself_has_no_fault_injected() -> None:
    world = World([error(529)], [GOOD])
    world.fleet.orders.inject("b", Drill("b", "529", requests_left=1), 0.0, 0.0)

    await world.ask()

    assert [(a.provider, a.drill) for a in world.ended.attempts][:2] == [("a", False), ("b", True)]


@in_virtual_time
async def test_a_client_that_leaves_during_an_injected_fault_is_reported_with_it() -> None:
    world, taker = World([GOOD]), Taker()
    world.fleet.orders.inject("a", Drill("a", "silent"), 0.0, 0.0)
    task = world.begin(taker)
    await asyncio.sleep(0.5)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert [(a.outcome, a.drill) for a in world.ended.attempts] == [("abandoned", True)]


WORDS: dict[type[object], tuple[Outcome, str, str, int | None]] = {
    Completed: (Completed(), "completed", "stream", None),
    Refused: (Refused(Fault(429, "rate_limit_error"), Stage.WAIT), "refused", "wait", 429),
    Broken: (Broken(Stage.CONNECT, Cause.REFUSED), "broken", "connect", None),
    Unfit: (Unfit("no PDFs here"), "unfit", "connect", None),
    Abandoned: (Abandoned(Stage.STREAM), "abandoned", "stream", None),
}


@pytest.mark.parametrize("kind", get_args(Outcome))
def test_every_outcome_has_its_word_stage_and_status(kind: type[object]) -> None:
    outcome, word, stage, status = WORDS[kind]
    about = record()

    about.attempted(candidate("a", "big"), outcome, Verdict(Mark.NONE, reason="why"), 1.5)

    assert about.attempts == [events.Attempt("a", "big", word, stage, 1.5, status, "why")]


def test_the_stage_changes_with_the_first_content_and_never_back() -> None:
    assert record().stage is Stage.WAIT
    assert record(candidate=candidate()).stage is Stage.STREAM


def test_the_first_note_of_the_end_stands() -> None:
    about = record()
    assert (about.outcome, about.reason) == ("ok", "")

    about.close("failed", "nobody answered")
    about.close("abandoned", "the client left")

    assert (about.outcome, about.reason) == ("failed", "nobody answered")


def test_the_end_is_reported_with_all_that_is_known() -> None:
    about = record(
        dedup="leader",
        status=200,
        provider="a",
        provider_model="big",
        usage=Usage(1, 2),
        first_content_s=0.5,
        queued_s=0.25,
        pinned=True,
        notes=("repaired",),
    )
    about.close("broken_stream", "it broke")

    assert about.ended(99.0, 12.0) == events.RequestEnded(
        "req_test", 99.0, "messages", "m", True, 200, "broken_stream", 2.0, provider="a", provider_model="big",
        usage=Usage(1, 2), first_content_s=0.5, queued_s=0.25, dedup="leader", pinned=True, reason="it broke",
        notes=("repaired",),
    )  # fmt: skip


def test_who_answered_is_in_the_head_where_it_is_known() -> None:
    about = record()
    assert about.who_answered(0) == []
    assert about.who_answered(2) == [(b"x-balancer-attempts", b"2")]
    about.candidate = candidate("näme")
    assert about.who_answered(1) == [(b"x-balancer-attempts", b"1"), (b"x-balancer-provider", b"n?me")]


def test_a_conversation_is_on_a_detour_while_its_own_provider_was_only_full() -> None:
    own, other = candidate("own"), candidate("other")
    assert not record(first=own, pinned=True, candidate=own).detour
    assert record(first=own, pinned=True, candidate=other).detour
    failed = record(first=own, pinned=True, candidate=other)
    failed.attempted(own, Broken(Stage.CONNECT, Cause.REFUSED), Verdict(Mark.BAD), 0.1)
    assert not failed.detour
    assert not record(pinned=True).detour
