"""Requests of the Messages API: the head, and splicing the model's name."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.wire import messages

BAD_BODIES = {
    "not JSON": (b"nope", "not valid JSON"),
    "nothing": (b"", "not valid JSON"),
    "cut off": (b'{"model":"a","messages":[', "not valid JSON"),
    "an array": (b"[]", "the request body: must be an object"),
    "no model": (b'{"messages":[]}', "model: Field required"),
    "model not a string": (b'{"model":7,"messages":[]}', "model: must be a string"),
    "no messages": (b'{"model":"a"}', "messages: Field required"),
    "messages not a list": (b'{"model":"a","messages":"x"}', "messages: must be an array"),
    "stream not a boolean": (b'{"model":"a","messages":[],"stream":"yes"}', "stream: must be true or false"),
    "deep nesting": (b'{"model":"a","messages":' + b"[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize(("body", "message"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_body_is_told_in_plain_words(body: bytes, message: str) -> None:
    with pytest.raises(messages.BadRequest, match=message):
        messages.head(body)


HALVES = {
    "the first half": (rb"a\ud83d", rb"a\ufffd"),
    "the second half": (rb"\uDE00b", rb"\ufffdb"),
    "before something else": (rb"\ud83d\n\ud83db", rb"\ufffd\n\ufffdb"),
    "a whole one": (rb"\ud83d\ude00\ude00", rb"\ud83d\ude00\ufffd"),
    "no escape at all": (rb"\\ud83d \\\ud83d", rb"\\ud83d \\\ufffd"),
}


@pytest.mark.parametrize(("said", "carried"), HALVES.values(), ids=HALVES)
def test_halves_of_characters_are_replaced_and_nothing_else(said: bytes, carried: bytes) -> None:
    assert messages.without_lone_surrogates(said) == carried
    assert messages.head(b'{"model":"m","messages":["%b"]}' % said).model == "m"
    assert json.loads(b'"%b"' % carried).encode()


def test_the_head_is_read_and_the_rest_is_left_alone() -> None:
    head = messages.head(
        b'{"model":"m","stream":true,"max_tokens":12,"messages":[{"role":"system","content":"x"}],'
        b'"metadata":{"user_id":"u"},"safeguards":{"a":[1]}}'
    )

    assert (head.model, head.stream, head.token_limit, head.user_id) == ("m", True, 12, "u")


@pytest.mark.parametrize("metadata", [b"7", b'{"user_id":7}', b"null", b"[]"])
def test_strange_metadata_is_no_reason_to_refuse(metadata: bytes) -> None:
    assert messages.head(b'{"model":"m","messages":[],"metadata":%b}' % metadata).user_id is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8) | st.just('say "model": "x"'),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "a", 'b"model']), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    st.lists(st.tuples(st.sampled_from(["x", "tools", "model"]), json_values), max_size=4),
    st.text(max_size=6),
    st.booleans(),
)
def test_splicing_changes_the_model_and_nothing_else(fields: list[tuple[str, object]], name: str, first: bool) -> None:
    members = [(key, value) for key, value in fields if key != "model"]
    members.insert(0 if first else len(members), ("model", "old"))
    body = ("{" + ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in members) + "}").encode()

    spliced = json.loads(b"".join(messages.spliced(body, name)))

    assert spliced == {**json.loads(body), "model": name}


def test_the_top_level_model_is_spliced_and_none_below() -> None:
    body = b' {"tools":[{"model":"b"}] , "model" : "a", "messages":[{"model":"c"}] } '

    assert b"".join(messages.spliced(body, "z")) == body.replace(b'"a"', b'"z"')


@pytest.mark.parametrize(
    "body",
    [
        b'{"tools":[{"model":"b"}], "model":"a", "messages":[], "model" : "c"}',
        b'{"model":"a", "x":1, "model":"a", "messages":[]}',
        b'{"x":1, "model":"a", "x":1, "messages":["model"], "y":{"model":"b"}}',
        b'{"model":"a","messages":[],"\\u006dodel":"c"}',
    ],
)
def test_of_a_member_that_stands_there_twice_the_last_counts(body: bytes) -> None:
    assert msgspec.json.decode(b"".join(messages.spliced(body, "z"))) == {**msgspec.json.decode(body), "model": "z"}


def test_a_body_full_of_models_takes_time_by_its_size_alone() -> None:
    def cost(size: int) -> float:
        body = b'{"model":"a","messages":[' + b'{"model":"b"},[],' * size + b'[]],"x":"model"}'
        began = time.process_time()
        for _ in range(3):
            b"".join(messages.spliced(body, "z"))
        return time.process_time() - began

    cost(1000)
    assert cost(80_000) < 6 * cost(40_000)


def test_an_escaped_key_is_found() -> None:
    assert msgspec.json.decode(b"".join(messages.spliced(b'{"\\u006dodel":"a","messages":[]}', "z")))["model"] == "z"


LONG = [{"role": "user", "content": "é" * 1000}] * 1000
BODIES: dict[str, Any] = {
    "a request": {"model": "m", "messages": LONG, "stream": True},
    "another order": {"messages": LONG, "model": "m"},
    "no list of messages": {"model": "m", "messages": {"a": LONG}},
    "no messages": {"model": "m", "system": "é" * 1_000_000},
    "no object": [LONG],
}


@pytest.mark.parametrize("value", BODIES.values(), ids=BODIES)
def test_a_long_body_is_decoded_as_a_short_one_is(value: Any) -> None:
    body = json.dumps(value).encode()

    assert len(body) > messages.IN_PIECES_BYTES
    assert messages.decoded(body) == value


def test_a_long_body_with_half_a_pair() -> None:
    body = json.dumps({"messages": [*LONG, {"role": "user", "content": "\ud800"}]}).encode()

    assert messages.decoded(body)["messages"][-1]["content"] == "\ufffd"
    with pytest.raises(msgspec.DecodeError):
        messages.decoded(body + b"x")
    with pytest.raises(msgspec.DecodeError):
        messages.decoded(body.replace(b"role", b"\xffole"))
