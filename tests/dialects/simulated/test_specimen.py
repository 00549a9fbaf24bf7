"""The smallest value that fits a schema does fit it."""

from __future__ import annotations

import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.dialects.simulated.specimen import specimen

SCHEMAS: dict[str, dict[str, Any]] = {
    "nothing is required": {"type": "object", "properties": {"a": {"type": "string"}}},
    "every type": {
        "type": "object",
        "required": ["s", "i", "n", "b", "a", "o", "z"],
        "properties": {
            "s": {"type": "string", "minLength": 20},
            "i": {"type": "integer", "minimum": 3, "multipleOf": 5},
            "n": {"type": "number", "exclusiveMaximum": -2},
            "b": {"type": "boolean"},
            "a": {"type": "array", "items": {"type": "integer"}, "minItems": 2},
            "o": {"type": "object", "required": ["x"], "properties": {"x": {"enum": ["p", "q"]}}},
            "z": {"type": "null"},
        },
    },
    "a const, a list of types, a choice": {
        "type": "object",
        "required": ["c", "t", "any", "one"],
        "properties": {
            "c": {"const": 7},
            "t": {"type": ["string", "null"]},
            "any": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "one": {"oneOf": [{"type": "boolean"}]},
        },
    },
    "references": {
        "type": "object",
        "required": ["p"],
        "properties": {"p": {"$ref": "#/$defs/point"}},
        "$defs": {"point": {"type": "object", "required": ["x"], "properties": {"x": {"type": "number"}}}},
    },
    "parts that hold together": {
        "allOf": [
            {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}},
            {"required": ["b"], "properties": {"b": {"type": "string", "maxLength": 3}}},
        ]
    },
    "a date": {"type": "object", "required": ["d"], "properties": {"d": {"type": "string", "format": "date"}}},
    "limits above and below": {
        "type": "object",
        "required": ["a", "b"],
        "properties": {
            "a": {"type": "integer", "exclusiveMinimum": 4, "maximum": 5},
            "b": {"type": "integer", "maximum": -3},
        },
    },
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_it_fits(schema: dict[str, Any]) -> None:
    jsonschema.validate(specimen(schema), schema, format_checker=jsonschema.FormatChecker())


def test_only_what_is_required_is_there() -> None:
    assert specimen(SCHEMAS["nothing is required"]) == {}


def test_a_schema_without_end_comes_to_an_end() -> None:
    endless = {"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#"}}}

    assert isinstance(specimen(endless), dict)


def test_parts_without_end_come_to_an_end() -> None:
    assert specimen({"type": "object", "allOf": [{"$ref": "#"}]}) == {}


def test_a_schema_that_multiplies_itself_takes_no_time() -> None:
    """Five properties, each of them the whole again, twelve deep: 244 million values."""
    names = list("abcde")
    properties = {"type": "object", "required": names, "properties": {name: {"$ref": "#"} for name in names}}

    began = time.monotonic()
    specimen(properties)
    specimen({"type": "object", "allOf": [{"$ref": "#"}] * 12})

    assert time.monotonic() - began < 1


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "required", "items", "enum", "$ref", "allOf", "anyOf", "minimum", "minItems"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JUNK)
def test_nonsense_raises_nothing(schema: Any) -> None:
    specimen(schema)
    specimen({"allOf": [schema, schema], "type": "object", "required": ["a"], "properties": {"a": schema}})
