"""Tools and the choice among them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from balancer.dialect import Incapable
from balancer.dialects.openai import web_search
from balancer.dialects.openai.blocks import content
from balancer.dialects.openai.names import Names
from balancer.dialects.openai.profiles import Capabilities
from balancer.dialects.openai.schema import cleaned, is_strict
from balancer.wire.loose import object_of, objects_of

_STRING = {"type": "string"}
_RANGE = {"type": "array", "items": {"type": "integer"}}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


_EDITOR = ("view", "create", "str_replace", "insert")
CLIENT_TOOLS: dict[str, dict[str, Any]] = {
    "bash_": _object([], command=_STRING, restart={"type": "boolean"}),
    "text_editor_": _object(
        ["command", "path"],
        command={"type": "string", "enum": [*_EDITOR, "undo_edit"]},
        path=_STRING,
        file_text=_STRING,
        old_str=_STRING,
        new_str=_STRING,
        insert_line={"type": "integer"},
        insert_text=_STRING,
        view_range=_RANGE,
    ),
    "memory_": _object(
        ["command"],
        command={"type": "string", "enum": [*_EDITOR, "delete", "rename"]},
        path=_STRING,
        file_text=_STRING,
        old_str=_STRING,
        new_str=_STRING,
        insert_line={"type": "integer"},
        insert_text=_STRING,
        view_range=_RANGE,
        old_path=_STRING,
        new_path=_STRING,
    ),
}
"""Schemas of Anthropic's tools that the client runs: the API names them by type alone."""


def converted(
    request: dict[str, Any], can: Capabilities, names: Names, dropped: Counter[str], provider: str
) -> dict[str, Any]:
    """Return `tools`, `tool_choice` and `parallel_tool_calls`. Raises `Incapable`."""
    tools: list[dict[str, Any]] = []
    left: dict[str, str] = {}
    searches: dict[str, Any] = {}
    for tool in _asked(request):
        schema = _schema(tool)
        if schema is None and (hosted := web_search.tool(tool, can.web_search, dropped)) is not None:
            tools.append(hosted)
            searches = {"max_tool_calls": most} if (most := web_search.most(tool)) and _by_responses(can) else {}
        elif schema is None:
            left[str(tool.get("name"))] = str(tool.get("type"))
            dropped[f"tool {tool.get('type')}"] += 1
        else:
            tools.append(_function(tool, schema, can, names))
    if left and (not tools or _chosen(request) in left):
        raise Incapable(
            f"tools: {', '.join(sorted(set(left.values())))} can't be sent: provider '{provider}' has no such tool of "
            "Anthropic's; route this model to a provider of type anthropic as well, or offer tools with an input_schema"
        )
    if can.max_tools is not None and len(tools) > can.max_tools:
        raise Incapable(
            f"tools: {len(tools)} tools, but provider '{provider}' takes at most {can.max_tools}; offer fewer tools, "
            "or route this model to another provider"
        )
    if not tools:
        return {}
    return {"tools": tools, **_choice(request, can, names), **searches}


def _by_responses(can: Capabilities) -> bool:
    return can.web_search == "responses"


def _asked(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tools of the request, and behind them those that are defined in the middle of its conversation."""
    tools = objects_of(request.get("tools"))
    known = {str(tool.get("name")) for tool in tools}
    for message in request["messages"]:
        if not isinstance(message, dict) or message.get("role") != "system":
            continue
        for block in content(message.get("content")):
            added = object_of(block.get("tool")).get("definition") if block.get("type") == "tool_addition" else None
            if isinstance(added, dict) and str(added.get("name")) not in known:
                known.add(str(added.get("name")))
                tools.append(added)
    return tools


def _chosen(request: dict[str, Any]) -> str | None:
    """Return the one tool that must be called."""
    choice = request.get("tool_choice")
    return str(choice.get("name")) if isinstance(choice, dict) and choice.get("type") == "tool" else None


def is_forced(fields: dict[str, Any]) -> bool:
    """Say whether these fields of `converted` make the model call a tool."""
    return fields.get("tool_choice") not in (None, "auto", "none")


def _schema(tool: dict[str, Any]) -> Any:
    """Return the schema of a tool that the client runs; None: it runs on Anthropic's servers."""
    if "input_schema" in tool:
        return tool["input_schema"]
    kind = tool.get("type")
    if kind is None or kind == "custom":
        return {}
    return next((schema for prefix, schema in CLIENT_TOOLS.items() if str(kind).startswith(prefix)), None)


def _function(tool: dict[str, Any], schema: Any, can: Capabilities, names: Names) -> dict[str, Any]:
    function: dict[str, Any] = {"name": names.out(str(tool.get("name") or tool.get("type") or "tool"))}
    if isinstance(description := tool.get("description"), str) and description.strip():
        function["description"] = description
    function["parameters"] = cleaned(
        schema, narrow=can.tool_schema == "narrow", inline=can.inline_refs, without=can.schema_without
    )
    if tool.get("strict") is True and can.strict and is_strict(function["parameters"]):
        function["strict"] = True
    return {"type": "function", "function": function}


def _choice(request: dict[str, Any], can: Capabilities, names: Names) -> dict[str, Any]:
    choice = request.get("tool_choice")
    if not isinstance(choice, dict):
        return {}
    fields: dict[str, Any] = {}
    forced = "auto" if can.reasoning == "deepseek" and _thinks(request) else "required"
    match choice.get("type"):
        case "auto":
            fields["tool_choice"] = "auto"
        case "any":
            fields["tool_choice"] = forced
        case "none":
            fields["tool_choice"] = "none"
        case "tool" if _is_search(request, choice, can):
            fields["tool_choice"] = "required"
            if _by_responses(can) and len(objects_of(request.get("tools"))) > 1:
                only = [{"type": web_search.NAME}]
                fields["tool_choice"] = {"type": "allowed_tools", "mode": "required", "tools": only}
        case "tool" if can.tool_choice_named and forced == "required":
            fields["tool_choice"] = {"type": "function", "function": {"name": names.out(str(choice.get("name", "")))}}
        case "tool":
            fields["tool_choice"] = forced
    if choice.get("disable_parallel_tool_use") is True and can.parallel_tool_calls:
        fields["parallel_tool_calls"] = False
    return fields


def _is_search(request: dict[str, Any], choice: dict[str, Any], can: Capabilities) -> bool:
    """Return whether the tool that must be called is the provider's own web search."""
    named = [tool for tool in objects_of(request.get("tools")) if tool.get("name") == choice.get("name")]
    return any(_schema(tool) is None and web_search.tool(tool, can.web_search, Counter()) for tool in named)


def _thinks(request: dict[str, Any]) -> bool:
    return object_of(request.get("thinking")).get("type") in ("enabled", "adaptive")
