"""A conversation through a Zed-type upstream: ids, rotation, modes, budgets, as the service sees them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest
from fakezed import PAIR, FakeZed, answer, line
from live.harness import Running, Upstream, balancer, good
from live.test_claude_code import ask as ask_claude
from live.test_sdk import client
from live.test_zed_provider import ASK, config, get, silent_about_secrets

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

SESSION = {"x-claude-code-session-id": "5f3e7c9a-0000-4000-8000-000000000001"}
TOOL: dict[str, Any] = {"name": "Read", "input_schema": {"type": "object"}}


def turns(count: int, size: int = 1000) -> list[dict[str, Any]]:
    """Return a history that ends with a question."""
    found: list[dict[str, Any]] = []
    for n in range(count):
        found += [{"role": "user", "content": f"question {n} " + "x" * size}, {"role": "assistant", "content": f"a{n}"}]
    return [*found, {"role": "user", "content": "and now?"}]


async def say(running: Running, messages: list[dict[str, Any]], **more: Any) -> Any:
    """Ask, and return the answer with its headers."""
    headers = {**SESSION, **more.pop("headers", {})}
    asked = {**ASK, "messages": messages, **more}
    async with client(running.url) as sdk:
        return await sdk.messages.with_raw_response.create(**asked, extra_headers=headers)


async def zed_block(running: Running) -> dict[str, Any]:
    shown = await get(running, "/providers")
    assert "canary" not in json.dumps(shown)
    return next(entry["zed"] for entry in shown["providers"] if entry["type"] == "zed")


async def test_workers_agree_on_ids_and_prompts_last_through_tool_rounds() -> None:
    fake = FakeZed()
    asked = [{"role": "user", "content": "fix it"}]
    called = {"type": "tool_use", "id": "t1", "name": "Read", "input": {}}
    round_two: list[Any] = [
        *asked,
        {"role": "assistant", "content": [called]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1"}]},
    ]
    typed: list[Any] = [
        *round_two[:-1],
        {"role": "user", "content": [*round_two[-1]["content"], {"type": "text", "text": "no"}]},
    ]
    async with Upstream(fake) as up, balancer(config(up)) as one, balancer(config(up)) as two:
        async with client(one.url) as sdk:
            await sdk.messages.create(**{**ASK, "messages": asked})
        async with client(two.url) as sdk:
            await sdk.messages.create(**{**ASK, "messages": asked})
        for messages in (asked, round_two, round_two, typed):
            await say(one, messages)

    unnamed, again, first, tools, retried, new = fake.completions
    assert unnamed["thread_id"] == again["thread_id"] != first["thread_id"]
    assert unnamed["prompt_id"] == again["prompt_id"]
    assert len({body["thread_id"] for body in (first, tools, retried, new)}) == 1
    assert first["prompt_id"] == tools["prompt_id"] == retried["prompt_id"] != new["prompt_id"]
    assert [body["intent"] for body in (first, tools, retried, new)] == [
        "user_prompt",
        "tool_results",
        "tool_results",
        "user_prompt",
    ]


async def test_titles_and_compactions_go_without_ids() -> None:
    fake = FakeZed()
    fake.models = {"models": [{"provider": "anthropic", "id": "claude-haiku-4"}]}
    compact = [{"role": "user", "content": "Your task is to create a detailed summary of the conversation so far"}]
    async with Upstream(fake) as up, balancer(config(up, zed_config={"wire_profile": "legacy"})) as running:
        async with client(running.url) as sdk:
            title = [{"role": "user", "content": "title?"}]
            await sdk.messages.create(model="claude-haiku-4", max_tokens=32, messages=title)  # type: ignore[arg-type]
        await say(running, compact)

    assert [body["intent"] for body in fake.completions] == ["thread_summarization", "thread_context_summarization"]
    assert not any({"thread_id", "prompt_id", "mode"} & body.keys() for body in fake.completions)


@pytest.mark.parametrize("method", ["ai", "truncate"])
async def test_a_rotation_is_told_of_and_later_requests_begin_with_the_same_bytes(method: str) -> None:
    fake = FakeZed()
    more = {"max_context_tokens": 3000, "context_management": {"summarization_method": method}}
    history = turns(12)
    longer = [*history, {"role": "assistant", "content": "so"}, {"role": "user", "content": "go on"}]
    async with Upstream(fake) as up, balancer(config(up, zed_config=more)) as running:
        short = await say(running, history[:1])
        rotated = await say(running, history)
        after = await say(running, longer)
        shown = await zed_block(running)
        log = await running.ended(3)

    assert rotated.headers["x-balancer-zed-rotation"].startswith(f"{method};generation=1;dropped=")
    assert "x-balancer-zed-rotation" not in {**short.headers, **after.headers}
    first, second, third = (body["provider_request"]["messages"] for body in fake.completions)
    assert len(first) == 1
    assert len(second) < len(history)
    assert third[: len(second)] == second
    assert fake.completions[0]["thread_id"] != fake.completions[1]["thread_id"] == fake.completions[2]["thread_id"]
    assert (fake.summary in second[0]["content"][0]["text"]) is (method == "ai")
    assert len(fake.summaries) == (1 if method == "ai" else 0)
    (told,) = [note for note in log[1]["notes"] if "rotated" in note]
    assert method in told
    assert "have reached 80% of 3000" in told
    assert not [note for note in log[2]["notes"] if "rotated" in note]
    assert shown["rotations"] == 1
    (last,) = shown["last_rotations"]
    assert (last["method"], last["messages"], last["thread_id"]) == (method, 25, fake.completions[1]["thread_id"])
    assert last["dropped"] == 25 - len(second)
    assert last["tokens_before"] > 2400 > last["tokens_after"]
    assert "question" not in json.dumps(shown) + running.output.decode()


async def test_what_the_service_counted_decides_and_not_only_an_estimate() -> None:
    fake = FakeZed()
    fake.lines = answer(usage={"input_tokens": 90_000, "cache_read_input_tokens": 20_000})
    async with Upstream(fake) as up, balancer(config(up)) as running:
        before = await say(running, turns(3))
        after = await say(running, [*turns(3), {"role": "assistant", "content": "so"}, *turns(0)])

    assert "x-balancer-zed-rotation" not in before.headers
    assert after.headers["x-balancer-zed-rotation"].startswith("ai;")


async def test_a_second_rotation_folds_the_first_summary_in() -> None:
    fake = FakeZed()
    more = {"max_context_tokens": 3000}
    async with Upstream(fake) as up, balancer(config(up, zed_config=more)) as running:
        await say(running, turns(12))
        await say(running, turns(30))

    first, second = (body["provider_request"]["messages"][0]["content"][0]["text"] for body in fake.summaries)
    assert "question 0" in first
    assert "question 0" not in second
    assert fake.summary in second


async def test_two_requests_of_a_thread_share_a_summary() -> None:
    fake = FakeZed()
    async with Upstream(fake) as up, balancer(config(up, zed_config={"max_context_tokens": 3000})) as running:
        await asyncio.gather(*(say(running, turns(12), max_tokens=100 + n) for n in range(4)))
        shown = await zed_block(running)

    assert len({json.dumps(body["provider_request"]["messages"]) for body in fake.completions}) == 1
    assert len({body["thread_id"] for body in fake.completions}) == 1
    assert len(fake.summaries) == 1
    assert shown["rotations"] == 1


async def test_a_summary_that_fails_is_a_cut_that_says_why() -> None:
    fake = FakeZed()
    fake.summary = " "
    async with Upstream(fake) as up, balancer(config(up, zed_config={"max_context_tokens": 3000})) as running:
        rotated = await say(running, turns(12))
        (ended,) = await running.ended()

    assert rotated.headers["x-balancer-zed-rotation"].startswith("truncate;")
    assert "no summary was to be had" in str(ended["notes"])
    assert "was left out" in fake.completions[0]["provider_request"]["messages"][0]["content"][0]["text"]


async def test_a_rotation_is_told_of_although_its_own_request_failed() -> None:
    fake = FakeZed()
    fake.refusal = (400, b'{"code":"x","message":"failed to parse Anthropic request"}')
    async with (
        Upstream(fake) as up,
        Upstream() as backup,
        balancer(config(up, backup, zed_config={"max_context_tokens": 3000}, sticky=False)) as running,
    ):
        elsewhere = await say(running, turns(12))
        fake.refusal = None
        here = await say(running, turns(12), max_tokens=101)
        _, ended = await running.ended(2)

    assert "x-balancer-zed-rotation" not in elsewhere.headers
    assert len(backup.asked[0].json["messages"]) == 25, "nothing was cut for the other provider"
    assert here.headers["x-balancer-zed-rotation"].startswith("ai;")
    assert "rotated" in str(ended["notes"])


async def test_a_prompt_that_the_service_finds_too_long_is_shortened_and_sent_once_more() -> None:
    fake = FakeZed()
    fake.refusal = (413, b'{"code":"request_too_large","message":"too large"}')
    async with Upstream(fake) as up, Upstream() as backup, balancer(config(up, backup)) as running:
        answered = await say(running, turns(12))
        shown = await zed_block(running)
        states = await get(running, "/providers")

    long, shorter = (body["provider_request"]["messages"] for body in fake.completions)
    assert len(shorter) < len(long)
    assert answered.headers["x-balancer-provider"] == "b"
    assert shown["rotations"] == 1
    assert states["providers"][0]["state"] == "healthy"


@pytest.mark.parametrize("lone", [True, False])
async def test_what_can_not_be_shortened_is_too_long_and_goes_elsewhere(lone: bool) -> None:
    fake = FakeZed()
    more = {"max_context_tokens": 2000, "context_management": {"burn_context_tokens": 3000}}
    one_turn = [{"role": "user", "content": "y" * 20_000}]
    async with (
        Upstream(fake) as up,
        Upstream() as backup,
        balancer(config(up, None if lone else backup, zed_config=more)) as running,
    ):
        if lone:
            with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 2000 maximum"):
                await say(running, one_turn)
        else:
            assert (await say(running, one_turn)).headers["x-balancer-provider"] == "b"
    assert not fake.completions


async def test_what_can_not_be_shortened_may_use_the_larger_window() -> None:
    fake = FakeZed()
    more = {"max_context_tokens": 2000, "wire_profile": "legacy"}
    async with Upstream(fake) as up, balancer(config(up, zed_config=more)) as running:
        await say(running, [{"role": "user", "content": "y" * 20_000}])
        shown = await zed_block(running)

    assert fake.completions[0]["mode"] == "max"
    assert shown["modes"] == {"normal": 0, "burn": 1}
    assert shown["mode_reasons"] == {"context_overflow": 1}


@pytest.mark.parametrize(
    ("target", "header", "zed_config", "mode"),
    [
        ({}, None, {}, "normal"),
        ({}, "burn", {}, "max"),
        ({"mode": "normal"}, "burn", {}, "normal"),
        ({"mode": "burn"}, None, {}, "max"),
        ({"mode": "auto"}, None, {"auto_burn_mode_triggers": ["agent_panel_usage"]}, "max"),
        ({}, None, {"default_mode": "burn"}, "max"),
        ({}, "burn", {"mode_header": False}, "normal"),
    ],
)
async def test_who_decides_on_the_mode(target: Any, header: str | None, zed_config: Any, mode: str) -> None:
    fake = FakeZed()
    more = {"wire_profile": "legacy", **zed_config}
    async with Upstream(fake) as up, balancer(config(up, zed_config=more, target=target)) as running:
        await say(running, turns(0), headers={"x-balancer-zed-mode": header} if header else {})
        (ended,) = await running.ended()

    assert fake.completions[0]["mode"] == mode
    assert any(note.startswith("zed: mode") for note in ended["notes"])


async def test_within_a_prompt_burn_is_not_taken_back() -> None:
    fake = FakeZed()
    async with Upstream(fake) as up, balancer(config(up, zed_config={"wire_profile": "legacy"})) as running:
        for n, mode in enumerate(("normal", "burn", "", "normal")):
            await say(running, turns(0), max_tokens=100 + n, headers={"x-balancer-zed-mode": mode})
        await say(running, [*turns(0), {"role": "assistant", "content": "so"}, {"role": "user", "content": "next"}])

    assert [body["mode"] for body in fake.completions] == ["normal", "max", "max", "max", "normal"]


async def test_after_the_limit_of_tool_calls_the_next_request_is_a_prompt_of_its_own() -> None:
    fake = FakeZed()
    good_lines = fake.lines
    fake.lines = line({"status": "tool_use_limit_reached"}) + good_lines
    asked = [{"role": "user", "content": "fix it"}]
    called = {"type": "tool_use", "id": "t1", "name": "Read", "input": {}}
    more: list[Any] = [
        *asked,
        {"role": "assistant", "content": [called]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "r"}]},
    ]
    even_more: list[Any] = [
        *more,
        {"role": "assistant", "content": [{**called, "id": "t2"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t2", "content": "r"}]},
    ]
    async with Upstream(fake) as up, balancer(config(up)) as running:
        await say(running, asked)
        fake.lines = good_lines
        await say(running, more)
        await say(running, even_more)

    first, second, third = fake.completions
    assert first["thread_id"] == second["thread_id"] == third["thread_id"]
    assert first["prompt_id"] != second["prompt_id"] == third["prompt_id"]
    assert [body["intent"] for body in fake.completions] == ["user_prompt", "user_prompt", "tool_results"]


async def test_a_spent_budget_is_a_402_or_another_provider() -> None:
    async with Upstream(FakeZed()) as up, Upstream() as backup:
        spent = {"daily_usd": 0.000001}
        rejecting = config(up, backup, zed_config={"cost_control": {**spent, "on_exceed": "reject"}})
        async with balancer(rejecting) as running:
            with pytest.raises(anthropic.APIStatusError) as refused:
                await say(running, turns(0))
            states = await get(running, "/providers")
        assert refused.value.status_code == 402
        assert refused.value.body["error"]["type"] == "billing_error"  # type: ignore[index]
        assert states["providers"][0]["state"] == "healthy"
        async with balancer(config(up, backup, zed_config={"cost_control": spent})) as running:
            assert (await say(running, turns(0))).headers["x-balancer-provider"] == "b"


async def test_spending_is_shown_against_its_limits() -> None:
    fake = FakeZed()
    fake.lines = answer(usage={"input_tokens": 100_000})
    fake.answer_headers = {"x_zed_plan": "zed_free"}
    control = {"daily_usd": 5, "on_exceed": "force_normal"}
    async with Upstream(fake) as up, balancer(config(up, zed_config={"cost_control": control})) as running:
        await say(running, turns(0))
        await running.ended()
        shown = await zed_block(running)

    usd = (100_000 * 3.3 + 5 * 16.5) / 1e6
    assert shown["spend_usd"] == pytest.approx(usd, abs=1e-6)
    assert shown["budgets"]["daily"]["spent_usd"] == pytest.approx(usd, abs=1e-6)
    assert shown["budgets"]["daily"]["limit_usd"] == 5
    assert shown["budgets"]["set_aside_usd"] == 0
    assert (shown["plan"], shown["threads"], shown["prompts"]) == ("zed_free", 1, 1)


async def test_a_legacy_plan_pays_a_prompt_once_and_burn_by_the_request() -> None:
    fake = FakeZed()
    async with Upstream(fake) as up:
        async with balancer(config(up, zed_config={"wire_profile": "legacy"})) as running:
            for limit in (100, 101, 102):
                await say(running, turns(0), max_tokens=limit)
            assert (await zed_block(running))["spend_usd"] == pytest.approx(0.04)
        async with balancer(config(up, zed_config={"wire_profile": "legacy", "default_mode": "burn"})) as running:
            for limit in (100, 101):
                await say(running, turns(0), max_tokens=limit)
            assert (await zed_block(running))["spend_usd"] == pytest.approx(0.1)


async def test_an_attempt_without_a_beginning_costs_nothing() -> None:
    fake = FakeZed()
    fake.lines = line({"status": {"failed": {"code": "upstream_http_529", "message": "busy"}}})
    async with Upstream(fake) as up, Upstream(good) as backup, balancer(config(up, backup)) as running:
        await say(running, turns(0))
        shown = await zed_block(running)

    assert shown["spend_usd"] == 0
    assert shown["prompts"] == 0


async def test_claude_code_through_zed(claude_code: Any) -> None:
    fake = FakeZed()
    async with Upstream(fake) as up, balancer(config(up)) as running:
        result = await ask_claude(claude_code, running)
        silent_about_secrets(running)

    assert "Hello from" in result["result"]
    assert result["is_error"] is False
    main = [body for body in fake.completions if body["provider_request"].get("tools")]
    assert main
    assert {body["intent"] for body in main} == {"user_prompt"}
    assert len({body["thread_id"] for body in main}) == 1
    assert PAIR not in str(fake.completions)
