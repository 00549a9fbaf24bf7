"""JSON schemas of tools, in a form that strict validators take and that still says the same."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from balancer.wire.loose import object_of

_DROPPED = frozenset({"$schema", "$id", "$comment"})
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLE = frozenset(
    {
        "items", "additionalItems", "unevaluatedItems", "contains", "not", "if", "then", "else", "propertyNames",
        "unevaluatedProperties",
    }
)  # fmt: skip

_DATA = frozenset({"enum", "const", "default", "examples"})
"""Their values are no schemas."""

_NARROW = frozenset(
    {
        "type", "format", "title", "description", "nullable", "enum", "items", "minItems", "maxItems", "properties",
        "required", "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "anyOf", "minimum",
        "maximum", "propertyOrdering",
    }
)  # fmt: skip
"""All that Gemini's `Schema` knows; a validator that reads JSON by such a list refuses every other word."""
_NARROW_FORMATS = frozenset({"date-time", "date", "time", "enum", "int32", "int64", "float", "double"})
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}

MAX_INLINED_NODES = 5000
"""So much may references grow a schema; what lies beyond is left open."""


def cleaned(
    schema: Any, *, narrow: bool = False, inline: bool = False, without: Collection[str] = ()
) -> dict[str, Any]:
    """Return a tool's schema as the root of a function's `parameters`: always an object's.

    `narrow` is for servers that know only a part of JSON Schema (Gemini): it loses constraints. `inline` puts in the
    place of every reference what it refers to. `without` are words to leave out.

    What is returned is shared by all requests with this schema, and must not be changed.
    """
    written = msgspec.json.encode(schema)
    if len(written) > REMEMBERED_MAX_BYTES:
        return _cleaned(schema, narrow, inline, without)
    key = (written, narrow, inline, tuple(without))
    found = _remembered.get(key)
    if found is None:
        if len(_remembered) >= REMEMBERED:
            _remembered.clear()
        found = _remembered[key] = _cleaned(schema, narrow, inline, without)
    return found


REMEMBERED = 512
REMEMBERED_MAX_BYTES = 16 * 1024
"""Clients offer the same tools with every request: so many schemas are kept as they were cleaned, none larger."""
_remembered: dict[tuple[bytes, bool, bool, tuple[str, ...]], dict[str, Any]] = {}


def _cleaned(schema: Any, narrow: bool, inline: bool, without: Collection[str]) -> dict[str, Any]:
    schema = Inliner(schema).inlined() if inline or narrow else schema
    root = _node(schema, frozenset({*_DROPPED, *without}) if without else _DROPPED, narrow=narrow)
    if "type" not in root:
        root = {"type": "object", **root}
    if root["type"] == "object":
        root.setdefault("properties", {})
    return root


def _node(schema: Any, dropped: frozenset[str] = _DROPPED, *, narrow: bool = False) -> dict[str, Any]:
    """Clean one schema; keys inside `properties`, and values that are data, are left alone."""
    if not isinstance(schema, dict):
        return {}
    if narrow:
        return _narrowed(schema, dropped)
    node: dict[str, Any] = {}
    for key, value in schema.items():
        if key in dropped or (key == "additionalProperties" and value == {}):
            continue
        node[key] = _value(key, value, dropped)
    kinds = node.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "object" in kinds and not isinstance(node.get("properties"), dict):
        node["properties"] = {}
    if "array" in kinds and "items" not in node:
        node["items"] = {}
    return node


def _value(key: str, value: Any, dropped: frozenset[str]) -> Any:
    if key in _MAPS and isinstance(value, dict):
        return {name: _node(sub, dropped) for name, sub in value.items()}
    if (key in _LISTS or key in _SINGLE) and isinstance(value, list):
        return [_node(sub, dropped) for sub in value]
    if key in _SINGLE and (isinstance(value, dict) or key == "items"):
        return _node(value, dropped)
    if key == "additionalProperties" and isinstance(value, dict):
        return _node(value, dropped)
    return value


# Narrow schemas


def _narrowed(schema: dict[str, Any], dropped: frozenset[str]) -> dict[str, Any]:
    """Return a schema in the words of Gemini's `Schema`, where every node says its type."""
    schema = _merged(schema)
    node = {key: schema[key] for key in schema if key in _NARROW and key not in dropped}
    _set_type(node, schema)
    _set_choices(node, schema, dropped)
    _set_values(node, schema)
    if node.get("format") not in _NARROW_FORMATS:
        node.pop("format", None)
    if node.get("type") == "object":
        properties = object_of(node.get("properties"))
        node["properties"] = {name: _typed(_node(sub, dropped, narrow=True)) for name, sub in properties.items()}
        required = [name for name in _list(node.get("required")) if name in node["properties"]]
        node["required"] = required
    else:
        node.pop("properties", None)
    if not node.get("required"):
        node.pop("required", None)
    if node.get("type") == "array":
        node["items"] = _typed(_node(_items(schema), dropped, narrow=True))
    else:
        node.pop("items", None)
    return node


