"""Effort and thinking in a server's own words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from balancer.dialects.openai import effort
from balancer.dialects.openai.profiles import PROFILES, Profile


def thinks(budget: int) -> dict[str, Any]:
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


CASES: dict[str, tuple[Profile, dict[str, Any], dict[str, Any]]] = {
    "compat says nothing": ("compat", thinks(9000), {}),
    "a small budget": ("openai_reasoning", thinks(1024), {"reasoning_effort": "low"}),
    "a medium budget": ("openai_reasoning", thinks(9000), {"reasoning_effort": "medium"}),
    "a large budget": ("openai_reasoning", thinks(20000), {"reasoning_effort": "high"}),
    "the largest budget": ("openai_reasoning", thinks(31999), {"reasoning_effort": "xhigh"}),
    "clamped": ("gemini", thinks(31999), {"reasoning_effort": "high"}),
    "stated": ("openai_reasoning", {"output_config": {"effort": "low"}, **thinks(31999)}, {"reasoning_effort": "low"}),
    "max": ("openai_reasoning", {"output_config": {"effort": "max"}}, {"reasoning_effort": "xhigh"}),
    "off": ("openai_reasoning", {"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}),
    "off over effort": (
        "openai_reasoning",
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}},
        {"reasoning_effort": "none"},
    ),
    "adaptive": ("openai_reasoning", {"thinking": {"type": "adaptive"}}, {}),
    "openrouter budget": ("openrouter", thinks(9000), {"reasoning": {"max_tokens": 9000}}),
    "openrouter effort": ("openrouter", {"output_config": {"effort": "max"}}, {"reasoning": {"effort": "max"}}),
    "openrouter off": ("openrouter", {"thinking": {"type": "disabled"}}, {"reasoning": {"effort": "none"}}),
    "deepseek on": ("deepseek", thinks(20000), {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}),
    "deepseek off": ("deepseek", {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
    "deepseek by effort alone": ("deepseek", {"output_config": {"effort": "high"}}, {"reasoning_effort": "high"}),
    "a switch on": (
        "moonshot",
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        {"thinking": {"type": "enabled"}},
    ),
    "a switch off": ("zai", {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
    "no word of a switch": ("moonshot", {"output_config": {"effort": "high"}}, {}),
    "qwen on": ("qwen", thinks(4000), {"enable_thinking": True, "thinking_budget": 4000}),
    "qwen off": ("qwen", {"thinking": {"type": "disabled"}}, {"enable_thinking": False}),
    "nonsense": ("openai_reasoning", {"thinking": "yes", "output_config": {"effort": "huge"}}, {}),
}


OVER: dict[str, tuple[Profile, dict[str, Any], dict[str, Any]]] = {
    "over what the client says": (
        "openai_reasoning",
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}},
        {"reasoning_effort": "low"},
    ),
    "over a budget": ("openrouter", thinks(9000), {"reasoning": {"effort": "low"}}),
    "over deepseek's switch": ("deepseek", {"thinking": {"type": "disabled"}}, {"reasoning_effort": "low"}),
    "where the profile has none": ("compat", {}, {"reasoning_effort": "low"}),
    "over a switch": ("zai", {"thinking": {"type": "disabled"}}, {"thinking": {"type": "enabled"}}),
    "over qwen's switch": ("qwen", {"thinking": {"type": "disabled"}}, {"enable_thinking": True}),
}


@pytest.mark.parametrize(("profile", "request_", "expected"), OVER.values(), ids=OVER)
def test_the_effort_of_the_file(profile: Profile, request_: dict[str, Any], expected: dict[str, Any]) -> None:
    assert effort.fields(request_, replace(PROFILES[profile], effort="low")) == expected


@pytest.mark.parametrize(
    ("profile", "expected"),
    {
        "compat": {"reasoning_effort": "none"},
        "openai": {"reasoning_effort": "none"},
        "openai_reasoning": {"reasoning_effort": "none"},
        "gemini": {"reasoning_effort": "none"},
        "openrouter": {"reasoning": {"effort": "none"}},
        "deepseek": {"thinking": {"type": "disabled"}},
        "moonshot": {"thinking": {"type": "disabled"}},
        "qwen": {"enable_thinking": False},
    }.items(),
)
def test_no_effort_in_the_file_arrives_as_such(profile: Profile, expected: dict[str, Any]) -> None:
    asked = {**thinks(20000), "output_config": {"effort": "high"}}

    assert effort.fields(asked, replace(PROFILES[profile], effort="none")) == expected


@pytest.mark.parametrize(("profile", "request_", "expected"), CASES.values(), ids=CASES)
def test_fields(profile: Profile, request_: dict[str, Any], expected: dict[str, Any]) -> None:
    assert effort.fields(request_, PROFILES[profile]) == expected
