"""Results of tools that are too large to be sent whole: their middle is left out, and that is said in its place."""

from __future__ import annotations

from typing import Any

LEFT_OUT = "\n[... {count} characters of this result were left out, as it does not fit into the context window ...]\n"

LEAST_CHARS = 2000
"""A result is never made shorter than this: what is left of it should be of use."""

_HEAD_SHARE = 2 / 3
"""More is kept of a result's beginning than of its end: it says what the rest is."""


def shortened(messages: list[dict[str, Any]], most_chars: int | None) -> list[dict[str, Any]]:
    """Return a history without the middles of texts in results that are longer than `most_chars`; None: as it is.

    The same history is always shortened in the same way. Nothing is changed in place.
    """
    if most_chars is None:
        return messages
    return [
        {**message, "content": [_block(block, most_chars) for block in message["content"]]}
        if any(_is_long(block, most_chars) for block in message["content"])
        else message
        for message in messages
    ]


def longest(messages: list[dict[str, Any]]) -> int:
    """Return the length of the longest text in any result, in characters."""
    return max((len(text) for message in messages for block in message["content"] for text in _texts(block)), default=0)


def _texts(block: dict[str, Any]) -> list[str]:
    if block.get("type") != "tool_result":
        return []
    content = block.get("content")
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or () if part.get("type") == "text"]


def _is_long(block: dict[str, Any], most_chars: int) -> bool:
    return any(len(text) > most_chars for text in _texts(block))


def _block(block: dict[str, Any], most_chars: int) -> dict[str, Any]:
    if not _is_long(block, most_chars):
        return block
    content = block["content"]
    if isinstance(content, str):
        return {**block, "content": _text(content, most_chars)}
    parts = [{**p, "text": _text(p["text"], most_chars)} if p.get("type") == "text" else p for p in content]
    return {**block, "content": parts}


def _text(text: str, most_chars: int) -> str:
    if len(text) <= most_chars:
        return text
    head = int(most_chars * _HEAD_SHARE)
    tail = most_chars - head
    return text[:head] + LEFT_OUT.format(count=len(text) - most_chars) + text[len(text) - tail :]
