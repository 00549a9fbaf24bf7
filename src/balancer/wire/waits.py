"""How long a provider asks to be left alone, where that stands in the body of its refusal and in no header."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

NESTED_MAX = 8
"""How many objects and lists may stand around a wait."""

ENTRIES_MAX = 32
"""How many entries of an object or list are looked at."""

LOOKED_AT_CHARS = 2048
LONGEST_S = 31 * 86400.0
"""A longer time is none that anybody waits for."""

LEAST_DATE_S = 1e8
"""A larger number of seconds is no duration but a date."""

_AMOUNT = (
    r"\d{1,12}(?:\.\d{1,9})?\s?(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![a-z])"
)
_DURATION = rf"{_AMOUNT}(?:(?:,|\s|\s?and\s){{0,2}}{_AMOUNT}){{0,3}}"
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s?(ms|milli|s|m|h|d)", re.IGNORECASE)
_UNITS_S = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WORDS = re.compile(
    r"(?:retry|try|again|wait|resets?|available|retried|come back)\b[^.\d]{0,40}?(?:after|in|for|within|least|:)\s"
    rf"(?:about |approximately |at least |another )?({_DURATION})",
    re.IGNORECASE,
)
_WHOLE = re.compile(rf"\s{{0,4}}({_DURATION})\s{{0,4}}", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,9})?")

_IN_SECONDS = frozenset(
    {"retrydelay", "retryafter", "retryafterseconds", "retryin", "resetin", "resetsinseconds", "resetinseconds",
     "retryafters", "waitseconds", "xratelimitreset", "resetsat", "resetat"}
)  # fmt: skip
_IN_MILLISECONDS = frozenset({"retryafterms", "retryaftermilliseconds", "xratelimitresetafterms"})


def stated_wait_s(body: Any, message: str, wall: float) -> float | None:
    """Return the wait that a refusal names, in seconds; None: it names none.

    `body` is the refusal as it was decoded, `message` its words, `wall` now, in seconds since the epoch. What stands in
    a field is surer than words.
    """
    found = [wait_s for wait_s in _fields(body, wall, 0) if 0 <= wait_s <= LONGEST_S]
    if found:
        return float(math.ceil(max(found)))
    match = _WORDS.search(message[:LOOKED_AT_CHARS])
    wait_s = _duration_s(match.group(1)) if match else None
    return None if wait_s is None or wait_s > LONGEST_S else float(math.ceil(wait_s))


def _fields(value: Any, wall: float, nested: int) -> Iterator[float]:
    if nested > NESTED_MAX:
        return
    if isinstance(value, list):
        for entry in value[:ENTRIES_MAX]:
            yield from _fields(entry, wall, nested + 1)
    elif isinstance(value, dict):
        for key, entry in list(value.items())[:ENTRIES_MAX]:
            if isinstance(entry, dict | list):
                yield from _fields(entry, wall, nested + 1)
            elif isinstance(key, str) and (wait_s := _field_s(key, entry, wall)) is not None:
                yield wait_s


def _field_s(key: str, value: Any, wall: float) -> float | None:
    name = "".join(filter(str.isalnum, key[:40].lower()))
    unit_s = 0.001 if name in _IN_MILLISECONDS else 1.0 if name in _IN_SECONDS else None
    if unit_s is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = value[:40].strip()
        if not _NUMBER.fullmatch(value):
            return _duration_s(match.group(1)) if (match := _WHOLE.fullmatch(value)) else None
        value = float(value)
    if not isinstance(value, int | float) or not 0 <= value < 1e15:
        return None
    if value * unit_s < LEAST_DATE_S:
        return value * unit_s
    return max(0.0, (value / 1000 if value > LEAST_DATE_S * 1000 else value) - wall)


def _duration_s(text: str) -> float | None:
    """Read `34s`, `1m2.5s`, `26 seconds`, `2 hours and 3 minutes`."""
    return sum(float(number) * _UNITS_S[unit.lower()] for number, unit in _PART.findall(text))
