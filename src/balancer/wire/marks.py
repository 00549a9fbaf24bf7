"""The machine-readable words of an error: type, code, status, reasons, and the field that it names.

Every server has a shape of its own for errors. These words are looked for where servers put them, however deep: in
`error`, in a list of errors, in `details`, and in the answer of another provider that stands in it as a string.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

NESTED_MAX = 8
"""How many objects and lists may stand around a word."""

ENTRIES_MAX = 8
"""How many entries of a list are looked at."""

WORD_MAX_CHARS = 100
"""A longer string is no word for machines."""

WORDS_MAX = 16
"""How many words are kept."""

_KEYS = frozenset({"type", "code", "status", "reason", "error_type", "err_code", "errCode", "errorCode"})
_AROUND = frozenset({"error", "errors", "detail", "details", "metadata", "raw", "base_resp", "response", "innererror"})
_INNER = frozenset({"raw", "message"})
"""Where another provider's whole answer may stand as a string."""


class Marks(msgspec.Struct, frozen=True):
    """What an error says for machines. Empty: nothing."""

    type: str = ""
    code: str = ""
    others: tuple[str, ...] = ()
    param: str = ""


NOTHING = Marks()


def marks_of(body: bytes) -> Marks:
    """Return the machine-readable words of an answer's body, whatever it is."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return NOTHING
    return marks_in(value)


def marks_in(value: Any) -> Marks:
    """Return the machine-readable words of a decoded answer or error."""
    kind = code = param = ""
    others: list[str] = []
    for key, word in _words(value, 0):
        if word == "error":  # the Messages API's `type` of the whole answer
            continue
        if key == "type" and not kind:
            kind = word
        elif key == "code" and not code:
            code = word
        elif key == "param":
            param = param or word
        elif word not in others and len(others) < WORDS_MAX:
            others.append(word)
    return Marks(kind, code, tuple(others), param)


def _words(value: Any, nested: int) -> Iterator[tuple[str, str]]:
    if nested > NESTED_MAX:
        return
    if isinstance(value, list):
        for entry in value[:ENTRIES_MAX]:
            yield from _words(entry, nested + 1)
    elif isinstance(value, dict):
        yield from _words_of(value, nested)


def _words_of(found: dict[str, Any], nested: int) -> Iterator[tuple[str, str]]:
    """Yield an object's own words, then those of the errors inside it."""
    for key, value in found.items():
        if (key in _KEYS or key == "param") and isinstance(value, str | int) and not isinstance(value, bool):
            word = value if isinstance(value, str) else str(value)[:WORD_MAX_CHARS]
            if 0 < len(word) <= WORD_MAX_CHARS:
                yield key, word
    for key, value in found.items():
        if key in _AROUND and isinstance(value, dict | list):
            yield from _words(value, nested + 1)
        elif key in _INNER and isinstance(value, str) and value.lstrip()[:1] == "{":
            yield from _words(_decoded(value), nested + 1)


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
