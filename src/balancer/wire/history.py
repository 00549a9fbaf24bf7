"""A conversation's history, fitted to the provider that is to see it.

What one provider signed, named or ran means nothing to another, and is refused or misread by it. What is done about
it stands here, for every type of provider:

| what stands in the history | type `anthropic` | `zed` | `openai` |
|---|---|---|---|
| thinking that an Anthropic-type provider signed | untouched: the API drops a stranger's | untouched | dropped |
| thinking that the balancer signed, of reasoning of other types | dropped | dropped | its own given back |
| calls of tools that ran on a provider's servers, and results | untouched | as text | as text |
| names of containers and of uploaded files | untouched: a stranger's is refused, not misread | dropped | dropped |

The same history gives the same bytes every time: a prefix that changed would cost the prompt cache, and the thinking
that is bound to it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from balancer.wire import messages
from balancer.wire.loose import object_of, objects_of, string_of
from balancer.wire.signatures import OWN_PREFIX, is_own

_MARK = f'"{OWN_PREFIX}'.encode()
_THINKING = (b'"thinking"', b'"redacted_thinking"')
_LOOKS_MAX = 64


def carries_thinking(body: bytes) -> bool:
    """Return whether there is a thinking block in a request's history, as far as a look at its bytes tells.

    The name of the block's type stands in quotes that are not escaped: text about thinking is not taken for it. It
    also stands as the key of what is asked for, and there it is followed by a colon.
    """
    if body.rfind(_THINKING[1]) >= 0:
        return True
    at = len(body)
    for _ in range(_LOOKS_MAX):
        at = body.rfind(_THINKING[0], 0, at)
        if at < 0:
            return False
        if body[at + len(_THINKING[0]) : at + len(_THINKING[0]) + 64].lstrip()[:1] != b":":
            return True
    return False


def without_own_thinking(body: bytes) -> bytes:
    """Return a Messages body without thinking blocks of our making; the same object if there are none.

    Anthropic refuses a signature that is not its own with a 400, and Claude Code gets over that
    only by losing all thinking of the conversation.
    """
    if body.rfind(_MARK) < 0:  # `in` takes twice as long: it compares in small steps where rfind leaps
        return body
    try:
        request = messages.decoded(body)
    except (msgspec.DecodeError, RecursionError):
        return body
    turns = request.get("messages") if isinstance(request, dict) else None
    for message in turns if isinstance(turns, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            message["content"] = [block for block in content if not is_own_thinking(block)] or [_nothing()]
    return msgspec.json.encode(request)


def is_own_thinking(block: Any) -> bool:
    """Return whether a block is thinking of our making."""
    if not isinstance(block, dict) or block.get("type") not in ("thinking", "redacted_thinking"):
        return False
    return is_own(block.get("signature") or block.get("data"))


def _nothing() -> dict[str, str]:
    """A message must not be empty."""
    return {"type": "text", "text": "."}


# What only its maker can read, as text

MEANINGLESS = frozenset({"container_upload", "fallback", "mcp_tool_listing"})
"""Blocks that say nothing to anybody but the provider that made them, and nothing to the model that goes on."""


def as_text(block: dict[str, Any]) -> str | None:
    """Return what a block says, as text, that only the Messages API's own service can read; None: it is another."""
    match block.get("type"):
        case "compaction":
            return string_of(block.get("content"))
        case "search_result":
            return search_result(block)
        case "tool_reference":
            return f"[tool loaded: {block.get('tool_name') or block.get('name')}]"
        case "tool_addition":
            return f"[tool added: {tool_name(block.get('tool'))}]"
        case "tool_removal":
            return f"[tool removed: {tool_name(block.get('tool'))}]"
        case _:
            return ran_elsewhere(block)


def search_result(block: dict[str, Any]) -> str:
    """Return a search result as text: its title, its source, what it says."""
    head = [str(block[key]) for key in ("title", "source") if block.get(key)]
    texts = [string_of(inner.get("text")) for inner in objects_of(block.get("content"))]
    return "\n".join([*head, *(text for text in texts if text.strip())])


def tool_name(tool: Any) -> str:
    """Return the name of a tool that is referred to, or defined in place."""
    tool = object_of(tool)
    tool = object_of(tool.get("definition")) or tool
    return str(tool.get("name") or tool.get("server_name") or tool.get("mcp_server_name") or tool.get("type"))


def ran_elsewhere(block: dict[str, Any]) -> str | None:
    """Return what a block says, as text, of what ran on a provider's servers; None: nothing of it did."""
    kind = block.get("type")
    if kind in ("server_tool_use", "mcp_tool_use"):
        return _call(block)
    if isinstance(kind, str) and kind.endswith("_tool_result"):
        return readable(block.get("content"))
    return None


def _call(block: dict[str, Any]) -> str:
    given = object_of(block.get("input"))
    said = given.get("query") or given.get("url") or given.get("command") or given.get("code")
    return f"[{block.get('name')}: {said if isinstance(said, str) else msgspec.json.encode(given).decode()}]"


_READABLE = (
    "title", "url", "text", "stdout", "stderr", "error_code", "tool_name", "tool_references", "lines", "content",
    "source", "data",
)  # fmt: skip
"""What people can read of a server tool's result; encrypted parts are of no use to others."""


def readable(value: Any) -> str:
    """Return what people can read of a value of JSON, a line each."""
    texts: list[str] = []
    _collect(value, texts)
    return "\n".join(texts)


def _collect(value: Any, texts: list[str]) -> None:
    """Collect what can be read; joined on every level, deep nesting would cost by the square of its depth."""
    if isinstance(value, str):
        if value:
            texts.append(value)
    elif isinstance(value, list):
        for item in value:
            _collect(item, texts)
    elif isinstance(value, dict) and value.get("type") != "base64":
        for key in _READABLE:
            if key in value:
                _collect(value[key], texts)
