"""Whether a request asks for Zed's larger window (`burn`), and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from balancer.dialects.zed.options import BurnThresholds
from balancer.dialects.zed.threads import prompt_start, tool_calls, user_text

EDITORS = frozenset({"Edit", "MultiEdit", "Write", "NotebookEdit", "apply_patch"})
PLANNERS = frozenset({"TodoWrite", "update_plan"})
SUBAGENTS = frozenset({"Task", "Agent"})
_STEP = re.compile(r"\s*\d+[.)]\s")
_FENCES = ("```", "~~~")
WORDS = {"normal": "normal", "burn": "burn", "max": "burn"}
"""What a mode is called: `max` is what the service itself called burn mode."""


DEFAULT = BurnThresholds()


def complex_coding_task(body: dict[str, Any], estimate: int, at: BurnThresholds = DEFAULT) -> bool:
    """An editing tool is offered, and the request is large, edits widely, thinks hard or has called much."""
    if not EDITORS & {tool.get("name") for tool in body.get("tools") or ()}:
        return False
    calls = tool_calls(body["messages"])
    inputs = [call["input"] for call in calls if call.get("name") in EDITORS and isinstance(call.get("input"), dict)]
    paths = {str(given.get("file_path") or given.get("notebook_path") or given.get("path")) for given in inputs}
    thinking, output = body.get("thinking"), body.get("output_config")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    effort = output.get("effort") if isinstance(output, dict) else None
    return (
        estimate >= at.tokens
        or len(paths) >= at.edited_files
        or (isinstance(budget, int) and budget >= at.thinking_budget)
        or effort in ("high", "xhigh", "max")
        or len(calls) >= at.tool_calls
    )


def multi_step_analysis(body: dict[str, Any], estimate: int, at: BurnThresholds = DEFAULT) -> bool:
    """Many calls, a long plan, a subagent, or numbered steps in what the user wrote."""
    messages = body["messages"]
    calls = tool_calls(messages)
    if len(calls) >= at.analysis_tool_calls:
        return True
    if any(call.get("name") in SUBAGENTS or _open_items(call) >= at.open_items for call in calls):
        return True
    start = prompt_start(messages)
    return start >= 0 and _steps(user_text(messages[start])) >= at.numbered_steps


def _steps(text: str) -> int:
    """Return how many numbered lines a text has outside of code blocks: those are pasted, not asked for."""
    count, fence = 0, ""
    for line in text.splitlines():
        stripped = line.lstrip()
        if fence:
            fence = "" if stripped.startswith(fence) else fence
        elif stripped.startswith(_FENCES):
            fence = stripped[:3]
        elif _STEP.match(line):
            count += 1
    return count


def agent_panel_usage(body: dict[str, Any], estimate: int, at: BurnThresholds = DEFAULT) -> bool:
    """Any tool is offered."""
    return bool(body.get("tools"))


def _open_items(call: dict[str, Any]) -> int:
    given = call.get("input")
    if call.get("name") not in PLANNERS or not isinstance(given, dict):
        return 0
    items = given.get("todos") or given.get("plan") or ()
    listed = items if isinstance(items, list) else ()
    return sum(isinstance(item, dict) and item.get("status") != "completed" for item in listed)


TRIGGERS: dict[str, Callable[[dict[str, Any], int, BurnThresholds], bool]] = {
    "complex_coding_task": complex_coding_task,
    "multi_step_analysis": multi_step_analysis,
    "agent_panel_usage": agent_panel_usage,
}

ASKED = frozenset({"route", "header", "default_mode"})
"""Reasons that are somebody's word; the others are this module's own."""


def chosen(
    body: dict[str, Any],
    estimate: int,
    *,
    route: str | None,
    header: str | None = None,
    default: str,
    triggers: tuple[str, ...],
    windows: tuple[int, int],
    burn_exists: bool = True,
    thresholds: BurnThresholds = DEFAULT,
) -> tuple[str, str]:
    """Return the mode and the reason: the word of route or header, a trigger, an overflow, or the default."""
    if not burn_exists:
        return "normal", "the model has no burn mode"
    for word, reason in ((route, "route"), (header, "header")):
        if word in ("normal", "burn"):
            return word, reason
    for name in triggers:
        if TRIGGERS[name](body, estimate, thresholds):
            return "burn", name
    if windows[0] < estimate <= windows[1]:
        return "burn", "context_overflow"
    return default, "default_mode"
