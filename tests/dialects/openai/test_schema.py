"""Schemas: what strict validators stumble over is mended, what they mean stays."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.dialects.openai.schema import cleaned, is_strict

EMPTY: dict[str, Any] = {"type": "object", "properties": {}}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "no schema": (None, EMPTY),
    "no type": ({"properties": {"a": {"type": "string"}}}, {"type": "object", "properties": {"a": {"type": "string"}}}),
    "no properties": ({"type": "object"}, EMPTY),
    "no items": (
        {"type": "object", "properties": {"a": {"type": "array"}}},
        {"type": "object", "properties": {"a": {"type": "array", "items": {}}}},
    ),
    "no items beside null": (
        {"type": "object", "properties": {"a": {"type": ["array", "null"]}}},
        {"type": "object", "properties": {"a": {"type": ["array", "null"], "items": {}}}},
    ),
    "a tuple": (
        {
            "type": "object",
            "properties": {"a": {"type": "array", "prefixItems": [{"$id": 1}], "additionalItems": {"$id": 1}}},
        },
        {
            "type": "object",
            "properties": {"a": {"type": "array", "prefixItems": [{}], "additionalItems": {}, "items": {}}},
        },
    ),
    "marks": ({"$schema": "x", "$id": "y", "$comment": "z", **EMPTY}, EMPTY),
    "keys that are names": (
        {"type": "object", "properties": {"$schema": {"type": "string"}, "type": {"type": "string"}}},
        {"type": "object", "properties": {"$schema": {"type": "string"}, "type": {"type": "string"}}},
    ),
    "open objects": ({**EMPTY, "additionalProperties": {}}, EMPTY),
    "closed objects": ({**EMPTY, "additionalProperties": False}, {**EMPTY, "additionalProperties": False}),
    "a union at the root": ({"anyOf": [{"type": "object"}]}, {"anyOf": [EMPTY], **EMPTY}),
    "true": ({"type": "object", "properties": {"a": True}}, {"type": "object", "properties": {"a": {}}}),
    "data is no schema": (
        {**EMPTY, "default": {"$id": 1}, "enum": [{"type": "array"}]},
        {**EMPTY, "default": {"$id": 1}, "enum": [{"type": "array"}]},
    ),
    "definitions": ({**EMPTY, "$defs": {"a": {"type": "object"}}}, {**EMPTY, "$defs": {"a": EMPTY}}),
}


@pytest.mark.parametrize(("schema", "expected"), CASES.values(), ids=CASES)
def test_cleaned(schema: Any, expected: dict[str, Any]) -> None:
    assert cleaned(schema) == expected


def test_narrow() -> None:
    node = {"type": ["string", "null"], "format": "uri", "default": "x"}
    schema = {"type": "object", "properties": {"a": node, "b": {"const": 1}}, "additionalProperties": False}

    assert cleaned(schema, narrow=True)["properties"] == {
        "a": {"type": "string", "nullable": True},
        "b": {"type": "integer", "description": "One of: 1"},
    }
    assert "additionalProperties" not in cleaned(schema, narrow=True)


CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def test_strict() -> None:
    assert is_strict(CLOSED)
    assert not is_strict({**CLOSED, "required": []})
    assert not is_strict({**CLOSED, "additionalProperties": True})
    assert not is_strict({**CLOSED, "properties": {"a": {"type": "object"}}})
    assert is_strict({**CLOSED, "properties": {"a": {"type": "array", "items": CLOSED}}})


NARROW: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "words that are not known": (
        {"type": "integer", "exclusiveMinimum": 0, "multipleOf": 2, "minimum": 1},
        {"type": "integer", "minimum": 1},
    ),
    "choices of one": ({"oneOf": [{"type": "string"}, {"type": "null"}]}, {"type": "string", "nullable": True}),
    "choices": (
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    ),
    "values that are none": ({"enum": ["a", "", None]}, {"type": "string", "enum": ["a"], "nullable": True}),
    "values that are no strings": (
        {"type": "integer", "enum": [1, 2], "description": "How many."},
        {"type": "integer", "description": "How many. One of: 1, 2"},
    ),
    "a tuple": (
        {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]},
        {"type": "array", "items": {"type": "string"}},
    ),
    "items of any kind": ({"type": "array"}, {"type": "array", "items": {"type": "string"}}),
    "no type": ({"description": "x"}, {"description": "x", "type": "string"}),
    "parts": (
        {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, {"title": "t"}]},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "title": "t"},
    ),
    "names that look like words": (
        {"type": "object", "properties": {"const": {"type": "string"}, "definitions": {"type": "string"}}},
        {"type": "object", "properties": {"const": {"type": "string"}, "definitions": {"type": "string"}}},
    ),
    "what is required but not there": ({"type": "object", "required": ["x"]}, {"type": "object", "properties": {}}),
    "conditions": ({"type": "string", "if": {}, "then": {}, "else": {}, "not": {}}, {"type": "string"}),
}


@pytest.mark.parametrize(("schema", "expected"), NARROW.values(), ids=NARROW)
def test_narrow_schemas_say_only_what_is_known(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    whole = {"type": "object", "properties": {"a": schema}}

    assert cleaned(whole, narrow=True)["properties"] == {"a": expected}


def test_references_are_replaced() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/word", "description": "mine"},
            "definitions": {"type": "array", "items": {"$ref": "#/definitions/a~1b"}},
            "odd": {"$ref": "https://elsewhere.example/x"},
        },
        "$defs": {"word": {"type": "string", "description": "theirs"}},
        "definitions": {"a/b": {"type": "integer"}},
    }

    assert cleaned(schema, inline=True) == {
        "type": "object",
        "properties": {
            "a": {"type": "string", "description": "mine"},
            "definitions": {"type": "array", "items": {"type": "integer"}},
            "odd": {},
        },
    }


def test_what_refers_to_itself_is_left_open() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#"}, "many": {"type": "array", "items": {"$ref": "#"}}}}

    shown = cleaned(node, inline=True)

    assert shown["properties"]["next"]["properties"]["next"] == {}


def test_references_can_not_grow_a_schema_without_end() -> None:
    levels = {
        f"d{n}": {
            "type": "object",
            "properties": {"a": {"$ref": f"#/$defs/d{n + 1}"}, "b": {"$ref": f"#/$defs/d{n + 1}"}},
        }
        for n in range(40)
    }
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": levels}

    assert len(str(cleaned(schema, inline=True))) < 1_000_000


def test_words_can_be_left_out() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}, "pattern": {"type": "string"}}}

    assert cleaned(schema, without=("pattern",))["properties"] == {
        "a": {"type": "string"},
        "pattern": {"type": "string"},
    }
    assert cleaned(schema, narrow=True, without=("pattern",))["properties"]["a"] == {"type": "string"}
