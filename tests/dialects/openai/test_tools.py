"""Tools, and the choice among them."""

from __future__ import annotations

from typing import Any

import pytest
from conversion import assistant, chat, converted, messages_request, result, use, user

from balancer.dialect import Incapable
from balancer.dialects.openai.names import Names

SEARCH = {"type": "web_search_20250305", "name": "web_search"}
TOOL: dict[str, Any] = {"name": "t", "description": "does", "input_schema": {"type": "object", "properties": {}}}


def asked(*tools: Any, choice: Any = None, **more: Any) -> dict[str, Any]:
    if choice is not None:
        more["tool_choice"] = choice
    return messages_request(tools=list(tools), **more)


def test_a_custom_tool_is_a_function_and_nothing_else_leaks() -> None:
    tool = {**TOOL, "type": "custom", "cache_control": {}, "defer_loading": True, "eager_input_streaming": True}

    assert chat(asked(tool))["tools"] == [
        {"type": "function", "function": {"name": "t", "description": "does", "parameters": TOOL["input_schema"]}}
    ]


def test_no_tools_no_choice() -> None:
    assert set(chat(asked(choice={"type": "auto", "disable_parallel_tool_use": True}), "openai")) == {
        "model",
        "messages",
        "max_completion_tokens",
    }


CHOICES: dict[str, tuple[Any, Any]] = {
    "auto": ({"type": "auto"}, "auto"),
    "any": ({"type": "any"}, "required"),
    "none": ({"type": "none"}, "none"),
    "tool": ({"type": "tool", "name": "t"}, {"type": "function", "function": {"name": "t"}}),
}


@pytest.mark.parametrize(("choice", "expected"), CHOICES.values(), ids=CHOICES)
def test_choice(choice: Any, expected: Any) -> None:
    body = chat(asked(TOOL, choice=choice))

    assert body["tool_choice"] == expected
    assert body["tools"]


def test_one_tool_by_name_where_that_is_unknown() -> None:
    assert chat(asked(TOOL, choice={"type": "tool", "name": "t"}), tool_choice_named=False)["tool_choice"] == "required"


def test_deepseek_is_not_forced_while_it_thinks() -> None:
    body = chat(asked(TOOL, choice={"type": "any"}, thinking={"type": "enabled", "budget_tokens": 2000}), "deepseek")

    assert body["tool_choice"] == "auto"


def test_one_call_at_a_time() -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}

    assert chat(asked(TOOL, choice=choice))["parallel_tool_calls"] is False
    assert "parallel_tool_calls" not in chat(asked(TOOL, choice=choice), parallel_tool_calls=False)


def test_only_tools_of_the_server_are_refused_and_some_are_dropped() -> None:
    with pytest.raises(Incapable, match=r"web_search_20250305.*'up'.*type anthropic"):
        converted(asked(SEARCH))
    mixed = converted(asked(TOOL, SEARCH))

    assert [tool["function"]["name"] for tool in mixed.body["tools"]] == ["t"]
    assert mixed.notes == ("dropped tool web_search_20250305",)
    with pytest.raises(Incapable, match="web_search_20250305"):
        converted(asked(TOOL, SEARCH, choice={"type": "tool", "name": "web_search"}))


def test_a_tool_that_is_defined_in_the_middle_is_offered_too() -> None:
    def added(tool: dict[str, Any]) -> dict[str, Any]:
        return {"role": "system", "content": [{"type": "tool_addition", "tool": tool}]}

    late = {"type": "tool_definition", "definition": {**TOOL, "name": "late"}}
    seen = chat(
        messages_request("a", added(late), added(late), added({"type": "tool_reference", "name": "t"}), tools=[TOOL])
    )

    assert [tool["function"]["name"] for tool in seen["tools"]] == ["t", "late"]
    assert "[tool added: late]" in seen["messages"][0]["content"]


@pytest.mark.parametrize("kind", ["bash_20250124", "text_editor_20250728", "memory_20250818"])
def test_tools_of_the_client_get_a_schema(kind: str) -> None:
    assert chat(asked({"type": kind, "name": "x"}))["tools"][0]["function"]["parameters"]["properties"]["command"]


def test_too_many_tools_are_refused() -> None:
    with pytest.raises(Incapable, match=r"129 tools.*at most 128"):
        converted(asked(*({**TOOL, "name": f"t{n}"} for n in range(129))), "openai")


def test_long_names_and_ids_fit_everywhere_and_names_have_a_way_back() -> None:
    name, identifier = "mcp__server.with.dots__" + "x" * 80, "toolu_" + "y" * 80
    body = messages_request(
        "go", assistant(use(identifier, name)), user(result(identifier)),
        tools=[{**TOOL, "name": name}], tool_choice={"type": "tool", "name": name},
    )  # fmt: skip
    seen = chat(body)
    short = seen["tools"][0]["function"]["name"]
    call = seen["messages"][1]["tool_calls"][0]

    assert len(short) <= 64
    assert "." not in short
    assert call["function"]["name"] == short == seen["tool_choice"]["function"]["name"]
    assert call["id"] == seen["messages"][2]["tool_call_id"]
    assert len(call["id"]) <= 40
    assert converted(body).names == {short: name}


def test_names_that_differ_stay_different() -> None:
    names = Names(64)

    assert names.out("a" * 70) != names.out("a" * 71)
    assert names.out("a.b") != names.out("a_b") == "a_b"


def test_strict_only_where_the_schema_qualifies() -> None:
    closed = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    tools = [{**TOOL, "strict": True}, {**TOOL, "strict": True, "input_schema": closed}]

    assert ["strict" in tool["function"] for tool in chat(asked(*tools), "openai")["tools"]] == [False, True]
