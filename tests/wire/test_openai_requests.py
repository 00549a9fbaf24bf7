"""Requests of OpenAI's API: the few fields that are acted on."""

from __future__ import annotations

import pytest

from balancer.model import Operation
from balancer.wire.messages import BadRequest
from balancer.wire.openai_requests import NAME_MAX_CHARS, head

CHAT, RESPONSES = Operation.CHAT_COMPLETIONS, Operation.RESPONSES


def test_what_is_read() -> None:
    read = head(b'{"model":"m","stream":true,"messages":[{}],"max_completion_tokens":7,"prompt_cache_key":"k"}', CHAT)

    assert (read.model, read.stream, read.token_limit, read.cache_key) == ("m", True, 7, "k")


def test_what_may_be_left_out() -> None:
    read = head(b'{"model":"m","input":"hi"}', RESPONSES)

    assert (read.stream, read.token_limit, read.cache_key) == (None, None, None)


LIMITS = {
    b'"max_tokens":5': 5,
    b'"max_completion_tokens":6,"max_tokens":5': 6,
    b'"max_output_tokens":7': 7,
    b'"max_tokens":null': None,
    b'"max_tokens":"many"': None,
}


@pytest.mark.parametrize(("fields", "limit"), LIMITS.items())
def test_the_token_limit_is_in_whichever_field_has_a_number(fields: bytes, limit: int | None) -> None:
    assert head(b'{"model":"m",%b}' % fields, RESPONSES).token_limit == limit


KEYS = {b'"k"': "k", b'""': None, b"null": None, b"5": None, b'"%b"' % (b"k" * (NAME_MAX_CHARS + 1)): None}


@pytest.mark.parametrize(("written", "key"), KEYS.items(), ids=range(len(KEYS)))
def test_a_cache_key_is_a_short_string(written: bytes, key: str | None) -> None:
    assert head(b'{"model":"m","prompt_cache_key":%b}' % written, RESPONSES).cache_key == key


BAD = {
    "no JSON": (CHAT, b"hello", "not valid JSON"),
    "not UTF-8": (CHAT, b'{"model":"\xff"}', "not valid JSON"),
    "no model": (RESPONSES, b"{}", "model: Field required"),
    "no messages": (CHAT, b'{"model":"m"}', "messages: Field required"),
    "messages that are none": (CHAT, b'{"model":"m","messages":"hi"}', "messages: must be a list|messages: must be"),
    "a stream that is neither": (RESPONSES, b'{"model":"m","stream":1}', "stream: must be true or false"),
    "an empty name": (RESPONSES, b'{"model":""}', "model: must be a name of 1 to"),
    "nested too deeply": (RESPONSES, b'{"model":"m","input":' + b"[" * 100_000, "nested too deeply|not valid JSON"),
}


@pytest.mark.parametrize(("operation", "body", "words"), BAD.values(), ids=BAD)
def test_what_no_provider_could_take(operation: Operation, body: bytes, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        head(body, operation)


def test_half_a_pair_is_no_reason_to_refuse() -> None:
    assert head(b'{"model":"m","input":"\\ud83d"}', RESPONSES).model == "m"
