"""What is made fit for the service's struct, and what can't be."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from balancer.dialects.zed import request as tidy

BODY: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "stream": True,
    "betas": ["x"],
    "thinking": {"type": "disabled"},
    "tools": [{"name": "Read", "input_schema": {}, "custom": 1}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "messages": [
        {"role": "user", "content": "hi"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": ""},
                {"type": "text", "text": " \n"},
                {"type": "text", "text": "there"},
            ],
        },
        {"role": "system", "content": "late"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "unsigned"},
                {"type": "tool_use", "id": "t", "name": "Read", "input": {}, "caller": {}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
    ],
}


def test_a_request_is_made_fit_and_the_clients_is_left_alone() -> None:
    before = deepcopy(BODY)

    out = tidy.tidied(BODY)

    assert before == BODY
    assert out == {
        "model": "m",
        "max_tokens": 9,
        "tools": [{"name": "Read", "description": "", "input_schema": {}}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "disabled"},
        "system": [{"type": "text", "text": "late"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "there"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Read", "input": {}}]},
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "is_error": False,
                        "content": "<Tool returned an empty string>",
                    }
                ],
            },
        ],
    }
    assert tidy.tidied(out) == out


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "u"}}]}]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": ["x"]}]},
        {"messages": [5]},
        {"tools": 5},
        {"tools": [{"name": 5, "input_schema": {}}]},
        {"system": [{"type": "redacted_thinking", "data": "x"}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    ],
)
def test_what_the_struct_has_no_place_for_is_named(more: dict[str, Any]) -> None:
    with pytest.raises(tidy.Untakable):
        tidy.tidied({**BODY, **more})


def test_models_are_found_by_name_and_without_what_is_no_part_of_it() -> None:
    catalogue: list[dict[str, Any]] = [
        {"id": "claude-sonnet-4"},
        {"id": "claude-sonnet-4-5"},
    ]

    assert tidy.zed_model("claude-sonnet-4", catalogue)["id"] == "claude-sonnet-4"
    assert tidy.zed_model("claude-sonnet-4-5-20250929", catalogue)["id"] == "claude-sonnet-4-5"
    assert tidy.zed_model("claude-sonnet-4-5-20250929[1m]", catalogue)["id"] == "claude-sonnet-4-5"
    assert tidy.zed_model("claude-sonnet-4-latest", catalogue)["id"] == "claude-sonnet-4"
    assert tidy.zed_model("claude-new-20260101", catalogue)["id"] == "claude-new"
    assert tidy.zed_model("claude-new-20260101", [])["id"] == "claude-new-20260101"


@pytest.mark.parametrize(
    "name", ["claude-sonnet-4-5", "claude-sonnet-4-5-20250929", "claude-sonnet-45", "claude-sonnet-4-x[1m]"]
)
def test_a_model_is_never_silently_another_one(name: str) -> None:
    with pytest.raises(tidy.Untakable, match="it has 'claude-sonnet-4' but not that one"):
        tidy.zed_model(name, [{"id": "claude-sonnet-4"}, {"id": "claude"}])


@pytest.mark.parametrize(
    ("body", "entry", "expected"),
    [
        ({"max_tokens": 9}, {}, {"max_tokens": 9}),
        ({"max_tokens": 0}, {"max_output_tokens": 5}, {"max_tokens": 0}),
        ({"max_tokens": 9}, {"max_output_tokens": 5}, {"max_tokens": 5}),
        ({}, {"max_output_tokens": 5}, {"max_tokens": 5}),
        ({"thinking": {"type": "disabled"}}, {}, {}),
        (
            {"thinking": {"type": "disabled"}},
            {"supports_disabling_thinking": True},
            {"thinking": {"type": "disabled"}},
        ),
        (
            {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 8000}},
            {"max_output_tokens": 5000},
            {"max_tokens": 5000, "thinking": {"type": "enabled", "budget_tokens": 4999}},
        ),
    ],
)
def test_a_request_is_fitted_to_the_model(body: Any, entry: Any, expected: Any) -> None:
    before = deepcopy(body)

    assert tidy.fitted(body, {"id": "m", **entry}) == {"model": "m", **expected}
    assert body == before
