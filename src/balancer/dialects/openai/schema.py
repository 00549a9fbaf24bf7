"""JSON schemas of tools, in a form that strict validators take and that still says the same."""

from __future__ import annotations

from typing import Any

_DROPPED = frozenset({"$schema", "$id", "$comment"})
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLE = frozenset(
    {
        "items", "additionalItems", "unevaluatedItems", "contains", "not", "if", "then", "else", "propertyNames",
        "unevaluatedProperties",
    }
)  # fmt: skip

_NARROW_DROPPED = _DROPPED | {"additionalProperties", "patternProperties", "propertyNames", "default", "examples"}
_NARROW_FORMATS = frozenset({"date-time", "date", "time", "enum", "int32", "int64", "float", "double"})


def cleaned(schema: Any, *, narrow: bool = False) -> dict[str, Any]:
    """Return a tool's schema as the root of a function's `parameters`: always an object's.

    `narrow` is for servers that know only a part of JSON Schema (Gemini): it loses constraints.
    """
    root = _node(schema, narrow)
    if "type" not in root:
        root = {"type": "object", **root}
    if root["type"] == "object":
        root.setdefault("properties", {})
    return root


def _node(schema: Any, narrow: bool) -> dict[str, Any]:
    """Clean one schema; keys inside `properties`, and values that are data, are left alone."""
    if not isinstance(schema, dict):
        return {}
    dropped = _NARROW_DROPPED if narrow else _DROPPED
    node: dict[str, Any] = {}
    for key, value in schema.items():
        if key in dropped or (key == "additionalProperties" and value == {}):
            continue
        node[key] = _value(key, value, narrow)
    kinds = node.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "object" in kinds and not isinstance(node.get("properties"), dict):
        node["properties"] = {}
    if "array" in kinds and "items" not in node:
        node["items"] = {}
    return _narrowed(node) if narrow else node


def _value(key: str, value: Any, narrow: bool) -> Any:
    if key in _MAPS and isinstance(value, dict):
        return {name: _node(sub, narrow) for name, sub in value.items()}
    if (key in _LISTS or key in _SINGLE) and isinstance(value, list):
        return [_node(sub, narrow) for sub in value]
    if key in _SINGLE and (isinstance(value, dict) or key == "items"):
        return _node(value, narrow)
    if key == "additionalProperties" and isinstance(value, dict):
        return _node(value, narrow)
    return value


def _narrowed(node: dict[str, Any]) -> dict[str, Any]:
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if node.get("format") not in _NARROW_FORMATS:
        node.pop("format", None)
    kinds = node.get("type")
    if isinstance(kinds, list):
        node["type"] = next((kind for kind in kinds if kind != "null"), "string")
        if "null" in kinds:
            node["nullable"] = True
    return node


def is_strict(schema: Any) -> bool:
    """Say whether a schema already satisfies OpenAI's strict mode: closed objects, all keys required."""
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        keys = set(properties) if isinstance(properties, dict) else set()
        if schema.get("additionalProperties") is not False or set(schema.get("required") or ()) != keys:
            return False
    nested = [sub for key in _MAPS for sub in _subs(schema.get(key))]
    nested += [schema[key] for key in (*_LISTS, *_SINGLE) if key in schema]
    return all(map(is_strict, nested))


def _subs(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []
