"""Names and ids that fit a server's limits, by pure functions, with a way back."""

from __future__ import annotations

import hashlib
import re

from balancer.dialects.openai.profiles import ToolId, ToolName

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_-]")
_NOT_A_WORD = re.compile(r"[^A-Za-z0-9_]")
_BEGINS = re.compile(r"[A-Za-z_]")
_NINE = re.compile(r"[A-Za-z0-9]{9}")
_HASH_CHARS = 8
_ID_HASH_CHARS = 16


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


class Names:
    """The names of one request's tools: as the client wrote them, and as the server may see them."""

    def __init__(self, name_max: int, form: ToolName = "plain") -> None:
        self._max = name_max
        self._form = form
        self._odd = _NOT_A_WORD if form == "word" else _NOT_PLAIN
        self._out: dict[str, str] = {}
        self.back: dict[str, str] = {}
        """Only the names that had to be changed: the server's to the client's."""

    def out(self, name: str) -> str:
        """Return the name that the server is told; the same one for the same name, always."""
        known = self._out.get(name)
        if known is None:
            known = self._out[name] = self._fit(name)
            if known != name:
                self.back[known] = name
        return known

    def _fit(self, name: str) -> str:
        begins_well = self._form == "plain" or _BEGINS.match(name)
        if 0 < len(name) <= self._max and begins_well and not self._odd.search(name):
            return name
        kept = ("" if begins_well else "t_") + self._odd.sub("_", name)
        kept = kept[: self._max - _HASH_CHARS - 1]
        return f"{kept}_{_digest(name)[:_HASH_CHARS]}"


def tool_id(identifier: str, longest: int, form: ToolId = "plain") -> str:
    """Return a tool call's id that is plain and not too long; the same one for the same id, always."""
    if form == "alnum9":
        return identifier if _NINE.fullmatch(identifier) else _digest(identifier)[:9]
    if 0 < len(identifier) <= longest and not _NOT_PLAIN.search(identifier):
        return identifier
    return f"call_{_digest(identifier)[:_ID_HASH_CHARS]}"[:longest]


def plain_id(identifier: str) -> str:
    """Return a server's id in the characters that the Messages API takes."""
    return _NOT_PLAIN.sub("_", identifier)
