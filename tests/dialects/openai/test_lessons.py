"""What refusals teach, how it is applied, and when it is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.dialects.openai import lessons
from balancer.wire.complaints import body_complaint

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
OLD_NAME = b"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."

CASES: dict[str, tuple[dict[str, Any], bytes, str | None]] = {
    "the limit's new name": (BODY, b'{"error":{"message":"%b","param":"max_tokens"}}' % OLD_NAME, "rename:max_tokens:max_completion_tokens"),
    "the limit's old name": (NEW, b'{"error":{"message":"Unrecognized request argument supplied: max_completion_tokens"}}', "rename:max_completion_tokens:max_tokens"),
    "stream options": (BODY, b'{"error":"unknown field stream_options"}', "drop:stream_options"),
    "pydantic's words": (BODY, b'{"detail":[{"loc":["body","parallel_tool_calls"],"msg":"Extra inputs are not permitted"}]}', "drop:parallel_tool_calls"),
    "temperature": (BODY, b'{"error":{"message":"Unsupported value: \'temperature\' does not support 0.5. Only the default (1) value","param":"temperature"}}', "drop:temperature"),
    "strict": (BODY, b'{"error":{"message":"tools.0.function.strict: Extra inputs are not permitted"}}', "drop:strict"),
    "a forced tool": (BODY, b'{"error":{"message":"tool_choice \'required\' is not supported"}}', "auto"),
    "a forced tool, while thinking": ({**BODY, "thinking": {}}, b'{"error":{"message":"Thinking mode does not support this tool_choice"}}', "auto"),
    "the parameter, not what is said of others": (BODY, b'{"error":{"message":"Unsupported with temperature","param":"top_p"}}', "drop:top_p"),
    "the message, not what is quoted": (BODY, b'{"detail":[{"loc":["body","top_p"],"msg":"Extra inputs are not permitted","input":{"max_tokens":1}}]}', "drop:top_p"),
    "stop": ({**BODY, "stop": ["x"]}, b'{"error":{"message":"Unrecognized request argument supplied: stop"}}', "drop:stop"),
    "stop as a parameter": ({**BODY, "stop": ["x"]}, b'{"error":{"message":"not supported","param":"stop"}}', "drop:stop"),
    "an everyday word": ({**BODY, "stop": ["x"], "include": []}, b'{"error":{"message":"Images are not supported, stop that; include text only"}}', None),
    "a smaller limit": (BODY, b'{"error":{"message":"max_tokens is too large: 32000. This model supports at most 16384 completion tokens"}}', "limit:16384"),
    "deepseek's limit": (BODY, b'{"error":{"message":"Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"}}', "limit:8192"),
    "the context is too long": (BODY, b'{"error":{"message":"maximum context length is 100 tokens, max_tokens not supported","code":"context_length_exceeded"}}', None),
    "a field that was not sent": (BODY, b'{"error":{"message":"top_k is not supported"}}', None),
    "a forced tool, in other words": (BODY, b'{"error":{"message":"tool_choice must be auto or none"}}', "auto"),
    "a smaller limit of the other API": ({"max_output_tokens": 32000}, b'{"error":{"message":"max_output_tokens must be less than or equal to 4096"}}', "limit:4096"),
    "no schemas": (SHAPED, b'{"error":{"message":"This response_format type is unavailable now"}}', "json_object"),
    "no shapes at all": ({**BODY, "response_format": {"type": "json_object"}}, b'{"error":"unknown field response_format"}', "drop:response_format"),
    "a schema that is wrong": (SHAPED, b'{"error":{"message":"Invalid schema for response_format: unknown type"}}', None),
    "something else": (BODY, b'{"error":{"message":"messages must not be empty"}}', None),
    "a field that is meant": (BODY, b'{"error":{"message":"Unsupported parameter: tools"}}', None),
}  # fmt: skip


@pytest.mark.parametrize(("body", "said", "lesson"), CASES.values(), ids=CASES)
def test_find(body: dict[str, Any], said: bytes, lesson: str | None) -> None:
    assert lessons.find(400, body_complaint(said), said.decode(), body) == lesson


@pytest.mark.parametrize("status", [401, 429, 500])
def test_only_refusals_of_the_request_teach(status: int) -> None:
    assert lessons.find(status, body_complaint(OLD_NAME), OLD_NAME.decode(), BODY) is None


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
    known.learnt("other", 1000.0 + lessons.KEPT_S)

    assert known.described() is None


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

    assert known.described() == {"lessons": {"m": ["drop:stop"]}}
    assert known.learnt("m", 1000.0 + lessons.KEPT_S - 1) == ["drop:stop"]
    assert known.learnt("other", 1000.0) == []
    assert known.learnt("m", 1000.0 + lessons.KEPT_S) == []
    assert known.described() is None
