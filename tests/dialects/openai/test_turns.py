"""Turns: every tool call is answered at once, and nothing else stands between."""

from __future__ import annotations

import gc
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from conversion import assistant, chat, converted, messages_request, result, text, turns, use, user

from balancer.dialect import Incapable
from balancer.dialects.openai import request
from balancer.dialects.openai.profiles import PROFILES
from balancer.dialects.openai.turns import INTERRUPTED
from balancer.wire.signatures import signed

PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}


def roles(messages: list[dict[str, Any]]) -> list[str]:
    return [message["role"] for message in messages]


def test_text_is_a_plain_string() -> None:
    assert turns(user(text("a"), text("b")), assistant(text("c"), text("d")), "e") == [
        {"role": "user", "content": "a\nb"},
        {"role": "assistant", "content": "c\nd"},
        {"role": "user", "content": "e"},
    ]


def test_results_come_before_text_that_the_client_put_first() -> None:
    seen = turns("go", assistant(use("t1")), user(text("and then"), result("t1")))

    assert roles(seen) == ["user", "assistant", "tool", "user"]
    assert seen[1]["content"] is None
    assert seen[3]["content"] == "and then"


def test_parallel_calls_are_answered_in_the_order_given() -> None:
    seen = turns("go", assistant(use("t1"), use("t2")), user(result("t2", "two"), result("t1", "one")))

    assert [(m["tool_call_id"], m["content"]) for m in seen if m["role"] == "tool"] == [("t2", "two"), ("t1", "one")]


def test_a_call_without_a_result_was_interrupted() -> None:
    seen = turns("go", assistant(use("t1"), use("t2")), user(result("t1"), text("never mind")))

    assert [m["content"] for m in seen if m["role"] == "tool"] == ["done", INTERRUPTED]


def test_calls_at_the_end_of_history_are_answered_too() -> None:
    assert roles(turns("go", assistant(use("t1")))) == ["user", "assistant", "tool"]


def test_an_orphan_result_becomes_text() -> None:
    assert turns(user(result("t0", "lost"), text("go")))[0]["content"] == "[tool result] lost\ngo"


def test_a_duplicate_result_is_dropped() -> None:
    asked = messages_request("go", assistant(use("t1")), user(result("t1"), result("t1", "again")))

    assert roles(chat(asked)["messages"]) == ["user", "assistant", "tool"]
    assert converted(asked).notes == ("dropped duplicate tool_result",)


RESULTS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "nothing": (None, {}, "(no output)"),
    "an empty list": ([], {}, "(no output)"),
    "texts": ([text("a"), text("b")], {}, "a\nb"),
    "an error": ("boom", {"is_error": True}, "Error: boom"),
    "a loaded tool": ([{"type": "tool_reference", "tool_name": "X"}], {}, "[tool loaded: X]"),
    "something unknown": ([{"type": "new", "a": 1}], {}, '{"type":"new","a":1}'),
}


@pytest.mark.parametrize(("content", "more", "expected"), RESULTS.values(), ids=RESULTS)
def test_a_result_is_text(content: Any, more: dict[str, Any], expected: str) -> None:
    seen = turns("go", assistant(use("t1")), user(result("t1", content, **more)))

    assert seen[-1] == {"role": "tool", "tool_call_id": "t1", "content": expected}


def test_images_of_results_follow_behind_all_results() -> None:
    seen = turns("go", assistant(use("t1"), use("t2")), user(result("t1", [PNG]), result("t2"), text("look")))

    assert roles(seen) == ["user", "assistant", "tool", "tool", "user"]
    assert [part["type"] for part in seen[-1]["content"]] == ["image_url", "text"]
    assert "aGk=" not in seen[2]["content"]


def test_consecutive_turns_of_one_role_are_one() -> None:
    seen = turns("a", "b", assistant(text("c")), assistant(use("t1")), user(result("t1")), user(text("d")))

    assert roles(seen) == ["user", "assistant", "tool", "user"]


def test_an_empty_user_turn_is_a_dot_and_an_empty_answer_is_gone() -> None:
    assert turns(user(text("  "))) == [{"role": "user", "content": "."}]
    assert turns("a", assistant(text("")), "b") == [{"role": "user", "content": "a\nb"}]


def test_a_prefill_stays_the_last_message() -> None:
    assert turns("a", assistant(text("{")))[-1] == {"role": "assistant", "content": "{"}


def test_thinking_never_becomes_text() -> None:
    thinking = {"type": "thinking", "thinking": "secret", "signature": "s"}

    assert turns("a", assistant(thinking, text("b")), "c")[1] == {"role": "assistant", "content": "b"}


