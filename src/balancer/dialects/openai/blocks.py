"""Content blocks of the Messages API as text and as parts of a Chat message."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeAlias

import msgspec

from balancer import claude_code
from balancer.dialect import Incapable
from balancer.dialects.openai.profiles import Capabilities
from balancer.wire.history import ran_elsewhere, search_result, tool_name
from balancer.wire.loose import object_of, objects_of

Block: TypeAlias = dict[str, Any]
Part: TypeAlias = dict[str, Any]

NO_OUTPUT = "(no output)"


def content(value: Any) -> list[Block]:
    """Return a message's content as blocks, whichever form it has."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    return objects_of(value)


def text_of(block: Block) -> str:
    """Return a text block's text; empty where it is only white space, which servers refuse."""
    text = block.get("text")
    return text if isinstance(text, str) and text.strip() else ""


class Blocks:
    """Converts single blocks for one server. Raises `Incapable` for what the server can't take."""

    def __init__(self, can: Capabilities, provider: str, dropped: Counter[str]) -> None:
        self._can = can
        self._marks = can.cache_marks == "all"
        self._provider = provider
        self._dropped = dropped

    def parts(self, block: Block) -> list[Part]:
        """Return what a block of a user's turn becomes."""
        match block.get("type"):
            case "text":
                return self._marked(_text(text_of(block)), block) if self._marks else _text(text_of(block))
            case "image":
                return [self._image(block)]
            case "document":
                return self._document(block)
            case "search_result":
                return _text(search_result(block))
            case "thinking":
                return []
            case _:
                return _text(self.assistant_text(block))

    def _marked(self, parts: list[Part], block: Block) -> list[Part]:
        if parts and (mark := cache_mark(block)):
            parts[-1]["cache_control"] = mark
        return parts

    def result(self, block: Block) -> tuple[str, list[Part]]:
        """Return a tool result as the text of its tool message, and the media that can't be in it."""
        texts: list[str] = []
        media: list[Part] = []
        for inner in content(block.get("content")):
            match inner.get("type"):
                case "text":
                    texts.append(text_of(inner))
                case "image":
                    media.append(self._image(inner))
                    texts.append("[image: see the next user message]")
                case "document":
                    self._result_document(inner, texts, media)
                case "tool_reference":
                    texts.append(f"[tool loaded: {inner.get('tool_name') or inner.get('name')}]")
                case "search_result":
                    texts.append(search_result(inner))
                case _:
                    told = {key: value for key, value in inner.items() if key != "cache_control"}
                    texts.append(msgspec.json.encode(told).decode())
        text = "\n".join(filter(None, texts)) or NO_OUTPUT
        return (f"Error: {text}" if block.get("is_error") is True else text), media

    def _result_document(self, block: Block, texts: list[str], media: list[Part]) -> None:
        for part in self._document(block):
            if part["type"] == "text":
                texts.append(part["text"])
            else:
                media.append(part)
                texts.append("[document: see the next user message]")

    def _image(self, block: Block) -> Part:
        if not self._can.vision:
            raise self._unable("image", "image", "has no image input", "text")
        source = object_of(block.get("source"))
        match source.get("type"):
            case "base64":
                url = f"data:{source.get('media_type') or 'image/png'};base64,{source.get('data', '')}"
            case "url":
                url = str(source.get("url", ""))
            case kind:
                raise self._unable("image", f"image source '{kind}'", "can't fetch it", "a base64 or url source")
        return {"type": "image_url", "image_url": {"url": url}}

    def _document(self, block: Block) -> list[Part]:
        source = object_of(block.get("source"))
        heading = [str(block[key]) for key in ("title", "context") if block.get(key)]
        match source.get("type"):
            case "text":
                return _text("\n".join([*heading, str(source.get("data", ""))]))
            case "content":
                inner = [part for sub in content(source.get("content")) for part in self.parts(sub)]
                return [*_text("\n".join(heading)), *inner]
            case "url":
                return _text(f"[document: {source.get('url', '')}]")
            case "base64" if self._can.files:
                return [_file(source, str(block.get("title") or "document"))]
            case "base64":
                raise self._unable("PDF", "document (PDF)", "takes text only", "the document's text")
            case kind:
                raise self._unable("PDF", f"document source '{kind}'", "can't fetch it", "a base64 or text source")

    def _unable(self, kind: str, what: str, why: str, remedy: str) -> Incapable:
        """Begin with the words at which Claude Code takes such blocks out of its history and asks again."""
        return Incapable(
            f"{claude_code.could_not_process(kind)}the block {what} can't be sent: provider '{self._provider}' {why}; "
            f"send {remedy}, or route this model to a provider that can"
        )

    def assistant_text(self, block: Block) -> str:
        """Return what a block that is no tool call says in plain text: text, or what ran on Anthropic's servers."""
        kind = str(block.get("type"))
        if kind in ("text", "compaction"):
            return text_of(block) or _plain(block.get("content"))
        said = ran_elsewhere(block)
        if said is not None:
            return said
        self._dropped[kind] += 1
        return ""


def cache_mark(block: Block) -> dict[str, Any] | None:
    """Return a block's `cache_control`, in the words that are known; None: it has none."""
    mark = block.get("cache_control")
    if not isinstance(mark, dict) or not isinstance(mark.get("type"), str):
        return None
    return {key: mark[key] for key in ("type", "ttl") if isinstance(mark.get(key), str)}


def system_text(block: Block, dropped: Counter[str]) -> str:
    """Return what a block of a system prompt, or of a system message in the middle, says."""
    match block.get("type"):
        case "text" | None:
            return claude_code.without_billing(text_of(block))
        case "tool_addition":
            return f"[tool added: {tool_name(block.get('tool'))}]"
        case "tool_removal":
            return f"[tool removed: {tool_name(block.get('tool'))}]"
        case kind:
            dropped[str(kind)] += 1
            return ""


def _text(text: str) -> list[Part]:
    return [{"type": "text", "text": text}] if text.strip() else []


def _file(source: Block, title: str) -> Part:
    name = title if title.lower().endswith(".pdf") else f"{title}.pdf"
    data = f"data:{source.get('media_type') or 'application/pdf'};base64,{source.get('data', '')}"
    return {"type": "file", "file": {"filename": name, "file_data": data}}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value.strip() else ""
