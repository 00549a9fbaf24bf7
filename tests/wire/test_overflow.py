"""A prompt that is too long: every wording that is known, and the numbers in it."""

from __future__ import annotations

import re

import pytest

from balancer.claude_code import answer_too_long, prompt_too_long
from balancer.wire import overflow
from balancer.wire.errors import MESSAGE_MAX_CHARS

WORDINGS = {
    "Anthropic": "prompt is too long: 9 tokens > 8 maximum",
    "Anthropic, in capitals": "Prompt is too long",
    "Anthropic, with the answer": "input length and `max_tokens` exceed context limit: 5 + 4 > 8",
    "OpenAI's code": "context_length_exceeded",
    "OpenAI": "This model's maximum context length is 8 tokens",
    "OpenAI, of late": "Your input exceeds the context window of this model",
    "OpenAI's remedy": "Please reduce the length of the messages or completion",
    "another remedy": "reduce the length of the prompt",
    "a third": "reduce the length of the input",
    "OpenAI, a single string": "string_above_max_length",
    "llama.cpp's type": "exceed_context_size_error",
    "llama.cpp": "the request exceeds the available context size",
    "vLLM": "the model's context length is only 8 tokens",
    "of the model": "exceeds the model's maximum context",
    "of this model": "exceeds this model context",
    "MiniMax": "context window exceeds limit",
    "its length": "context length is exceeded",
    "its size": "context size exceeded",
    "LM Studio": "tokens to keep is greater than the context length",
    "longer": "longer than the context",
    "larger": "larger than the context",
    "Gemini": "The input token count (9) exceeds the maximum",
    "Bedrock": "Input is too long for requested model",
    "Cohere": "too many tokens in the prompt",
    "of the input": "too many input tokens in the request",
    "xAI": "maximum prompt length is 8",
    "Moonshot": "Your request exceeded model token limit",
    "Copilot": "prompt token count of 9 exceeds the limit of 8",
    "DashScope": "Range of input length should be [1, 8]",
    "TGI": "`inputs` tokens + `max_new_tokens` must be <= 8",
}


@pytest.mark.parametrize("words", WORDINGS.values(), ids=WORDINGS)
def test_every_wording_is_known(words: str) -> None:
    assert overflow.is_overflow(words)
    assert overflow.is_overflow(words.upper())
    assert overflow.canonical(words, "told") is not None


def alternatives(pattern: str) -> list[str]:
    """Return what stands between the bars of an expression that are in no group."""
    found, depth = [""], 0
    for char in pattern:
        depth += (char == "(") - (char == ")")
        if char == "|" and not depth:
            found.append("")
        else:
            found[-1] += char
    return found


@pytest.mark.parametrize("one", alternatives(overflow.WORDING.pattern))
def test_every_part_of_the_list_has_a_wording_that_no_other_part_knows(one: str) -> None:
    others = re.compile("|".join(part for part in alternatives(overflow.WORDING.pattern) if part != one), re.IGNORECASE)

    assert [words for words in WORDINGS.values() if re.search(one, words, re.IGNORECASE) and not others.search(words)]


OTHERS = [
    "max_tokens: 128000 > 64000, which is the maximum allowed",
    "rate limit exceeded",
    "the context is missing",
    "image exceeds the maximum size",
    "this model's maximum output is 8 tokens",
    "tool names are too long",
    "",
]


@pytest.mark.parametrize("words", OTHERS)
def test_what_is_about_something_else_is_not_known(words: str) -> None:
    assert not overflow.is_overflow(words)
    assert overflow.canonical(words, "told") is None


UNCOUNTED = "prompt is too long: told"
NUMBERS = {
    "both": ("maximum context length is 8 tokens, your messages resulted in 9 tokens", prompt_too_long(9, 8)),
    "with thousands": (
        "maximum context length is 131,072 tokens; requested about 140,000 tokens", prompt_too_long(140000, 131072),
    ),
    "only the limit": ("maximum context length is 8 tokens", UNCOUNTED),
    "only the prompt": ("context_length_exceeded: requested 9 tokens", UNCOUNTED),
    "a prompt within the limit": ("maximum context length is 9, resulted in 8 tokens", UNCOUNTED),
    "of the messages, within the limit of them all": (
        "maximum context length is 8, (5 in the messages, 4 in the completion)", answer_too_long(5, 4, 8),
    ),
    "of the messages alone": (
        "maximum context length is 8, (9 in the messages, 4 in the completion)", prompt_too_long(9, 8),
    ),
    "just the limit": ("maximum context length is 8, (8 in the messages, 4 in the completion)", prompt_too_long(8, 8)),
    "the largest numbers": (
        f"maximum context length is {'1' * 15}, resulted in {'2' * 15} tokens",
        prompt_too_long(int("2" * 15), int("1" * 15)),
    ),
    "a limit too large for one": (f"maximum context length is {'1' * 16}, resulted in {'2' * 15} tokens", UNCOUNTED),
    "a prompt of thousands of digits": (f"maximum context length is 8, resulted in {'2' * 5000} tokens", UNCOUNTED),
    "an answer of thousands of digits": (f"exceed context limit: 1 + {'2' * 5000} > 3", UNCOUNTED),
}  # fmt: skip


@pytest.mark.parametrize(("words", "told"), NUMBERS.values(), ids=NUMBERS)
def test_numbers(words: str, told: str) -> None:
    assert overflow.canonical(words, "told") == told


def test_numbers_of_fields_win() -> None:
    assert overflow.canonical("context_length_exceeded", "told", 9, 8) == prompt_too_long(9, 8)


@pytest.mark.parametrize(
    ("message", "told"),
    [("x", "prompt is too long: x"), ("Prompt is too long", "Prompt is too long"), ("", "prompt is too long: ")],
)
def test_a_message_is_told_with_the_beginning_that_is_acted_on(message: str, told: str) -> None:
    assert overflow.prefixed(message) == told


def test_no_more_is_looked_at_than_the_limit() -> None:
    words = "prompt is too long"

    assert overflow.is_overflow(words.rjust(MESSAGE_MAX_CHARS))
    assert not overflow.is_overflow(words.rjust(MESSAGE_MAX_CHARS + 1))
    assert overflow.canonical(words.rjust(MESSAGE_MAX_CHARS + 1), "told") is None
