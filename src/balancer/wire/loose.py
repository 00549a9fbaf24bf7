"""JSON of others, of which nothing is certain: reading it, and taking from it what has the type that is needed."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

COUNTED_MAX = 10**12
"""A number that is not smaller counts no tokens."""

_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,15})?")
_DIGITS_MAX = 30
"""An integer with more digits is read as infinity: Python's time for one grows by the square of its length."""


def object_of(value: Any) -> dict[str, Any]:
    """Return `value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects_of(value: Any) -> list[dict[str, Any]]:
    """Return the objects among the items of `value`; none where it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def string_of(value: Any) -> str:
    """Return `value` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def count_of(value: Any) -> int | None:
    """Return the number that `value` counts; None: it counts nothing.

    Some servers write counts as floats or as strings. What is negative, absurdly large, or no number is not counted.
    """
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < COUNTED_MAX else None


def parsed(body: bytes | str) -> Any:
    """Return what JSON says, also where msgspec does not take it (lone surrogates, a number that is too large).

    Raises `ValueError` where it is no JSON, also for bytes that are not UTF-8, and `RecursionError`.
    """
    text = body if isinstance(body, str) else body.decode()
    return json.loads(text, parse_constant=_no_number, parse_int=_integer)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS_MAX else float("inf")


def decoded_object(body: bytes | str) -> dict[str, Any]:
    """Return the JSON object that `body` is, else an empty one. A lone surrogate becomes U+FFFD."""
    try:
        return object_of(msgspec.json.decode(body))
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        pass
    try:
        return object_of(_mended(parsed(body)))
    except (ValueError, RecursionError):
        return {}


def loosely_decoded(body: bytes | str) -> Any:
    """Return JSON as servers write it: NaN becomes null; a lone surrogate, or what is no UTF-8, becomes U+FFFD.

    Control characters in strings are taken as they are. Raises `ValueError` where it is no JSON, and `RecursionError`.
    """
    text = body if isinstance(body, str) else body.decode("utf-8-sig", "replace")
    return _mended(json.loads(text, parse_constant=lambda _: None, strict=False))


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)  # pairs have become one character by now
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return [_mended(item) for item in value] if isinstance(value, list) else value
