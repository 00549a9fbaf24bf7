"""Thinking that a server writes into the text, between `<think>` and `</think>`."""

from __future__ import annotations

from typing import NamedTuple

_OPEN, _CLOSE = "<think>", "</think>"

HELD_MAX_CHARS = 1_000_000
"""Longer text without any tag is no thinking."""


class TextPart(NamedTuple):
    """A piece of what was said."""

    thinking: bool
    text: str


class ThinkTags:
    """Splits text as it comes; what may be the beginning of a tag is held until it is known.

    Some templates have begun the thinking already, so that all that comes of it is `</think>`. Text in front of the
    first tag is therefore held until it is known what it is. `implicit`: it is thinking, and not held.
    """

    def __init__(self, *, implicit: bool = False) -> None:
        self._thinking = implicit
        self._implicit = implicit
        self._held = ""
        """What may be the beginning of a tag."""
        self._unknown: list[str] | None = None if implicit else []
        """Text before any tag; None: one has come, or it is known without."""
        self._unknown_chars = 0
        self._untold = implicit
        """No tag has come yet, and all that has come was told as thinking."""
        self._told: list[str] = []

    def split(self, text: str) -> list[TextPart]:
        """Return the parts that are certain, in order, without the tags."""
        parts: list[TextPart] = []
        if self._unknown is not None:
            text = self._begin(self._unknown, text, parts)
        if not text:
            return parts
        text, self._held = self._held + text, ""
        begin = 0
        while (at := text.find(self._awaited, begin)) >= 0:
            self._tell(parts, text[begin:at])
            begin = at + len(self._awaited)
            self._thinking, self._untold = not self._thinking, False
        text = text[begin:]
        certain = len(text) - _overlap(text, self._awaited)
        self._held = text[certain:]
        self._tell(parts, text[:certain])
        return parts

    def _tell(self, parts: list[TextPart], text: str) -> None:
        parts.append(TextPart(self._thinking, text))
        if self._untold:
            self._told.append(text)

    def _begin(self, unknown: list[str], text: str, parts: list[TextPart]) -> str:
        """Take text before any tag; return what follows it once a tag has come."""
        text, self._held = self._held + text, ""
        opens, closes = text.find(_OPEN), text.find(_CLOSE)
        if opens < 0 and closes < 0:
            certain = len(text) - max(_overlap(text, _OPEN), _overlap(text, _CLOSE))
            self._held = text[certain:]
            unknown.append(text[:certain])
            self._unknown_chars += certain
            if self._unknown_chars > HELD_MAX_CHARS:
                parts += self.rest()
            return ""
        ends = opens < 0 or 0 <= closes < opens
        at, tag = (closes, _CLOSE) if ends else (opens, _OPEN)
        parts.append(TextPart(ends, "".join([*unknown, text[:at]])))
        self._unknown, self._thinking = None, not ends
        return text[at + len(tag) :]

    def rest(self, *, end: bool = False) -> list[TextPart]:
        """Return what is still held: it was no tag. `end`: the answer has ended as it should, with nothing but text."""
        held, self._held = self._held, ""
        if self._unknown is not None:
            held, self._unknown = "".join([*self._unknown, held]), None
        elif self._untold and end:  # it did not think: what was taken for thinking is the answer
            held, self._untold = "".join([*self._told, held]), False
            return [TextPart(False, held)]
        return [TextPart(self._thinking, held)]

    @property
    def _awaited(self) -> str:
        return _CLOSE if self._thinking else _OPEN


def _overlap(text: str, tag: str) -> int:
    """Return how many characters at the end of `text` may begin `tag`."""
    return next((size for size in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-size:])), 0)
