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
