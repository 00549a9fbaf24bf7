"""Answers of the Chat Completions API, whole and in chunks, and the usage in them."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.model import Usage
from balancer.wire import chat

USAGES: dict[str, tuple[Any, tuple[Usage, int] | None]] = {
    "none": (None, None),
    "plain": ({"prompt_tokens": 3, "completion_tokens": 2}, (Usage(3, 2, 0, 0), 0)),
    "cached": (
        {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}},
        (Usage(2, 2, 8, 0), 0),
    ),
    "deepseek": ({"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 6}, (Usage(4, 2, 6, 0), 0)),
    "reasoning is within the output": (
        {"prompt_tokens": 1, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 7}},
        (Usage(1, 9, 0, 0), 7),
    ),
    "more cached than there was": (
        {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 8}},
        (Usage(0, 1, 8, 0), 0),
    ),
    "nulls": (
        {"prompt_tokens": None, "completion_tokens": 1, "prompt_tokens_details": None},
        (Usage(None, 1, 0, 0), 0),
    ),
    "zeros, of those who do not count": ({"prompt_tokens": 0, "completion_tokens": 0}, (Usage(None, None, 0, 0), 0)),
    "all of it was cached": (
        {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 5}},
        (Usage(0, 1, 5, 0), 0),
    ),
    "moonshot": ({"prompt_tokens": 10, "completion_tokens": 2, "cached_tokens": 6}, (Usage(4, 2, 6, 0), 0)),
    "floats": ({"prompt_tokens": 10.0, "completion_tokens": 2.0}, (Usage(10, 2, 0, 0), 0)),
    "reasoning beside the output": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 2,
            "total_tokens": 19,
            "completion_tokens_details": {"reasoning_tokens": 7},
        },
        (Usage(10, 9, 0, 0), 7),
    ),
    "thoughts in the total alone": (
        {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 300},
        (Usage(20, 280, 0, 0), 270),
    ),
    "a total that says nothing new": (
        {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30},
        (Usage(20, 10, 0, 0), 0),
    ),
    "a total of a server that counts nothing else": ({"total_tokens": 30}, (Usage(None, None, 0, 0), 0)),
    "the cache beside the prompt": (
        {"prompt_tokens": 20, "completion_tokens": 10, "cache_read_input_tokens": 270, "total_tokens": 300},
        (Usage(20, 10, 270, 0), 0),
    ),
}


NAMES: dict[str, tuple[str, ...]] = {
    "input_tokens": chat.PROMPT_TOKENS,
    "output_tokens": chat.OUTPUT_TOKENS,
    "cache_read_tokens": chat.CACHE_READ,
    "cache_creation_tokens": chat.CACHE_WRITTEN,
}


@pytest.mark.parametrize(("field", "name"), [(field, name) for field, names in NAMES.items() for name in names])
def test_every_name_of_a_count_is_known(field: str, name: str) -> None:
    outer, _, inner = name.rpartition(".")
    reported = {outer: {inner: 7}} if outer else {name: 7}
    counted = chat.usage_of(reported)

    assert counted is not None
    assert getattr(counted[0], field) == 7


@pytest.mark.parametrize("name", chat.REASONING)
def test_every_name_of_thinking_is_known(name: str) -> None:
    outer, _, inner = name.rpartition(".")

    assert chat.usage_of({outer: {inner: 7}, "completion_tokens": 9}) == (Usage(None, 9, 0, 0), 7)


@pytest.mark.parametrize("odd", [-1, 0, "-7", "x", None, [7], True, 10**12, 1e308, float("inf"), float("nan"), 10**400])
def test_a_number_that_counts_nothing_is_none(odd: Any) -> None:
    assert chat.usage_of({"completion_tokens": odd}) == (Usage(None, None, 0, 0), 0)


@pytest.mark.parametrize("written", [7, 7.0, 7.9, "7", "7.0"])
def test_a_count_may_be_written_in_any_way(written: Any) -> None:
    assert chat.usage_of({"completion_tokens": written}) == (Usage(None, 7, 0, 0), 0)


def test_the_largest_count() -> None:
    assert chat.usage_of({"completion_tokens": 10**12 - 1}) == (Usage(None, 10**12 - 1, 0, 0), 0)


ERRORS_IN: dict[str, tuple[bytes, Any]] = {
    "an error": (b'{"error":{"message":"m"}}', {"message": "m"}),
    "a word": (b'{"error":"m"}', "m"),
    "vLLM's": (b'{"object":"error","message":"m","code":400}', {"message": "m", "type": None, "code": 400}),
    "Anthropic's": (b'{"type":"error","message":"m"}', {"message": "m", "type": "error", "code": None}),
    "Mistral's": (b'{"message":"m","code":"c"}', {"message": "m", "type": None, "code": "c"}),
    "a message beside an answer": (b'{"choices":[],"message":"m","code":"c"}', None),
    "a message without a code": (b'{"message":"m"}', None),
    "an empty error": (b'{"choices":[],"error":{}}', None),
    "an answer": (b'{"choices":[]}', None),
}


@pytest.mark.parametrize(("body", "error"), ERRORS_IN.values(), ids=ERRORS_IN)
def test_errors_in_the_place_of_an_answer(body: bytes, error: Any) -> None:
    answer = chat.chunk(body)

    assert answer is not None
    assert chat.error_in(answer) == error


@pytest.mark.parametrize(("reported", "expected"), USAGES.values(), ids=USAGES)
def test_usage(reported: Any, expected: Any) -> None:
    assert chat.usage_of(reported) == expected


def test_what_is_no_chunk() -> None:
    assert chat.chunk(b"[DONE]") is None
    assert chat.chunk(b"[]") is None
    assert chat.chunk(b"{") is None


ODD: dict[str, bytes] = {
    "a lone surrogate beside a pair": b'{"content": "\\ud83d\\ude00\\ud800"}',
    "calls that are none": b'{"content": "\\ud83d\\ude00\\ufffd", "tool_calls": "", "function_call": ""}',
    "calls among junk": b'{"content": "\\ud83d\\ude00\\ufffd", "tool_calls": [null, {"function": 1}]}',
    "NaN": b'{"content": "\\ud83d\\ude00\\ufffd", "x": NaN}',
}


@pytest.mark.parametrize("delta", ODD.values(), ids=ODD)
def test_odd_members_cost_nothing_else(delta: bytes) -> None:
    chunk = chat.chunk(b'{"choices": [null, {"delta": %b}]}' % delta)

    assert chunk is not None
    assert chunk.choices is not None
    assert chunk.choices[0].delta is not None
    assert chunk.choices[0].delta["content"] == "\U0001f600\ufffd"