def test_deepseek_gets_its_reasoning_back_with_tool_calls_even_if_empty() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    seen = converted(
        messages_request(
            "a", assistant(thinking, use("t1")), user(result("t1")), assistant(use("t2")), user(result("t2"))
        ),
        "deepseek",
    ).body["messages"]

    assert [m.get("reasoning_content") for m in seen if m["role"] == "assistant"] == ["hm", "."]


@pytest.mark.parametrize(("provider", "given_back"), [("up", [{"type": "x"}]), ("other", None)])
def test_openrouter_gets_back_only_its_own_reasoning(provider: str, given_back: Any) -> None:
    signature = signed({"provider": provider, "details": [{"type": "x"}]})
    thinking = {"type": "thinking", "thinking": "hm", "signature": signature}
    seen = converted(messages_request("a", assistant(thinking, text("b")), "c"), "openrouter").body["messages"]

    assert seen[1].get("reasoning_details") == given_back


def test_a_system_message_in_the_middle_is_a_reminder() -> None:
    seen = turns("a", {"role": "system", "content": "be brief"}, assistant(text("b")), "c")

    assert seen[0]["content"] == "a\n<system-reminder>\nbe brief\n</system-reminder>"


def test_a_system_message_stays_where_the_server_knows_it_but_behind_results() -> None:
    seen = turns(
        "a", assistant(use("t1")), {"role": "system", "content": "be brief"}, user(result("t1"), text("b")),
        profile="openai",
    )  # fmt: skip

    assert roles(seen) == ["user", "assistant", "tool", "user", "system"]


def test_a_system_message_that_was_to_be_cleared_is_gone() -> None:
    system = {"role": "system", "content": "once", "clear_at": "next_user_message"}

    assert turns("a", system, "b") == [{"role": "user", "content": "a\nb"}]


SYSTEM: dict[str, tuple[Any, str]] = {
    "text": (text("be brief"), "be brief"),
    "what changes with every request": (text("x-anthropic-billing-header: cch=1;\nbe brief"), "be brief"),
    "a tool that comes": (
        {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "X"}},
        "[tool added: X]",
    ),
    "a tool that goes": (
        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "X"}},
        "[tool removed: X]",
    ),
}


@pytest.mark.parametrize(("block", "words"), SYSTEM.values(), ids=SYSTEM)
def test_what_a_system_message_in_the_middle_may_hold(block: Any, words: str) -> None:
    message = {"role": "system", "content": [block]}

    assert turns("a", message)[0]["content"] == f"a\n<system-reminder>\n{words}\n</system-reminder>"
    assert turns("a", message, profile="openai")[1] == {"role": "system", "content": words}


def test_a_system_message_that_says_nothing_is_gone_and_counted() -> None:
    odd = {"role": "system", "content": [{"type": "image"}, text(" ")]}

    assert converted(messages_request("a", odd)).notes == ("dropped image",)
    assert turns("a", odd) == [{"role": "user", "content": "a"}]


def test_turns_between_which_an_answer_was_left_out_are_one() -> None:
    assert turns("a", assistant({"type": "new"}), user(PNG)) == [
        {
            "role": "user",
            "content": [text("a"), {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}],
        }
    ]


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(Incapable, match=r"messages.0.role"):
        converted(messages_request({"role": "tool", "content": "x"}))


def test_server_tools_in_history_are_told_as_text() -> None:
    found = {"type": "web_search_result", "title": "T", "url": "https://e.x", "encrypted_content": "zzz"}
    seen = turns(
        "a",
        assistant(
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}},
            {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [found]},
            text("so"),
        ),
        "b",
    )

    assert seen[1] == {"role": "assistant", "content": "[web_search: q]\nT\nhttps://e.x\nso"}


def test_an_old_turn_converts_the_same_whatever_follows() -> None:
    history = ["go", assistant(use("t1", a=1)), user(result("t1"), text("more")), assistant(text("ok"))]
    short, long = turns(*history, "x"), turns(*history, "x", assistant(text("y")), "z")

    assert long[: len(short)] == short


# How some servers want it written


ROUND = (
    "hi",
    assistant(use("toolu_1"), use("toolu_2")),
    user(
        result("toolu_1", "one"), result("toolu_2", "two"), text("<system-reminder>r</system-reminder>"), text("go on")
    ),
)


def test_words_behind_a_result_are_merged_into_it() -> None:
    seen = turns(*ROUND, after_tool="merge")

    assert [message["role"] for message in seen] == ["user", "assistant", "tool", "tool"]
    assert seen[-1]["content"] == "two\n\n<system-reminder>r</system-reminder>\n\ngo on"


def test_or_they_stand_behind_a_bridge() -> None:
    seen = turns(*ROUND, after_tool="bridge")

    assert [message["role"] for message in seen[2:]] == ["tool", "tool", "assistant", "user"]
    assert seen[-1]["content"] == "<system-reminder>r</system-reminder>\ngo on"


