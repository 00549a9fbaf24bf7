"""Ids are derived: the same in every process, for the same client, session, task and prompt."""

from __future__ import annotations

from typing import Any

from stand_ins import request

from balancer.dialects.zed import threads


def text(said: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": said}]}


def call(name: str = "t") -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "tool_use", "id": name, "name": "Read", "input": {}}]}


def result(name: str = "t") -> dict[str, Any]:
    return {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": name, "is_error": False, "content": "r"}],
    }


def test_a_session_is_named_by_header_then_metadata_then_its_beginning() -> None:
    body: dict[str, Any] = {"messages": [text("hi")], "metadata": {"user_id": '{"session_id":"s2"}'}}
    legacy = "user_1_account__session_123e4567-e89b-12d3-a456-426614174000"

    assert threads.session_of(request(headers=((b"x-claude-code-session-id", b"s1"),)), body) == "s1"
    assert threads.session_of(request(), body) == "s2"
    assert threads.session_of(request(), {**body, "metadata": {"user_id": legacy}}) == legacy[-36:]


def test_an_unnamed_session_is_known_by_how_it_began_and_by_who_asks() -> None:
    body: dict[str, Any] = {"messages": [text("hi")], "system": [{"type": "text", "text": "main"}]}
    begun = threads.session_of(request(), body)

    assert begun == threads.session_of(request(client="this process's word"), body), "it must agree between processes"
    assert begun == threads.session_of(request(), {**body, "messages": [text("hi"), text("more", "assistant")]})
    assert begun != threads.session_of(request(), {**body, "messages": [text("ho")]})
    assert begun != threads.session_of(request(), {**body, "system": [{"type": "text", "text": "sub"}]})
    assert begun != threads.session_of(request(headers=((b"x-api-key", b"other"),)), body)


def test_the_billing_header_is_no_part_of_a_task() -> None:
    def body(attempt_id: str) -> dict[str, Any]:
        header = {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2; cch={attempt_id};"}
        return {"messages": [text("hi")], "system": [header, {"type": "text", "text": "main"}]}

    assert threads.task_of(request(), body("a")) == threads.task_of(request(), body("b"))
    assert threads.session_of(request(), body("a")) == threads.session_of(request(), body("b"))


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
    title: dict[str, Any] = {"messages": [text("title?")], "max_tokens": 30}

    assert threads.intent({**tools, "messages": [text("hi")]}, small=False) == "user_prompt"
    assert threads.intent({**tools, "messages": [text("hi"), call(), result()]}, small=False) == "tool_results"
    assert threads.intent(title, small=True) == "thread_summarization"
    assert threads.intent(title, small=False) == "user_prompt"
    assert threads.intent({**title, "max_tokens": 5000}, small=True) == "user_prompt"
    compact = text("Your task is to create a detailed summary of the conversation so far")
    assert threads.intent({**tools, "messages": [compact]}, small=False) == "thread_context_summarization"
    both = {"role": "user", "content": [*result()["content"], {"type": "text", "text": "stop, do this"}]}
    assert threads.intent({**tools, "messages": [text("hi"), call(), both]}, small=False) == "user_prompt"
