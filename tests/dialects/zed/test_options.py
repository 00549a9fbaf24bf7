"""`zed_config`: defaults, what wins, what is refused, what whoever wrote it is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from balancer.dialects.zed import options as module
from balancer.dialects.zed.options import MAX_CONTEXT_TOKENS, THREAD_TTL_S, Options


def of(**config: Any) -> Options:
    return Options.model_validate(config)


WINDOWS: dict[str, tuple[dict[str, Any], int]] = {
    "the default": ({}, MAX_CONTEXT_TOKENS),
    "flat": ({"max_context_tokens": 5000}, 5000),
    "in its group": ({"context_management": {"max_context_tokens": 6000}}, 6000),
    "both": ({"max_context_tokens": 5000, "context_management": {"max_context_tokens": 6000}}, 6000),
}


@pytest.mark.parametrize(("config", "tokens"), WINDOWS.values(), ids=WINDOWS)
def test_the_window_is_the_groups_then_the_flat_one(config: dict[str, Any], tokens: int) -> None:
    assert of(**config).window == tokens


TTLS: dict[str, tuple[dict[str, Any], float]] = {
    "the default": ({}, THREAD_TTL_S),
    "flat": ({"thread_ttl": 5}, 5),
    "in its group": ({"thread_management": {"ttl": 6}}, 6),
    "both": ({"thread_ttl": 5, "thread_management": {"ttl": 6}}, 6),
    "never, flat": ({"thread_ttl": 0}, 0),
    "never, in its group": ({"thread_ttl": 5, "thread_management": {"ttl": 0}}, 0),
}


@pytest.mark.parametrize(("config", "ttl_s"), TTLS.values(), ids=TTLS)
def test_the_time_of_a_thread_is_the_groups_then_the_flat_one(config: dict[str, Any], ttl_s: float) -> None:
    assert of(**config).ttl_s == ttl_s


GROUPS = [
    value for value in vars(module).values() if isinstance(value, type) and issubclass(value, BaseModel) and value.__name__[0] != "_"
]  # fmt: skip


@pytest.mark.parametrize(
    "group", [group for group in GROUPS if group is not BaseModel], ids=lambda group: group.__name__
)
def test_every_group_has_defaults_says_what_each_key_is_and_refuses_others(group: type[BaseModel]) -> None:
    assert group()
    assert [name for name, field in group.model_fields.items() if not field.description] == []
    with pytest.raises(ValidationError):
        group.model_validate({"no_such_key": 1})
    with pytest.raises(ValidationError):
        setattr(group(), next(iter(group.model_fields)), 1)


REMARKS: dict[str, tuple[dict[str, Any], bool]] = {
    "the defaults": ({}, False),
    "burn by default": ({"default_mode": "burn"}, True),
    "triggers": ({"auto_burn_mode_triggers": ["agent_panel_usage"]}, True),
    "burn, where it has an effect": ({"default_mode": "burn", "wire_profile": "legacy"}, False),
}


@pytest.mark.parametrize(("config", "told"), REMARKS.values(), ids=REMARKS)
def test_who_asks_for_what_is_gone_is_told(config: dict[str, Any], told: bool) -> None:
    assert any("removed burn mode" in remark for remark in of(**config).remarks) is told


@pytest.mark.parametrize(
    "config",
    [
        {"max_context_tokens": 999}, {"max_concurrency": 0}, {"default_mode": "max"}, {"auto_burn_mode_triggers": ["x"]},
        {"thread_ttl": -1}, {"context_management": {"rotation_threshold": 0}},
        {"context_management": {"rotation_threshold": 1.1}}, {"cost_control": {"daily_usd": -1}},
        {"cost_control": {"pricing": {"m": {"input": -1}}}}, {"thread_management": {"max_threads": 0}},
        {"burn_thresholds": {"tokens": 0}}, {"wire_profile": "new"},
    ],
)  # fmt: skip
def test_values_beyond_their_bounds_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        of(**config)