def test_an_image_behind_a_result_can_not_be_merged() -> None:
    seen = turns("hi", assistant(use("toolu_1")), user(result("toolu_1", [PNG])), after_tool="merge")

    assert [message["role"] for message in seen[2:]] == ["tool", "assistant", "user"]


def test_words_in_the_place_of_a_result_are_not_lost() -> None:
    seen = turns("hi", assistant(use("toolu_1")), "stop that", after_tool="merge")

    assert [message["role"] for message in seen] == ["user", "assistant", "tool"]
    assert seen[-1]["content"].endswith("stop that")


def test_ids_of_nine_characters_are_the_same_on_call_and_result() -> None:
    seen = turns(*ROUND, tool_id="alnum9", after_tool="merge")
    made = [call["id"] for call in seen[1]["tool_calls"]]

    assert made == [message["tool_call_id"] for message in seen[2:]]
    assert len(set(made)) == 2
    assert all(len(one) == 9 and one.isalnum() for one in made)
    kept = turns("hi", assistant(use("aB3dEf7h9")), user(result("aB3dEf7h9")), tool_id="alnum9")
    assert kept[2]["tool_call_id"] == "aB3dEf7h9"


def test_a_conversation_does_not_end_with_the_assistant() -> None:
    assert turns("hi", assistant(text("{")), prefill=False)[-1] == {"role": "user", "content": "Go on."}
    assert turns("hi", assistant(text("{")))[-1] == {"role": "assistant", "content": "{"}


def test_thinking_goes_back_with_every_turn_where_it_is_wanted() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    seen = turns("a", assistant(thinking, text("b")), "c", assistant(text("d")), "e", reasoning_back="always")

    assert [m.get("reasoning_content") for m in seen if m["role"] == "assistant"] == ["hm", "."]


def test_a_turn_that_only_calls_has_an_empty_text_where_none_is_refused() -> None:
    assert turns("hi", assistant(use("t1")), user(result("t1")), call_text=True)[1]["content"] == ""


def test_no_role_for_the_system_prompt() -> None:
    asked = messages_request("hi", {"role": "system", "content": "brief"}, system="Be good.")

    seen = converted(asked, "openai", system_role="user").body["messages"]

    assert seen == [{"role": "user", "content": "Be good.\n\nhi\n<system-reminder>\nbrief\n</system-reminder>"}]


def test_marks_for_the_cache_stand_on_results_and_answers() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    asked = messages_request(
        "hi", assistant({**text("so"), **mark}, use("t1")), user({**result("t1"), **mark}, {**text("go"), **mark})
    )

    seen = converted(asked, cache_marks="all", after_tool="merge").body["messages"]

    assert seen[1]["content"] == [{**text("so"), **mark}]
    assert seen[2]["content"] == [{**text("done"), **mark}, {**text("go"), **mark}]
    assert "cache_control" not in str(converted(asked).body)


GROWING: dict[str, Any] = {
    "one role": lambda n: [{"role": "user", "content": "a"}] * n,
    "both roles": lambda n: ["a", assistant(text("b"))] * (n // 2),
    "turns that say nothing": lambda n: ["a", assistant({"type": "odd"})] * (n // 2),
    "words behind a result": lambda n: ["a", assistant(use("t")), user(result("t")), *[assistant({"type": "odd"}), "b"] * (n // 2)],
    "system messages": lambda n: ["a", *[{"role": "system", "content": "s"}] * n],
    "blocks": lambda n: [user(*[text("a")] * n)],
    "calls": lambda n: ["a", assistant(*(use(f"t{at}") for at in range(n)))],
    "rounds": lambda n: ["a", *(one for at in range(n // 2) for one in (assistant(use(f"t{at}")), user(result(f"t{at}"))))],
    "nested results": lambda n: ["a", assistant({"type": "web_search_tool_result", "content": [{"title": "t", "content": ["x"] * 50}] * (n // 50)})],
}  # fmt: skip


@pytest.mark.parametrize("over", [{}, {"after_tool": "merge", "mid_system": True}], ids=["plain", "merged"])
@pytest.mark.parametrize("shape", GROWING.values(), ids=GROWING)
def test_converting_takes_time_in_proportion_to_the_conversation(shape: Any, over: dict[str, Any]) -> None:
    """Doubled twice; twice as long each time, with room for a busy machine. Squared would be sixteen times."""
    can = replace(PROFILES["compat"], **over)

    def took_s(count: int) -> float:
        body = json.dumps(messages_request(*shape(count))).encode()
        taken = []
        gc.disable()  # its share grows with all the objects of the test run
        for _ in range(3):
            began = time.process_time()
            request.chat(body, "m", can, "p")
            taken.append(time.process_time() - began)
        gc.enable()
        return min(taken)

    assert took_s(8_000) < 10 * took_s(2_000)
