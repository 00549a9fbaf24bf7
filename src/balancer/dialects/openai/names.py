"""Names and ids that fit a server's limits, by pure functions, with a way back."""

from __future__ import annotations

import hashlib
import re

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_-]")
_HASH_CHARS = 8
_ID_HASH_CHARS = 16


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


class Names:
    """The names of one request's tools: as the client wrote them, and as the server may see them."""

    def __init__(self, name_max: int) -> None:
        self._max = name_max
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
        if 0 < len(name) <= self._max and not _NOT_PLAIN.search(name):
            return name
        kept = _NOT_PLAIN.sub("_", name)[: self._max - _HASH_CHARS - 1]
        return f"{kept}_{_digest(name)[:_HASH_CHARS]}"


def tool_id(identifier: str, longest: int) -> str:
    """Return a tool call's id that is plain and not too long; the same one for the same id, always."""
    if 0 < len(identifier) <= longest and not _NOT_PLAIN.search(identifier):
        return identifier
    return f"call_{_digest(identifier)[:_ID_HASH_CHARS]}"[:longest]


def plain_id(identifier: str) -> str:
    """Return a server's id in the characters that the Messages API takes."""
    return _NOT_PLAIN.sub("_", identifier)
