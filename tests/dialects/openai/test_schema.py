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

    assert cleaned(schema, narrow=True)["properties"] == {"a": {"type": "string", "nullable": True}, "b": {"enum": [1]}}
    assert "additionalProperties" not in cleaned(schema, narrow=True)


CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def test_strict() -> None:
    assert is_strict(CLOSED)
    assert not is_strict({**CLOSED, "required": []})
    assert not is_strict({**CLOSED, "additionalProperties": True})
    assert not is_strict({**CLOSED, "properties": {"a": {"type": "object"}}})
    assert is_strict({**CLOSED, "properties": {"a": {"type": "array", "items": CLOSED}}})
