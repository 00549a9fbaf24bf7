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
    "off": ("openai_reasoning", {"thinking": {"type": "disabled"}}, {"reasoning_effort": "minimal"}),
    "off over effort": (
        "openai_reasoning",
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}},
        {"reasoning_effort": "minimal"},
    ),
    "adaptive": ("openai_reasoning", {"thinking": {"type": "adaptive"}}, {}),
    "openrouter budget": ("openrouter", thinks(9000), {"reasoning": {"max_tokens": 9000}}),
    "openrouter effort": ("openrouter", {"output_config": {"effort": "max"}}, {"reasoning": {"effort": "max"}}),
    "openrouter off": ("openrouter", {"thinking": {"type": "disabled"}}, {"reasoning": {"effort": "none"}}),
    "deepseek on": ("deepseek", thinks(20000), {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}),
    "deepseek off": ("deepseek", {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
    "deepseek by effort alone": ("deepseek", {"output_config": {"effort": "high"}}, {"reasoning_effort": "high"}),
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
    "where there is none": ("compat", {}, {}),
}


@pytest.mark.parametrize(("profile", "request_", "expected"), OVER.values(), ids=OVER)
def test_the_effort_of_the_file(profile: Profile, request_: dict[str, Any], expected: dict[str, Any]) -> None:
    assert effort.fields(request_, replace(PROFILES[profile], effort="low")) == expected


@pytest.mark.parametrize(("profile", "request_", "expected"), CASES.values(), ids=CASES)
def test_fields(profile: Profile, request_: dict[str, Any], expected: dict[str, Any]) -> None:
    assert effort.fields(request_, PROFILES[profile]) == expected
