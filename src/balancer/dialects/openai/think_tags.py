"""Thinking that a server writes into the text, between `<think>` and `</think>`."""

from __future__ import annotations

from typing import NamedTuple

_OPEN, _CLOSE = "<think>", "</think>"


class TextPart(NamedTuple):
    """A piece of what was said."""

    thinking: bool
    text: str


class ThinkTags:
    """Splits text as it comes; what may be the beginning of a tag is held until it is known."""

    def __init__(self) -> None:
        self._thinking = False
        self._held = ""

    def split(self, text: str) -> list[TextPart]:
        """Return the parts that are certain, in order, without the tags."""
        text, self._held = self._held + text, ""
        parts: list[TextPart] = []
        while (at := text.find(self._awaited)) >= 0:
            parts.append(TextPart(self._thinking, text[:at]))
            text = text[at + len(self._awaited) :]
            self._thinking = not self._thinking
        certain = len(text) - _overlap(text, self._awaited)
        self._held = text[certain:]
        return [*parts, TextPart(self._thinking, text[:certain])]

    def rest(self) -> list[TextPart]:
        """Return what is still held: it was no tag."""
        held, self._held = self._held, ""
        return [TextPart(self._thinking, held)]

    @property
    def _awaited(self) -> str:
        return _CLOSE if self._thinking else _OPEN


def _overlap(text: str, tag: str) -> int:
    """Return how many characters at the end of `text` may begin `tag`."""
    return next((size for size in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-size:])), 0)
