"""What refusals teach, how it is applied, and when it is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.dialects.openai import lessons

TOOL = {"type": "function", "function": {"name": "t", "strict": True}}
BODY: dict[str, Any] = {
    "model": "m",
    "max_tokens": 32000,
    "stream_options": {},
    "parallel_tool_calls": False,
    "temperature": 1,
    "top_p": 1,
    "reasoning_effort": "low",
    "tools": [TOOL],
    "tool_choice": "required",
    "messages": [{"role": "user", "content": "hi"}],
}
SHAPED = {
    **BODY,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
}
NEW = {("max_completion_tokens" if key == "max_tokens" else key): value for key, value in BODY.items()}
DEMAND = {"role": "system", "content": "You must call one of the tools now."}
APPLIED: dict[str, tuple[str, dict[str, Any]]] = {
    "rename": ("rename:max_tokens:max_completion_tokens", NEW),
    "drop": ("drop:temperature", {key: value for key, value in BODY.items() if key != "temperature"}),
    "limit": ("limit:100", {**BODY, "max_tokens": 100}),
    "a limit that is kept anyway": ("limit:99999", BODY),
    "auto": (
        "auto",
        {**BODY, "tool_choice": "auto", "messages": [DEMAND, *BODY["messages"]]},
    ),
    "strict": ("drop:strict", {**BODY, "tools": [{"type": "function", "function": {"name": "t"}}]}),
}


@pytest.mark.parametrize(("lesson", "expected"), APPLIED.values(), ids=APPLIED)
def test_apply(lesson: str, expected: dict[str, Any]) -> None:
    before = str(BODY)

    assert lessons.apply(BODY, [lesson]) == expected
    assert str(BODY) == before


def test_a_lesson_takes_the_place_of_its_opposite() -> None:
    known = lessons.Lessons()
    known.keep("m", "rename:max_tokens:max_completion_tokens", 1000.0)
    known.keep("m", "rename:max_completion_tokens:max_tokens", 1001.0)

    assert known.learnt("m", 1002.0) == ["rename:max_completion_tokens:max_tokens"]
    assert lessons.opposite("drop:stop") == ""


def test_what_is_too_old_is_not_shown_any_more_whoever_is_asked() -> None:
    known = lessons.Lessons()
    known.keep("m", "drop:stop", 1000.0)
    known.keep("other", "drop:top_k", 1000.0 + lessons.KEPT_S)

    assert known.by_model == {"other": {"drop:top_k": 1000.0 + lessons.KEPT_S}}
    assert known.described(1000.0 + 2 * lessons.KEPT_S) is None


def test_a_tool_that_must_not_be_called_stays_so() -> None:
    assert lessons.apply({**BODY, "tool_choice": "none"}, ["auto"])["tool_choice"] == "none"


NAMED = {"type": "function", "function": {"name": "t"}}
INSTRUCTED: dict[str, tuple[dict[str, Any], list[str], dict[str, Any]]] = {
    "behind a system prompt": (
        {"messages": [{"role": "developer", "content": "Be good."}], "tool_choice": NAMED},
        ["auto"],
        {
            "messages": [{"role": "developer", "content": "Be good.\n\nYou must call the tool t now."}],
            "tool_choice": "auto",
        },
    ),
    "for the Responses API": (
        {"input": [], "instructions": "Be good.", "tool_choice": {"type": "function", "name": "t"}},
        ["auto"],
        {"input": [], "instructions": "Be good.\n\nYou must call the tool t now.", "tool_choice": "auto"},
    ),
    "a schema": (
        {"messages": [{"role": "system", "content": "S"}], "response_format": SHAPED["response_format"]},
        ["json_object"],
        {
            "messages": [
                {
                    "role": "system",
                    "content": 'S\n\nAnswer with one JSON object that satisfies this schema:\n{"type":"object"}',
                }
            ],
            "response_format": {"type": "json_object"},
        },
    ),
}


@pytest.mark.parametrize(("body", "learnt", "expected"), INSTRUCTED.values(), ids=INSTRUCTED)
def test_what_a_server_does_not_know_goes_into_the_prompt(
    body: dict[str, Any], learnt: list[str], expected: dict[str, Any]
) -> None:
    assert lessons.apply(body, learnt) == expected


def test_a_lesson_holds_for_a_model_and_a_day() -> None:
    known = lessons.Lessons()
    known.keep("m", "drop:stop", 1000.0)

    assert known.described(1007.0) == {"lessons": {"m": ["drop:stop"]}, "lessons_age_s": {"m": {"drop:stop": 7}}}
    assert known.learnt("m", 1000.0 + lessons.KEPT_S - 1) == ["drop:stop"]
    assert known.learnt("other", 1000.0) == []
    assert known.learnt("m", 1000.0 + lessons.KEPT_S) == []
    assert known.described(1000.0 + lessons.KEPT_S) is None


def test_what_a_provider_does_not_recognise_any_more_is_left_out_once() -> None:
    signed = {"id": "a", "extra_content": {"google": {"thought_signature": "SIG"}}}
    given = {"reasoning_details": [{"data": "x"}], "reasoning_opaque": "x", "reasoning_content": "text"}
    chat = {"messages": [{"role": "assistant", "content": None, "tool_calls": [signed, {"id": "b"}], **given}]}
    items = {"input": [{"type": "reasoning", "encrypted_content": "E"}, {"type": "message", "role": "user"}]}

    assert lessons.holds_reasoning(chat)
    assert lessons.holds_reasoning(items)
    assert lessons.apply(chat, ["once:no_reasoning"]) == {
        "messages": [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "a", "extra_content": {"google": {"thought_signature": "skip_thought_signature_validator"}}},
                    {"id": "b"},
                ],
                "reasoning_content": "text",
            }
        ]
    }
    assert lessons.apply(items, ["once:no_reasoning"]) == {"input": [{"type": "message", "role": "user"}]}
    assert not lessons.holds_reasoning(lessons.apply(chat, ["once:no_reasoning"]))


CHANGES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "a value": ("drop:top_p=0.5", {"top_p": 0.5}, {}),
    "another value": ("drop:top_p=0.5", {"top_p": 0.4}, {"top_p": 0.4}),
    "an effort that is too high": ("drop:reasoning_effort=xhigh", {"reasoning_effort": "xhigh"}, {"reasoning_effort": "high"}),
    "the least effort": ("drop:reasoning_effort=minimal", {"reasoning_effort": "minimal"}, {}),
    "a part of a field": ("drop:reasoning.summary", {"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning": {"effort": "low"}}),
    "the last part": ("drop:reasoning.effort", {"reasoning": {"effort": "low"}}, {}),
    "the nearest effort": ("only:reasoning_effort=low,high", {"reasoning_effort": "medium"}, {"reasoning_effort": "low"}),
    "the least of them": ("only:reasoning_effort=low,high", {"reasoning_effort": "none"}, {"reasoning_effort": "low"}),
    "one of them": ("only:reasoning_effort=low,high", {"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
    "a number of one": ("only:temperature=1", {"temperature": 0.5}, {}),
    "that number": ("only:temperature=1", {"temperature": 1.0}, {"temperature": 1.0}),
    "a word to set": ("set:reasoning_effort=none", {}, {"reasoning_effort": "none"}),
    "a word for tools": ("set:reasoning_effort=none?tools", {"tools": [1]}, {"tools": [1], "reasoning_effort": "none"}),
    "no tools": ("set:reasoning_effort=none?tools", {}, {}),
    "a truth": ("set:enable_thinking=false", {}, {"enable_thinking": False}),
    "few tokens": ("set:stream=true?max_tokens>4096", {"max_tokens": 4096}, {"max_tokens": 4096}),
    "a number that is too large": ("most:temperature=0.99", {"temperature": 1}, {"temperature": 0.99}),
    "a number that is too small": ("least:max_output_tokens=32", {"max_output_tokens": 16}, {"max_output_tokens": 32}),
    "two that exclude each other": ("one_of:thinking,reasoning_effort", {"thinking": {}, "reasoning_effort": "low"}, {"thinking": {}}),
    "one of two": ("one_of:thinking,reasoning_effort", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
    "no thinking, once": ("once:no_effort", {"reasoning_effort": "low", "top_p": 1}, {"top_p": 1}),
}  # fmt: skip


@pytest.mark.parametrize(("lesson", "body", "expected"), CHANGES.values(), ids=CHANGES)
def test_what_becomes_of_values(lesson: str, body: dict[str, Any], expected: dict[str, Any]) -> None:
    before = str(body)

    assert lessons.apply(body, [lesson]) == expected
    assert str(body) == before


def test_what_is_refused_altogether_is_left_out_at_the_end() -> None:
    assert lessons.apply({"tools": [1]}, ["drop:reasoning_effort", "set:reasoning_effort=none?tools"]) == {"tools": [1]}


REPLACED = {
    "drop:top_p": ["only:top_p=1", "drop:top_p=0.5", "set:top_p=1"],
    "set:reasoning_effort=none?tools": ["drop:reasoning_effort", "only:reasoning_effort=low"],
    "config:after_tool=bridge": ["config:after_tool=merge"],
    "limit:4096": ["limit:8192"],
    "most:temperature=1": ["most:temperature=0.5"],
}
KEPT = {
    "drop:reasoning_effort=high": "drop:reasoning_effort=xhigh",
    "drop:top_p": "drop:top_k",
    "config:after_tool=merge": "config:tool_id=alnum9",
    "most:top_p=1": "least:top_p=0.1",
    "auto": "json_object",
}


@pytest.mark.parametrize(("new", "old"), [(new, old) for new, olds in REPLACED.items() for old in olds])
def test_a_new_lesson_takes_the_place_of_one_that_says_otherwise(new: str, old: str) -> None:
    known = lessons.Lessons()
    known.keep("m", old, 1000.0)
    known.keep("m", new, 1001.0)

    assert known.learnt("m", 1002.0) == [new]
    assert lessons.joined([old], new) == [new]


@pytest.mark.parametrize(("new", "old"), KEPT.items())
def test_lessons_about_different_things_are_kept_together(new: str, old: str) -> None:
    assert lessons.joined([old], new) == [old, new]


def test_what_is_kept_is_bounded() -> None:
    known = lessons.Lessons()
    for at in range(lessons.MODELS_MAX + 5):
        known.keep(f"m{at}", "drop:stop", 1000.0 + at)
    for at in range(lessons.LESSONS_MAX + 5):
        known.keep("many", f"drop:top_p={at}", 2000.0 + at)
    known.keep("m", "drop:" + "x" * 300, 3000.0)
    known.keep("m", "once:no_reasoning", 3000.0)

    assert len(known.by_model) == lessons.MODELS_MAX
    assert "m0" not in known.by_model
    assert len(known.by_model["many"]) == lessons.LESSONS_MAX
    assert "drop:top_p=0" not in known.by_model["many"]
    assert "m" not in known.by_model
