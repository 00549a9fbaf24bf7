"""The arguments of one tool call as they come: what of them may be sent at once, and what they are in the end.

Servers say arguments in fragments of JSON. Some begin with `{}` and go on with the real ones, some say them whole once
more at the end, some put raw line breaks into strings, or a whole object into a string. A client runs what it gets, so
the end of an object is held back until nothing else came, and what can't be made sense of is a failure.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from balancer import claude_code
from balancer.model import Fault
from balancer.wire.errors import broken
from balancer.wire.loose import loosely_decoded

_OUTSIDE = re.compile(r'["{}\[\]]')
_INSIDE = re.compile(r'["\\\x00-\x1f]')
_CONTROL = {chr(code): f"\\u{code:04x}" for code in range(32)} | {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

ENCODED_MAX = 3
"""So many times at most an object may have been encoded as a string."""


class Unusable(Exception):
    """What came can't be made an answer of."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Arguments:
    """The arguments of one call. `held`: nothing of them is sent before they are known to be all."""

    __slots__ = (
        "_again",
        "_begun",
        "_closed",
        "_depth",
        "_escaped",
        "_in_string",
        "_late",
        "_parts",
        "_sent",
        "held",
        "whole",
    )

    def __init__(self, *, held: bool = False) -> None:
        self.held = held
        self.whole = False
        """They are one object, as far as its brackets tell."""
        self._parts: list[str] = []
        self._sent = 0
        """How many parts the client has."""
        self._begun = False
        """They begin as an object does."""
        self._depth = 0
        self._in_string = self._escaped = False
        self._closed = self._late = False
        self._again: Arguments | None = None
        """What was said once more when some of it had been sent already."""

    @property
    def written(self) -> str:
        return "".join(self._parts)

    @property
    def open(self) -> bool:
        """They have begun, and are not whole."""
        return not self.whole and bool(self._parts)

    @property
    def may_be_said_again(self) -> bool:
        """They are an empty object: so some servers begin those that do come."""
        return self.whole and not self._sent and len(self._parts) == 1 and self._parts[0].strip() == "{}"

    def add(self, text: str) -> None:
        """Take a fragment."""
        while text:
            if self._again is not None:
                self._again.add(text)
                return
            if self.whole:
                rest = text.strip()
                if not rest:
                    return
                if rest.startswith("{"):
                    self._restart()
                    continue
                if self._closed:
                    self._late = True
                    return
                self.whole = False  # what no object can end with: it is none
                self._begun = False
            if self._closed:
                self._late = self._late or bool(text.strip())
                return
            if not self._begun:
                self._begun = not self._parts and text.lstrip().startswith("{")
                if not self._begun:
                    if self._parts or text.strip():
                        self._parts.append(text)
                    return
            text = self._read(text)

    def _restart(self) -> None:
        """Take what comes next for the same arguments once more: if none of them was sent, the later ones count."""
        if self._sent:
            self._again = Arguments(held=True)
            return
        self._parts.clear()
        self.whole = self._begun = False

    def _read(self, text: str) -> str:
        """Take text up to the end of the object, and return what follows it. Control characters are escaped."""
        at = start = 0
        clean: list[str] = []
        if self._escaped:
            at, self._escaped = 1, False
        while at < len(text):
            found = (_INSIDE if self._in_string else _OUTSIDE).search(text, at)
            if found is None:
                break
            at = found.end()
            match found.group():
                case '"':
                    self._in_string = not self._in_string
                case "\\":
                    self._escaped = at == len(text)
                    at += 1
                case "{" | "[":
                    self._depth += 1
                case "}" | "]":
                    self._depth -= 1
                    if self._depth == 0:
                        self.whole = True
                        break
                case control:
                    clean += text[start : at - 1], _CONTROL[control]
                    start = at
        else:
            at = len(text)
        end = at if self.whole else len(text)
        self._parts.append("".join([*clean, text[start:end]]) if clean else text[start:end])
        return text[end:]

    def ready(self) -> str:
        """Return what may be sent by now, once: what can only be the beginning of an object."""
        if self.held or self.whole or not self._begun or self._sent == len(self._parts):
            return ""
        fresh = "".join(self._parts[self._sent :]) if self._sent else self.written
        self._sent = len(self._parts)
        return fresh

    def rest(self) -> str:
        """Return what is left to be sent at their end. Raises `Unusable` where that is not what was meant."""
        fresh = "".join(self._parts[self._sent :])
        if self._sent:
            self._closed = True
            self._sent = len(self._parts)
            if not is_object(self.written):
                cut = self._begun and not self.whole
                raise Unusable(
                    broken(f"the arguments of a tool call {'were cut short' if cut else 'are no JSON object'}")
                )
            self.check()
            return fresh
        self._closed = True
        self._sent = max(1, len(self._parts))
        return fresh if is_object(fresh) else _meant(fresh)

    def check(self) -> None:
        """Raise `Unusable` where the client has something else than what was said in the end."""
        if self._late:
            raise Unusable(broken("the arguments of a tool call went on after their end"))
        if self._again is not None and not _same(self._again.written, self.written):
            raise Unusable(broken("the arguments of a tool call were said twice, and differently"))

    def cut(self) -> str:
        """Return what is left to be sent of arguments that a limit cut short."""
        if not self._begun:
            return ""
        fresh = "".join(self._parts[self._sent :])
        self._sent = len(self._parts)
        return fresh


def is_object(written: str) -> bool:
    """Say whether this is a JSON object as any client reads it."""
    try:
        return isinstance(msgspec.json.decode(written), dict)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        pass
    try:  # a lone surrogate, in its escaped form, is no fault of a client's parser
        return isinstance(json.loads(written, parse_constant=_refuse), dict)
    except (RecursionError, ValueError):
        return False


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _same(one: str, other: str) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except (RecursionError, ValueError):
        return one == other


def _meant(written: str) -> str:
    """Return the object that is meant by what is none."""
    value = arguments(written)
    return msgspec.json.encode(value).decode() if value else ""


def arguments(written: str) -> dict[str, Any]:
    """Return a tool call's arguments, always an object.

    What can't be parsed comes in the marker that Claude Code makes of it itself: the model is told of a clean error,
    instead of the tool being run with defaults.
    """
    if not written.strip() or written.strip() == "null":
        return {}
    value: Any = written
    for _ in range(ENCODED_MAX):
        try:
            value = loosely_decoded(value)
        except (RecursionError, ValueError):
            break
        if not isinstance(value, str):
            break
    return value if isinstance(value, dict) else claude_code.unparsed_input(written)
