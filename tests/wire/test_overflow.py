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
    "TGI, of the prompt": "`inputs` must have less than 8 tokens. Given: 9",
    "GitHub Models' code": "tokens_limit_reached",
    "LM Studio, of the first tokens": "Trying to keep the first 9 tokens",
    "LiteLLM's type": "ContextWindowExceededError",
    "NIM": "max_tokens must be at least 1, got -1534.",
    "vLLM's decoder": "The decoder prompt (length 9) is longer than the maximum model length of 8",
    "vLLM's decoder, in short": "longer than the maximum model length",
    "Zhipu": "Prompt exceeds max length",
    "TabbyAPI": "Prompt length 9 is greater than max_seq_len 8",
    "Cohere, of late": "too many tokens: size limit exceeded by 9 tokens",
    "Cohere, of the total": "total number of tokens in the prompt cannot exceed 8",
    "TensorRT-LLM": "The sum of prompt length (9.0) and max_tokens (1) should not exceed max_num_tokens (8)",
    "Vertex": "input token count is 9 but the model only supports up to 8",
    "a code": "input_too_long",
    "Baidu": "prompt tokens too long",
    "Baidu, of characters": "the max input characters is 8",
    "Volcengine": "Total tokens of image and text exceed max message tokens",
    "SiliconFlow": "length of prompt_tokens (9) must be less than max_seq_len (8)",
    "in Chinese": "输入长度超过模型最大长度",
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
    "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 14137",
    "max_tokens must be at least 1, got 0",
    "max_tokens (9) exceeds the maximum output length of 8",
    "string_above_max_length Invalid 'messages[1].tool_calls[0].id': string too long. Expected a maximum length of 40",
    "string_above_max_length Invalid 'tools[0].function.name': string too long.",
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


TOLD = {
    "LM Studio": (
        "Trying to keep the first 15857 tokens when context the overflows. However, the model is loaded with context length"
        " of only 7866 tokens, which is not enough.", prompt_too_long(15857, 7866),
    ),
    "LM Studio, of what is kept": (
        "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 13055>= n_ctx: 4096).",
        prompt_too_long(13055, 4096),
    ),
    "Cohere": (
        "too many tokens: total number of tokens in the prompt cannot exceed 128000 - received 150000.", prompt_too_long(150000, 128000),
    ),
    "oMLX": ("Prompt too long: 32799 tokens exceeds max context window of 32768 tokens", prompt_too_long(32799, 32768)),
    "SGLang": (
        "The input (345516 tokens) is longer than the model's context length (262144 tokens).", prompt_too_long(345516, 262144),
    ),
    "SGLang, of late": (
        "Input length (345516 tokens) exceeds the maximum allowed length (262144 tokens).", prompt_too_long(345516, 262144),
    ),
    "TensorRT-LLM": (
        "The sum of prompt length (40000.0) and max_tokens (1000) should not exceed max_num_tokens (32768)", prompt_too_long(40000, 32768),
    ),
    "TensorRT-LLM, the answer": (
        "The sum of prompt length (30000.0) and max_tokens (4000) should not exceed max_num_tokens (32768)",
        answer_too_long(30000, 4000, 32768),
    ),
    "Kimi": (
        "Invalid request: Your request exceeded model token limit: 262144 (requested: 270000)", prompt_too_long(270000, 262144),
    ),
    "Cerebras": (
        "Please reduce the length of the messages or completion. Current length is 200000 while limit is 131072",
        prompt_too_long(200000, 131072),
    ),
    "Together": ("The input is too long. The maximum context length is 32768 tokens, got 40000", prompt_too_long(40000, 32768)),
    "vLLM's decoder": (
        "The decoder prompt (length 40000) is longer than the maximum model length of 32768.", prompt_too_long(40000, 32768),
    ),
    "TabbyAPI": ("Prompt length 40000 is greater than max_seq_len 32768", prompt_too_long(40000, 32768)),
    "TGI": ("Input validation error: `inputs` must have less than 4096 tokens. Given: 5000", prompt_too_long(5000, 4096)),
    "Cloudflare": (
        "The estimated number of input and maximum output tokens (8706) exceeded this model context window limit (7968).",
        prompt_too_long(8706, 7968),
    ),
    "Vertex": (
        "The input token count is 40000 but the model only supports up to 32768.", prompt_too_long(40000, 32768),
    ),
    "SiliconFlow": ("length of prompt_tokens (40000) must be less than max_seq_len (32768).", prompt_too_long(40000, 32768)),
    "NIM": ("max_tokens must be at least 1, got -1534.", UNCOUNTED),
    "Ollama": ("prompt too long; exceeded max context length by 812 tokens", UNCOUNTED),
    "Zhipu": ("Prompt exceeds max length", UNCOUNTED),
    "GitHub Models": ("tokens_limit_reached Request body too large for gpt-4o model. Max size: 8000 tokens.", UNCOUNTED),
}  # fmt: skip


@pytest.mark.parametrize(("words", "told"), TOLD.values(), ids=TOLD)
def test_the_numbers_of_each_server(words: str, told: str) -> None:
    assert overflow.canonical(words, "told") == told


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "part",
    ["prompt ", "input length 1", "max_tokens must be ", "prompt length ", "输入", "max_", "1,000", "context ", "1.0"],
)
def test_words_cost_in_proportion_to_their_length(part: str) -> None:
    for _ in range(20):
        overflow.canonical(part * (MESSAGE_MAX_CHARS // len(part)), "told")


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
