"""Asking for a summary: by which model, in how many portions, and what becomes of one that can't be had."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakezed import answer
from stand_ins import provider, request

from balancer.dialect import Ask, TypedState
from balancer.dialects.zed import summary
from balancer.dialects.zed.account import Account, account_of
from balancer.dialects.zed.options import Options
from balancer.model import Candidate, Operation, Reply, Usage, WireRequest

OPUS, HAIKU = {"id": "claude-opus-4"}, {"id": "claude-haiku-4-5", "max_token_count": 4000}


def asking(**config: Any) -> Ask:
    one = provider("z", type="zed", secret="gateway-key", options=Options.model_validate(config))
    return Ask(request(), Candidate(one, "m"), Operation.MESSAGES, TypedState(), 1.8e9, "n")


def said(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def run(
    ask: Ask, *replies: Reply, text: str = "hi", model: str = "claude-opus-4"
) -> tuple[list[WireRequest], summary.Summary]:
    flow = summary.summary_of(ask, [OPUS, HAIKU], [said(text)], model, "key")
    sent: list[WireRequest] = []
    waiting = iter(replies)
    wire = next(flow)
    while True:
        sent.append(wire)
        try:
            wire = flow.send(next(waiting))
        except StopIteration as done:
            return sent, done.value


def body(wire: WireRequest) -> dict[str, Any]:
    return json.loads(bytes(wire.body[0]))  # type: ignore[no-any-return]


def well(text: str, **usage: int) -> Reply:
    return Reply(200, (), answer(said=text, usage=usage))


def test_a_summary_is_asked_for_aside_with_time_of_its_own_and_once_for_all_that_need_it() -> None:
    (wire,), made = run(asking(), well(" They spoke. "))

    assert made == summary.Summary("They spoke.", Usage(7, 5, 0, 0), "claude-opus-4")
    assert (wire.side_request, wire.within_s, wire.single_flight) == (True, summary.WITHIN_S, "summary key 0")
    sent = body(wire)
    assert (sent["intent"], sent["model"]) == ("thread_context_summarization", "claude-opus-4")
    assert "thread_id" not in sent
    assert sent["provider_request"]["max_tokens"] == 2000
    (message,) = sent["provider_request"]["messages"]
    assert message["content"][0]["text"] == summary.PROMPT + "user text: hi"


MODELS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "the request's": ({}, None, "claude-opus-4"),
    "the service's fast one": ({}, "claude-haiku-4-5", "claude-haiku-4-5"),
    "a fast one that is none": ({}, 5, "claude-opus-4"),
    "the configured one": ({"summary_model": "claude-haiku-4-5"}, "claude-opus-4", "claude-haiku-4-5"),
}


@pytest.mark.parametrize(("config", "fast", "model"), MODELS.values(), ids=MODELS)
def test_who_summarises(config: dict[str, Any], fast: Any, model: str) -> None:
    ask = asking(context_management=config)
    account: Account = account_of(ask)
    account.models = {} if fast is None else {"default_fast_model": fast}

    (wire,), made = run(ask, well("x"))

    assert body(wire)["model"] == made.model == model


def room_bytes(ask: Ask) -> int:
    """Return what of a history the small model takes at once."""
    context = ask.options(Options).context_management
    return max(1000, 4000 - context.summary_max_tokens - summary.OVERHEAD_TOKENS) * summary.BYTES_PER_TOKEN


def test_a_history_that_is_too_long_for_the_model_is_summarised_in_portions() -> None:
    ask = asking()
    text = "x" * (2 * room_bytes(ask))
    sent, made = run(ask, well("one"), well("two"), well("three"), text=text, model="claude-haiku-4-5")

    assert made == summary.Summary("three", Usage(21, 15, 0, 0), "claude-haiku-4-5")
    assert [wire.single_flight for wire in sent] == ["summary key 0", "summary key 1", "summary key 2"]
    assert {wire.within_s for wire in sent} == {summary.WITHIN_S / 3}
    texts = [body(wire)["provider_request"]["messages"][0]["content"][0]["text"] for wire in sent]
    assert texts[0].startswith(summary.PROMPT)
    assert texts[1].startswith(summary.GO_ON.format(summary="one"))
    assert texts[2].startswith(summary.GO_ON.format(summary="two"))
    assert "".join(texts).count("x" * 100) >= len(text) // 100 - 3


def test_in_so_many_portions_and_no_more_and_what_is_left_out_is_told() -> None:
    ask = asking()
    text = "x" * (9 * room_bytes(ask))
    sent, made = run(ask, *[well("sum")] * summary.PORTIONS_MAX, text=text, model="claude-haiku-4-5")

    assert len(sent) == summary.PORTIONS_MAX
    assert made.text.startswith("sum\n[")
    assert "characters in the middle were too much" in made.text


FAILURES: dict[str, tuple[Reply, str]] = {
    "refused": (Reply(429, (), b"slow down"), "status 429"),
    "not to be had": (Reply(0, (), b"head_timeout"), "head_timeout"),
    "no answer": (Reply(200, (), b"<html>"), "status 200"),
    "an empty one": (well(" "), "status 200"),
}


@pytest.mark.parametrize(("reply", "why"), FAILURES.values(), ids=FAILURES)
def test_a_summary_that_can_not_be_had_is_none_with_its_reason(reply: Reply, why: str) -> None:
    _, made = run(asking(), reply)

    assert (made.text, made.why) == ("", why)


def test_what_was_used_before_it_failed_is_told() -> None:
    ask = asking()
    text = "x" * (2 * room_bytes(ask))
    _, made = run(ask, well("one", input_tokens=9), Reply(500, ()), text=text, model="claude-haiku-4-5")

    assert (made.text, made.usage.input_tokens, made.why) == ("", 9, "status 500")
