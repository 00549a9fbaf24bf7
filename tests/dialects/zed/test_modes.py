"""When burn mode is asked for, and by whom."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.dialects.zed import modes
from balancer.dialects.zed.options import BurnThresholds

USER = {"role": "user", "content": [{"type": "text", "text": "do it"}]}
EDIT: dict[str, Any] = {"tools": [{"name": "Edit"}], "messages": [USER]}


def calls(*given: tuple[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "tool_use", "name": n, "input": i} for n, i in given]}


@pytest.mark.parametrize(
    ("more", "estimate", "expected"),
    [
        ({}, 39_999, False),
        ({}, 40_000, True),
        ({"thinking": {"type": "enabled", "budget_tokens": 16_000}}, 1, True),
        ({"output_config": {"effort": "high"}}, 1, True),
        ({"messages": [USER, calls(*[("Edit", {"file_path": str(n)}) for n in range(3)])]}, 1, True),
        ({"messages": [USER, calls(*[("Edit", {"file_path": "a"})] * 3)]}, 1, False),
        ({"messages": [USER, calls(*[("Read", {})] * 15)]}, 1, True),
        ({"tools": [{"name": "Read"}]}, 90_000, False),
    ],
)
def test_complex_coding_task(more: dict[str, Any], estimate: int, expected: bool) -> None:
    assert modes.complex_coding_task({**EDIT, **more}, estimate) is expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([USER], False),
        ([USER, calls(*[("Read", {})] * 20)], True),
        ([USER, calls(("Task", {}))], True),
        ([USER, calls(("TodoWrite", {"todos": [{"status": "pending"}] * 5}))], True),
        ([USER, calls(("TodoWrite", {"todos": [{"status": "completed"}] * 5}))], False),
        ([{"role": "user", "content": [{"type": "text", "text": "1. a\n2. b\n3) c"}]}], True),
    ],
)
def test_multi_step_analysis(messages: list[Any], expected: bool) -> None:
    assert modes.multi_step_analysis({"messages": messages}, 1) is expected


@pytest.mark.parametrize(
    ("route", "asked", "triggers", "estimate", "burn", "expected"),
    [
        ("burn", "normal", (), 1, True, ("burn", "route")),
        ("normal", "burn", ("agent_panel_usage",), 1, True, ("normal", "route")),
        ("auto", None, ("agent_panel_usage",), 1, True, ("burn", "agent_panel_usage")),
        ("auto", "normal", ("agent_panel_usage",), 1, True, ("normal", "header")),
        (None, "burn", (), 1, True, ("burn", "header")),
        (None, "nonsense", (), 1, True, ("normal", "default_mode")),
        (None, None, (), 150, True, ("burn", "context_overflow")),
        (None, None, (), 250, True, ("normal", "default_mode")),
        ("burn", "burn", (), 1, False, ("normal", "the model has no burn mode")),
    ],
)
def test_who_chooses(
    route: Any, asked: Any, triggers: Any, estimate: int, burn: bool, expected: tuple[str, str]
) -> None:
    chosen = modes.chosen(
        EDIT,
        estimate,
        route=route,
        header=asked,
        default="normal",
        triggers=triggers,
        windows=(100, 200),
        burn_exists=burn,
    )

    assert chosen == expected


def test_thresholds_are_configurable() -> None:
    low = BurnThresholds(tokens=10, numbered_steps=1)
    steps = {"messages": [{"role": "user", "content": [{"type": "text", "text": "1. a"}]}]}

    assert modes.complex_coding_task(EDIT, 10, low)
    assert not modes.complex_coding_task(EDIT, 10)
    assert modes.multi_step_analysis(steps, 1, low)
    assert not modes.multi_step_analysis(steps, 1)


PASTED = {
    "in a code block": ("look:\n```\n1. a\n2. b\n3. c\n```", False),
    "in a block that does not end": ("look:\n  ~~~text\n1. a\n2. b\n3. c", False),
    "around a code block": ("1. a\n```\n9. x\n```\n2. b\n3. c", True),
}


@pytest.mark.parametrize(("text", "steps"), PASTED.values(), ids=PASTED)
def test_numbered_lines_of_pasted_code_are_no_steps_of_the_user(text: str, steps: bool) -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}

    assert modes.multi_step_analysis(body, 1) is steps
