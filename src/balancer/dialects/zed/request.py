"""A Messages API request as Zed's strict parser takes it.

The service reads `provider_request` into a struct of its own: content must be blocks, `is_error`
and tool descriptions must be there, blocks and tools that it doesn't know are refused.
"""

from __future__ import annotations

import re
from typing import Any

FIELDS = frozenset(
    {
        "model",
        "max_tokens",
        "messages",
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "metadata",
        "stop_sequences",
        "temperature",
        "top_k",
        "top_p",
        "speed",
        "cache_control",
        "context_management",
    }
)
EMPTY_RESULT = "<Tool returned an empty string>"
"""An empty result makes the provider behind the service fail."""

_TOOL = ("name", "description", "input_schema", "eager_input_streaming", "cache_control")
_SUFFIX = re.compile(r"(?:-(?:\d{8}|latest))?(?:\[\w+\])?\Z")
"""A date, or `latest`, and what the client appends for a larger context: the same model without it."""


class Untakable(Exception):
    """The request holds what the service's struct has no place for; `str(error)` names it."""


def tidied(body: dict[str, Any]) -> dict[str, Any]:
    """Return the request without what the service refuses; `body` is left alone. Raises `Untakable`."""
    out = {key: value for key, value in body.items() if key in FIELDS and value is not None}
    system: list[Any] = _system(out.get("system"))
    messages: list[dict[str, Any]] = []
    for message in body.get("messages") or ():
        if not isinstance(message, dict):
            raise Untakable("a message that is not an object")
        blocks = [clean for block in _blocks(message.get("content")) if (clean := _block(block)) is not None]
        role = message.get("role")
        if role == "system":
            system = [*system, *blocks]
        elif role not in ("user", "assistant"):
            raise Untakable(f"a message of the role {role!r}")
        elif blocks and messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        elif blocks:
            messages.append({"role": role, "content": blocks})
    if any(block["type"] != "text" for block in system):
        raise Untakable("a system prompt with something other than text")
    out["messages"] = messages
    if system:
        out["system"] = system
    else:
        out.pop("system", None)
    if "tools" in out:
        if not isinstance(out["tools"], list):
            raise Untakable("tools that are not a list")
        out["tools"] = [_tool(tool) for tool in out["tools"]]
    if isinstance(choice := out.get("tool_choice"), dict):
        out["tool_choice"] = {key: choice[key] for key in ("type", "name") if key in choice}
    return out


def _system(system: Any) -> list[Any]:
    blocks = _blocks(system)
    return [clean for block in blocks if (clean := _block(block)) is not None]


def _blocks(content: Any) -> list[Any]:
    if content is None:
        return []
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def _block(block: Any) -> dict[str, Any] | None:
    """Return the block as it may be sent, None where it says nothing."""
    kind = block.get("type") if isinstance(block, dict) else None
    match kind:
        case "text":
            if not isinstance(block.get("text") or "", str):
                raise Untakable("a text that is not a string")
            return _kept(block, "text") if (block.get("text") or "").strip() else None
        case "thinking":
            return _kept(block, "thinking", "signature") if block.get("signature") else None
        case "redacted_thinking":
            return _kept(block, "data")
        case "image":
            return _image(block)
        case "tool_use":
            if not isinstance(block.get("name"), str):
                raise Untakable("a tool call without a name")
            return {"input": {}, **_kept(block, "id", "name", "input")}
        case "tool_result":
            return _result(block)
        case _:
            raise Untakable(f"a block of the type {kind!r}")


def _kept(block: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: block[name] for name in ("type", *names, "cache_control") if block.get(name) is not None}


def _image(block: dict[str, Any]) -> dict[str, Any]:
    source = block.get("source")
    if not isinstance(source, dict) or source.get("type") != "base64":
        raise Untakable("an image that is not base64")
    return _kept(block, "source")


def _result(block: dict[str, Any]) -> dict[str, Any]:
    content = block.get("content")
    out = {**_kept(block, "tool_use_id"), "is_error": bool(block.get("is_error"))}
    if isinstance(content, list):
        parts = [part for part in map(_block, content) if part is not None]
        for part in parts:
            if part["type"] not in ("text", "image"):
                raise Untakable(f"a tool result with a block of the type {part['type']!r}")
        content = parts
    return {**out, "content": content or EMPTY_RESULT}


def _tool(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, dict) or "input_schema" not in tool:
        kind = tool.get("type", "?") if isinstance(tool, dict) else "?"
        raise Untakable(f"the server tool {kind!r}")
    if not isinstance(tool.get("name"), str):
        raise Untakable("a tool without a name")
    return {"description": "", **{key: tool[key] for key in _TOOL if tool.get(key) is not None}}


def fitted(body: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Return a tidied request as the model of the catalogue's `entry` takes it."""
    out = {**body, "model": entry["id"]}
    thinking, asked = out.get("thinking"), out.get("max_tokens")
    off = isinstance(thinking, dict) and thinking.get("type") == "disabled"
    if off and not entry.get("supports_disabling_thinking"):
        del out["thinking"]
    limit = entry.get("max_output_tokens")
    if isinstance(limit, int) and limit > 0 and (asked is None or (isinstance(asked, int) and asked > limit)):
        out["max_tokens"] = limit
        budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
        if isinstance(thinking, dict) and isinstance(budget, int) and budget >= limit:
            out["thinking"] = {**thinking, "budget_tokens": limit - 1}
    return out


def zed_model(name: str, catalogue: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the catalogue's entry for a name: itself, else the one without a date, `-latest` and `[1m]`.

    Raises `Untakable` where the service would silently answer as another model: it takes any name for the longest one
    of its own that the name begins with. A name of which that is not so goes through.
    """
    known = {entry["id"]: entry for entry in catalogue}
    for asked in (name, bare := _SUFFIX.sub("", name)):
        if asked in known:
            return known[asked]
    if other := max((one for one in known if bare.startswith(one)), key=len, default=None):
        raise Untakable(f"the model {name!r}, as it has {other!r} but not that one")
    return {"id": bare if catalogue else name}