def _merged(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with what all of its parts (`allOf`) say."""
    parts = [part for part in _list(schema.get("allOf")) if isinstance(part, dict)]
    if not parts:
        return schema
    whole: dict[str, Any] = {}
    for part in (*map(_merged, parts), {key: value for key, value in schema.items() if key != "allOf"}):
        properties = {**object_of(whole.get("properties")), **object_of(part.get("properties"))}
        required = [*_list(whole.get("required")), *_list(part.get("required"))]
        whole |= part
        whole |= {"properties": properties} if properties else {}
        whole |= {"required": list(dict.fromkeys(name for name in required if isinstance(name, str)))}
    return whole


def _set_type(node: dict[str, Any], schema: dict[str, Any]) -> None:
    """Say one type: the first that is not `null`, or the one that the other words mean."""
    kinds = schema.get("type")
    given = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)]
    if "null" in given:
        node["nullable"] = True
    named = next((kind for kind in given if kind != "null"), None)
    if named is None:
        named = "object" if isinstance(schema.get("properties"), dict) else "array" if "items" in schema else None
    if named is None and not given and ("enum" in schema or "const" in schema):
        values = [schema["const"]] if "const" in schema else _list(schema["enum"])
        named = next((_TYPES[type(value)] for value in values if type(value) in _TYPES), None)
    node.pop("type", None)
    if named is not None or given:
        node["type"] = named or "string"


def _set_choices(node: dict[str, Any], schema: dict[str, Any], dropped: frozenset[str]) -> None:
    """Say `oneOf` as `anyOf`, and a choice of `null` as `nullable`."""
    node.pop("anyOf", None)
    choices = [*_list(schema.get("anyOf")), *_list(schema.get("oneOf"))]
    narrowed = [_typed(_node(one, dropped, narrow=True)) for one in choices if object_of(one).get("type") != "null"]
    if len(narrowed) < len(choices):
        node["nullable"] = True
    if len(narrowed) == 1:
        node.update({**narrowed[0], **{key: node[key] for key in node if key != "type"}})
    elif narrowed and "properties" not in schema:
        node["anyOf"] = narrowed


def _set_values(node: dict[str, Any], schema: dict[str, Any]) -> None:
    """Say `const` and `enum` where they are strings; other values are told in the description."""
    if "const" not in schema and "enum" not in schema:
        return
    values = [schema["const"]] if "const" in schema else _list(schema["enum"])
    node.pop("enum", None)
    if None in values:
        node["nullable"] = True
    values = [value for value in values if value is not None and value != ""]
    if values and all(isinstance(value, str) for value in values):
        node["enum"] = values
    elif values:
        told = "One of: " + ", ".join(map(str, values))
        node["description"] = f"{node['description']} {told}" if node.get("description") else told


def _items(schema: dict[str, Any]) -> Any:
    """Return what an array's items are; of several, one after the other, the first."""
    items = schema.get("items")
    for given in (items, schema.get("prefixItems")):
        if isinstance(given, list) and given:
            return given[0]
        if isinstance(given, dict):
            return given
    return {}


def _typed(node: dict[str, Any]) -> dict[str, Any]:
    return node if "type" in node or "anyOf" in node else {**node, "type": "string"}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# References


class Inliner:
    """Puts in the place of every reference of a schema what it refers to; what refers to itself is left open."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._left = MAX_INLINED_NODES
        self._open: list[str] = []

    def inlined(self) -> Any:
        """Return the schema without references and definitions."""
        return self._value(self._root)

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(item) for item in value]
        if not isinstance(value, dict):
            return value
        if self._open:
            self._left -= 1
            if self._left < 0:
                return {}
        reference = value.get("$ref")
        if not isinstance(reference, str):
            return {key: self._sub(key, sub) for key, sub in value.items() if key not in ("$defs", "definitions")}
        beside = {key: sub for key, sub in value.items() if key not in ("$ref", "$defs", "definitions")}
        if reference in self._open:
            return beside
        self._open.append(reference)
        found = self._value(self._found(reference))
        self._open.pop()
        return {**found, **beside} if isinstance(found, dict) else beside

    def _sub(self, key: str, value: Any) -> Any:
        if key in _MAPS and isinstance(value, dict):  # its keys are names, whatever they are
            return {name: self._value(sub) for name, sub in value.items()}
        return value if key in _DATA else self._value(value)

    def _found(self, reference: str) -> Any:
        """Follow `#/$defs/name`."""
        if not reference.startswith("#"):
            return {}
        value = self._root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            value = value.get(name, {}) if isinstance(value, dict) else {}
        return value


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
