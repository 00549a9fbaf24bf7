"""Ids are derived; a history is cut at a user's words, always at the same place."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from stand_ins import request

from balancer.convert import zed_threads as threads


def text(said: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": said}]}


def call(name: str = "t") -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "tool_use", "id": name, "name": "Read", "input": {}}]}


def result(name: str = "t") -> dict[str, Any]:
    return {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": name, "is_error": False, "content": "r"}],
    }


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for turn in range(draw(st.integers(1, 8))):
        messages.append(text(f"turn {turn} " + "x" * draw(st.integers(0, 400))))
        for step in range(draw(st.integers(0, 3))):
            messages += [call(f"{turn}.{step}"), result(f"{turn}.{step}")]
        messages.append(text("done", "assistant"))
    return [*messages, text("now")]


@given(histories(), st.integers(1, 5), st.integers(0, 500))
def test_a_cut_never_parts_a_call_from_its_result(messages: list[dict[str, Any]], keep: int, room: int) -> None:
    cut = threads.cut_for(messages, keep, room)

    assert cut == threads.cut_for(messages, keep, room)
    kept = threads.shortened(messages, cut, "summary") if cut else messages
    calls = {b["id"] for m in kept for b in m["content"] if b["type"] == "tool_use"}
    results = {b["tool_use_id"] for m in kept for b in m["content"] if b["type"] == "tool_result"}
    assert calls == results
    assert kept[0]["role"] == "user"
    assert kept[-1]["content"][-1] == messages[-1]["content"][-1]


@given(histories(), st.integers(1, 5), st.integers(0, 500))
def test_repeated_rotation_comes_to_an_end(messages: list[dict[str, Any]], keep: int, room: int) -> None:
    cuts = [0]
    while cut := threads.cut_for(messages, keep, room, cuts[-1]):
        assert cut > cuts[-1]
        cuts.append(cut)

    assert len(cuts) <= len(messages)


def test_a_wandering_cache_marker_is_the_same_history() -> None:
    plain = [text("a"), text("b", "assistant")]
    marked = [
        {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
        plain[1],
    ]

    assert threads.prefix_of(plain, 2) == threads.prefix_of(marked, 2)
    assert threads.prefix_of(plain, 1) != threads.prefix_of(plain, 2)


def test_a_session_is_named_by_header_then_metadata_then_its_beginning() -> None:
    body: dict[str, Any] = {"messages": [text("hi")], "metadata": {"user_id": '{"session_id":"s2"}'}}
    legacy = "user_1_account__session_123e4567-e89b-12d3-a456-426614174000"

    assert threads.session_of(request(headers=((b"x-claude-code-session-id", b"s1"),)), body) == "s1"
    assert threads.session_of(request(), body) == "s2"
    assert threads.session_of(request(), {**body, "metadata": {"user_id": legacy}}) == legacy[-36:]
    begun = threads.session_of(request(), {"messages": [text("hi")]})
    assert begun == threads.session_of(request(), {"messages": [text("hi"), text("more", "assistant")]})
    assert begun != threads.session_of(request(client="other"), {"messages": [text("hi")]})


def test_subagents_are_tasks_of_their_own() -> None:
    body = {"messages": [text("hi<system-reminder>today</system-reminder>")], "system": [{"text": "main"}]}

    assert threads.task_of(request(headers=((b"x-claude-code-agent-id", b"a"),)), body) == "a"
    assert threads.task_of(request(), body) == threads.task_of(request(), {**body, "messages": [text("hi")]})
    assert threads.task_of(request(), body) != threads.task_of(request(), {**body, "system": [{"text": "sub"}]})


def test_a_prompt_lasts_through_tool_rounds() -> None:
    thread = threads.thread_id("key", 0)
    asked = [text("fix it")]
    first = threads.prompt_id(thread, asked)

    assert threads.prompt_id(thread, [*asked, call(), result()]) == first
    assert threads.prompt_id(thread, [text("fix that")]) != first
    assert threads.prompt_id(thread, asked, burst=1) != first
    assert threads.thread_id("key", 1) != thread == threads.thread_id("key", 0)


def test_intents() -> None:
    tools: dict[str, Any] = {"tools": [{"name": "Read"}], "max_tokens": 1000}

    assert threads.intent({**tools, "messages": [text("hi")]}) == "user_prompt"
    assert threads.intent({**tools, "messages": [text("hi"), call(), result()]}) == "tool_results"
    assert threads.intent({"messages": [text("title?")], "max_tokens": 30}) == "thread_summarization"
    compact = text("Your task is to create a detailed summary of the conversation so far")
    assert threads.intent({**tools, "messages": [compact]}) == "thread_context_summarization"


def test_idle_threads_are_new_and_the_longest_unused_are_forgotten() -> None:
    known: OrderedDict[str, threads.Thread] = OrderedDict()
    threads.remembered(known, "a", 0.0, 10, 2)

    assert threads.remembered(known, "a", 9.0, 10, 2).generation == 0
    assert threads.remembered(known, "a", 30.0, 10, 2).generation == 1
    assert threads.remembered(known, "a", 1e6, 0, 2).generation == 1
    threads.remembered(known, "b", 0.0, 10, 2)
    threads.remembered(known, "c", 0.0, 10, 2)
    assert list(known) == ["b", "c"]


def test_a_transcript_is_bounded() -> None:
    assert threads.transcript([text("a"), call(), result()], 1000).startswith("user text: a\nassistant tool_use")
    assert len(threads.transcript([text("x" * 1000)], 100)) < 120
