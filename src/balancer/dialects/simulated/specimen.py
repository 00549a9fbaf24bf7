"""The smallest value that fits a JSON schema: arguments for a tool that is only pretended to be used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_DEEPEST = 12
"""A schema may refer to itself; what is deeper than this is given as null."""

_MOST = 2000
"""So many values at most: few lines of a schema that refers to itself can ask for billions."""

_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "nobody@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "127.0.0.1",
}


def specimen(schema: Any) -> Any:
    """Return a value that fits `schema`: required parts only, the least of each. Raises nothing.

    A string's `pattern` is not looked at.
    """
    root = schema if isinstance(schema, Mapping) else {}
    return _value(root, _Whole(root), 0)


@dataclass(slots=True)
class _Whole:
    """The schema that references point into, and how much may still be made of it."""

    root: Mapping[str, Any]
    left: int = _MOST


def _value(schema: Any, whole: _Whole, depth: int) -> Any:
    whole.left -= 1
    if not isinstance(schema, Mapping) or depth > _DEEPEST or whole.left < 0:
        return None
    schema = _resolved(schema, whole, depth)
    if "const" in schema:
        return schema["const"]
    if "default" in schema:
        return schema["default"]
    for choices in ("enum", "examples"):
        if isinstance(schema.get(choices), list) and schema[choices]:
            return schema[choices][0]
    for choices in ("anyOf", "oneOf"):
        if isinstance(schema.get(choices), list) and schema[choices]:
            return _value(schema[choices][0], whole, depth + 1)
    return _typed(schema, whole, depth)


def _resolved(schema: Mapping[str, Any], whole: _Whole, depth: int) -> Mapping[str, Any]:
    """Follow `$ref` within the schema, and lay the parts of `allOf` over each other."""
    for _ in range(_DEEPEST):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            break
        found: Any = whole.root
        for name in reference[1:].split("/")[1:]:
            found = found.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        schema = found if isinstance(found, Mapping) else {}
    parts = schema.get("allOf")
    merged = dict(schema)
    for part in parts[:_DEEPEST] if isinstance(parts, list) else ():
        whole.left -= 1
        if isinstance(part, Mapping) and depth < _DEEPEST and whole.left >= 0:
            for key, value in _resolved(part, whole, depth + 1).items():
                merged[key] = _joined(merged.get(key), value)
    return merged


def _joined(first: Any, second: Any) -> Any:
    """Return what two parts say together: properties and names add up, else the later one counts."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {**first, **second}
    if isinstance(first, list) and isinstance(second, list):
        return [*first, *second]
    return second


def _typed(schema: Mapping[str, Any], whole: _Whole, depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    match kind or ("object" if "properties" in schema or "required" in schema else None):
        case "object":
            return _object(schema, whole, depth)
        case "array":
            count = _count(schema.get("minItems"))
            return [_value(schema.get("items") or {"type": "string"}, whole, depth + 1) for _ in range(count)]
        case "string":
            return _string(schema)
        case "integer" | "number" as sort:
            return _number(schema, whole=sort == "integer")
        case "boolean":
            return False
        case _:
            return None if depth else {}


def _object(schema: Mapping[str, Any], whole: _Whole, depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    required = schema.get("required")
    names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    return {name: _value(known.get(name, {"type": "string"}), whole, depth + 1) for name in names}


def _string(schema: Mapping[str, Any]) -> str:
    text = _FORMATS.get(str(schema.get("format")), "simulated")
    least, most = _count(schema.get("minLength")), schema.get("maxLength")
    text = text.ljust(least, ".")
    return text[:most] if isinstance(most, int) and most >= 0 else text


def _number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    step = schema.get("multipleOf")
    by: float = step if isinstance(step, int | float) and step > 0 else 1
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    value: float = 0
    if isinstance(low, int | float) and low > 0:
        value = math.ceil(low / by) * by
    if isinstance(above, int | float) and not isinstance(above, bool) and above >= value:
        value = (math.floor(above / by) + 1) * by
    if isinstance(high, int | float) and high < value:
        value = math.floor(high / by) * by if whole or step else high
    if isinstance(below, int | float) and not isinstance(below, bool) and below <= value:
        value = (math.ceil(below / by) - 1) * by
    return int(value) if whole or float(value).is_integer() else value


def _count(value: Any) -> int:
    return min(value, 64) if isinstance(value, int) and value > 0 else 0
