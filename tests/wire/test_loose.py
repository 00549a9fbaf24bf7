"""JSON of others: what has the type that is needed is taken, and nothing ever fails for its type."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.wire.loose import decoded_object, loosely_decoded, object_of, objects_of, string_of

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(anything)
def test_only_what_has_the_type_is_taken(value: object) -> None:
    assert object_of(value) == (value if isinstance(value, dict) else {})
    assert string_of(value) == (value if isinstance(value, str) else "")
    assert objects_of([value, {"a": 1}]) == ([value, {"a": 1}] if isinstance(value, dict) else [{"a": 1}])
    if not isinstance(value, list):
        assert objects_of(value) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"null", b"\xff", b'{"a":NaN}', b"[" * 100_000, "\ud800"])
def test_what_is_no_object_is_an_empty_one(body: bytes | str) -> None:
    assert decoded_object(body) == {}


def test_half_a_pair_of_surrogates_becomes_the_mark_for_what_is_no_character() -> None:
    assert decoded_object(b'{"a":"\\ud800"}') == {"a": "\ufffd"}


def test_an_object_is_decoded() -> None:
    assert decoded_object(b'{"a":1}') == decoded_object('{"a":1}') == {"a": 1}


@given(anything)
def test_sound_json_is_decoded_as_it_is(value: object) -> None:
    assert loosely_decoded(json.dumps(value)) == value


def test_what_only_servers_call_json_is_decoded_as_well() -> None:
    assert loosely_decoded(rb'{"a": NaN, "b": [Infinity, -Infinity], "c\ud800": "\ud83d\ude00\ud800"}') == {
        "a": None,
        "b": [None, None],
        "c\ufffd": "\U0001f600\ufffd",
    }


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"9" * 5000])
def test_what_is_no_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        loosely_decoded(body)
