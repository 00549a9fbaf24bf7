"""What is decided about a request before it is sent: its mode, its budget, how long it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from stand_ins import provider, request

from balancer.dialect import Ask, FlowFailed, Incapable, TypedState
from balancer.dialects.zed import rotation, task
from balancer.dialects.zed.memory import memory_of
from balancer.dialects.zed.options import Options
from balancer.headers import Headers
from balancer.model import Candidate, Operation

WALL = 1.8e9
MODEL = "claude-sonnet-4"


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


TURNS = [said(f"{role} {n} " + "x" * 400, role) for n in range(20) for role in ("user", "assistant")] + [
    said("and now?")
]


def begun(
    messages: list[dict[str, Any]] | None = None,
    *,
    state: TypedState | None = None,
    mode: str | None = None,
    headers: Headers = (),
    entry: dict[str, Any] | None = None,
    body: dict[str, Any] | None = None,
    **config: Any,
) -> task.Task:
    whole = {"model": MODEL, "messages": messages or [said("hi")], **(body or {})}
    candidate = Candidate(provider("z", type="zed", options=Options.model_validate(config)), MODEL, mode=mode)
    client = request(json.dumps(whole).encode(), headers)
    ask = Ask(client, candidate, Operation.MESSAGES, state or TypedState(), WALL, "n")
    return task.begun(ask, [], {"id": MODEL, **(entry or {})}, whole)


def chosen(*args: Any, **more: Any) -> tuple[str, str]:
    one = begun(*args, **more)
    task.choose(one)
    return one.mode, one.why


BURN = ((b"x-balancer-zed-mode", b"burn"),)
MODES: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "nothing says": ({}, ("normal", "default_mode")),
    "the default": ({"default_mode": "burn"}, ("burn", "default_mode")),
    "the route": ({"mode": "burn"}, ("burn", "route")),
    "a header": ({"headers": BURN}, ("burn", "header")),
    "a header that is not listened to": ({"headers": BURN, "mode_header": False}, ("normal", "default_mode")),
    "a header in capitals": ({"headers": ((b"x-balancer-zed-mode", b"BURN"),)}, ("burn", "header")),
    "the service's own word for it": ({"headers": ((b"x-balancer-zed-mode", b" Max "),)}, ("burn", "header")),
    "an empty header": ({"headers": ((b"x-balancer-zed-mode", b""),)}, ("normal", "default_mode")),
    "the route against a header": ({"mode": "normal", "headers": BURN}, ("normal", "route")),
    "a model without it": (
        {"mode": "burn", "entry": {"supports_max_mode": False}}, ("normal", "the model has no burn mode"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("how", "expected"), MODES.values(), ids=MODES)
def test_the_mode_and_why(how: dict[str, Any], expected: tuple[str, str]) -> None:
    assert chosen(**how) == expected


@pytest.mark.parametrize("value", [b"fast", b"\xff", b"burn mode"])
def test_a_mode_that_there_is_not_is_refused_with_the_name_of_the_header(value: bytes) -> None:
    with pytest.raises(FlowFailed) as failed:
        chosen(headers=((b"x-balancer-zed-mode", value),))

    assert failed.value.fault.callers_own
    assert failed.value.fault.message == "x-balancer-zed-mode: must be normal or burn"


def test_burn_lasts_for_the_prompt_and_not_for_the_next_one() -> None:
    state = TypedState()
    asked = [said("fix it")]
    rounds = [
        *asked,
        said("so", "assistant"),
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
    ]

    assert chosen(asked, state=state, headers=BURN) == ("burn", "header")
    assert chosen(rounds, state=state) == ("burn", "sticky")
    assert chosen(rounds, state=state, mode="normal") == ("normal", "route")
    assert chosen([*rounds, said("done", "assistant"), said("next")], state=state) == ("normal", "default_mode")


WINDOWS: dict[str, tuple[dict[str, Any], dict[str, Any], str, int]] = {
    "as configured": ({}, {}, "normal", 120_000),
    "burn, as configured": ({}, {}, "burn", 200_000),
    "a smaller model": ({"max_token_count": 50_000}, {}, "normal", 50_000),
    "a larger model": ({"max_token_count": 500_000}, {}, "normal", 120_000),
    "beside its answer": ({"max_token_count": 50_000}, {"max_tokens": 8000}, "normal", 42_000),
    "beside too large an answer": ({"max_token_count": 50_000}, {"max_tokens": 49_000}, "normal", 25_000),
    "an answer that is no number": ({"max_token_count": 50_000}, {"max_tokens": "x"}, "normal", 50_000),
    "the larger window of a model": ({"max_token_count": 50_000, "max_token_count_in_max_mode": 90_000}, {}, "burn", 90_000),
    "a model without a larger window": ({"max_token_count": 50_000}, {}, "burn", 50_000),
    "nonsense": ({"max_token_count": 0}, {}, "normal", 120_000),
    "more nonsense": ({"max_token_count": "x"}, {}, "normal", 120_000),
}  # fmt: skip


@pytest.mark.parametrize(("entry", "body", "mode", "tokens"), WINDOWS.values(), ids=WINDOWS)
def test_how_much_may_be_sent(entry: dict[str, Any], body: dict[str, Any], mode: str, tokens: int) -> None:
    assert begun(entry=entry, body=body).window(mode) == tokens


def spent(usd: float) -> TypedState:
    """Return the state of a provider on which so much was spent today."""
    one = begun()
    memory_of(one.ask).ledger.spend(usd, "another", WALL)
    return one.ask.provider_state


def test_a_budget_that_is_not_exceeded_changes_nothing() -> None:
    assert chosen(state=spent(1.0), cost_control={"daily_usd": 2}) == ("normal", "default_mode")


@pytest.mark.parametrize("limit", ["daily_usd", "monthly_usd"])
def test_a_spent_budget_sends_the_request_to_another_provider(limit: str) -> None:
    with pytest.raises(Incapable, match=f"z: {limit}: .*raise zed_config.cost_control or add a provider"):
        chosen(state=spent(2.0), cost_control={limit: 2})


def test_or_refuses_it() -> None:
    with pytest.raises(FlowFailed) as failed:
        chosen(state=spent(2.0), cost_control={"daily_usd": 2, "on_exceed": "reject"})

    fault = failed.value.fault
    assert (fault.status, fault.kind, fault.callers_own) == (402, "billing_error", True)


def test_or_only_takes_burn_mode_away() -> None:
    control = {"daily_usd": 2, "on_exceed": "force_normal"}

    assert chosen(state=spent(2.0), cost_control=control, headers=BURN) == ("normal", "budget")
    assert chosen(state=spent(2.0), cost_control=control) == ("normal", "default_mode")


def test_burn_that_nobody_asked_for_is_given_up_before_a_budget_is_exceeded() -> None:
    """On the legacy wire it costs more; whoever asked for it goes to another provider with it."""
    config: dict[str, Any] = {
        "wire_profile": "legacy", "auto_burn_mode_triggers": ["agent_panel_usage"], "cost_control": {"daily_usd": 0.045},
    }  # fmt: skip
    tools = {"tools": [{"name": "Read"}]}

    assert chosen(body=tools, **config) == ("normal", "budget")
    with pytest.raises(Incapable):
        chosen(headers=BURN, **config)


COSTS: dict[str, tuple[dict[str, Any], float]] = {
    "by tokens": ({"body": {"max_tokens": 10}}, 10 * 16.5 / 1e6),
    "with a long answer": ({"body": {"max_tokens": 99_999}}, task.ANSWER_TOKENS * 16.5 / 1e6),
    "with an answer without limit": ({}, task.ANSWER_TOKENS * 16.5 / 1e6),
}


@pytest.mark.parametrize(("how", "answer_usd"), COSTS.values(), ids=COSTS)
def test_what_a_request_is_expected_to_cost(how: dict[str, Any], answer_usd: float) -> None:
    one = begun(**how)

    assert task.expected_usd(one) == pytest.approx(one.tokens * 3.3 / 1e6 + answer_usd)


def test_what_it_is_expected_to_cost_on_the_legacy_wire() -> None:
    normal = begun(wire_profile="legacy")
    burn = begun(wire_profile="legacy")
    burn.mode = "burn"
    paid = begun(wire_profile="legacy")
    memory_of(paid.ask).ledger.new_blocks(paid.prompt, 1)

    assert [task.expected_usd(one) for one in (normal, burn, paid)] == [0.04, 0.05, 0.0]


def shortened(one: task.Task, **more: Any) -> bool:
    """Run what shortens a request, where no summary is asked for."""
    flow = task.shorten(one, **more)
    try:
        next(flow)
    except StopIteration as done:
        return bool(done.value)
    raise AssertionError("a summary was asked for")


TRUNCATE = {"summarization_method": "truncate"}


def test_a_history_below_the_threshold_is_left_as_it_is() -> None:
    one = begun(TURNS, max_context_tokens=100_000, context_management=TRUNCATE)

    assert not shortened(one)
    assert (one.cut, one.thread.generation) == (None, 0)


def test_a_history_that_reached_it_is_cut_and_remembered() -> None:
    one = begun(TURNS, max_context_tokens=3000, context_management=TRUNCATE)
    before = one.tokens

    assert shortened(one)
    assert one.cut is not None
    assert one.cut.summary == rotation.TRUNCATED.format(messages=one.cut.at)
    assert one.tokens < before
    assert (one.thread.generation, memory_of(one.ask).rotations) == (1, 1)
    assert one.thread.untold is not None
    assert not shortened(one), "once"


def test_a_history_is_cut_at_any_size_where_the_service_says_that_it_is_too_long() -> None:
    one = begun(TURNS, max_context_tokens=8000, context_management=TRUNCATE)

    assert not shortened(one)
    assert shortened(one, at_any_size=True)
    assert "the service said" in str(one.thread.untold)


def test_without_rotation_nothing_is_cut() -> None:
    one = begun(TURNS, max_context_tokens=3000, thread_management={"auto_rotate": False}, context_management=TRUNCATE)

    assert not shortened(one, at_any_size=True)


def test_with_no_method_the_thread_gets_a_new_id_and_nothing_else() -> None:
    one = begun(TURNS, max_context_tokens=3000, context_management={"summarization_method": "none"})

    assert not shortened(one)
    assert (one.cut, one.thread.generation, one.thread.renewed_tokens) == (None, 1, one.tokens)
    assert not shortened(one)
    assert one.thread.generation == 1, "once for each time that it has grown by so much"


def test_a_request_that_fits_is_sent() -> None:
    one = begun()
    task.make_fit(one)

    assert one.mode == "normal"


def test_one_that_only_fits_the_larger_window_is_sent_in_that() -> None:
    one = begun(TURNS, max_context_tokens=1000)
    task.make_fit(one)

    assert (one.mode, one.why) == ("burn", "context_overflow")
    assert one.thread.prompt(one.prompt).burn


@pytest.mark.parametrize("why", ["route", "header", "budget", "the model has no burn mode"])
def test_unless_somebody_said_that_it_must_not(why: str) -> None:
    one = begun(TURNS, max_context_tokens=1000)
    one.why = why

    with pytest.raises(FlowFailed) as failed:
        task.make_fit(one)
    fault = failed.value.fault
    assert (fault.status, fault.elsewhere) == (400, True)
    assert fault.message == f"prompt is too long: {one.tokens} tokens > 1000 maximum"


def test_one_that_fits_neither_goes_elsewhere() -> None:
    one = begun(TURNS, max_context_tokens=1000, context_management={"burn_context_tokens": 1000})

    with pytest.raises(FlowFailed, match="prompt is too long"):
        task.make_fit(one)


def test_nor_does_the_budget_for_the_larger_window_have_to_be_there() -> None:
    one = begun(TURNS, max_context_tokens=1000, cost_control={"daily_usd": 0})

    with pytest.raises(FlowFailed, match="prompt is too long"):
        task.make_fit(one)
    assert (one.mode, one.why) == ("normal", "budget")


def one_prompt(rounds: int, size: int) -> list[dict[str, Any]]:
    """One prompt of an agent with so many tool calls, each with a result of so many characters."""
    messages = [said("the task")]
    for at in range(rounds):
        use = {"type": "tool_use", "id": f"t{at}", "name": "Read", "input": {}}
        result = {"type": "tool_result", "tool_use_id": f"t{at}", "is_error": False, "content": "x" * size}
        messages += [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    return messages


SMALL: dict[str, Any] = {
    "max_context_tokens": 4000,
    "context_management": {"summarization_method": "truncate", "burn_context_tokens": 5000},
}


def test_the_rounds_of_one_long_prompt_are_cut_and_its_task_is_kept() -> None:
    one = begun(one_prompt(60, 400), **SMALL)
    task.choose(one)
    assert shortened(one)

    assert one.tokens < one.window("normal")
    assert "the task" in json.dumps(one.sent[0])
    calls = {b["id"] for m in one.sent for b in m["content"] if b["type"] == "tool_use"}
    assert calls == {b["tool_use_id"] for m in one.sent for b in m["content"] if b["type"] == "tool_result"}
    assert 0 < len(calls) < 60


def test_the_next_round_is_sent_behind_the_same_cut() -> None:
    messages, state = one_prompt(60, 400), TypedState()
    first = begun(messages[:-4], state=state, **SMALL)
    task.choose(first)
    assert shortened(first)
    then = begun(messages, state=state, **SMALL)

    assert then.cut == first.cut
    assert then.sent[: len(first.sent)] == first.sent


@pytest.mark.parametrize("content", ["x" * 60_000, [{"type": "text", "text": "x" * 60_000}]], ids=["text", "parts"])
def test_a_result_too_large_for_the_window_loses_its_middle_and_that_is_told(content: Any) -> None:
    messages = one_prompt(1, 1)
    messages[-1]["content"][0]["content"] = content
    one = begun(messages, **SMALL)
    task.choose(one)
    assert shortened(one)
    task.make_fit(one)

    assert one.tokens < one.window("normal")
    assert "were left out" in json.dumps(one.sent[-1])
    assert one.full[-1]["content"][0]["content"] == content, "another provider gets the whole"
    assert one.thread.untold is not None
    assert one.thread.untold[0] == "results;generation=1;dropped=0"


def test_a_result_is_shortened_no_further_than_to_be_of_use() -> None:
    one = begun([said("y" * 80_000), *one_prompt(1, 3000)[1:]], **SMALL)
    task.choose(one)
    shortened(one)

    with pytest.raises(FlowFailed, match="prompt is too long"):
        task.make_fit(one)
    assert one.thread.result_chars in (None, 2000)
