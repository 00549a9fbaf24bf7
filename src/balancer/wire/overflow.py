"""A prompt that is longer than the model's context: how servers say so, and how Claude Code has to be told.

The wordings are those of Anthropic, OpenAI, OpenRouter, vLLM, SGLang, TensorRT-LLM, llama.cpp, LM Studio, Ollama, oMLX,
TGI, TabbyAPI, NIM, LiteLLM, Gemini, xAI, Mistral, Cohere, Copilot, GitHub Models, Cloudflare, Cerebras, Together,
Fireworks, Moonshot, DashScope, Zhipu, Baidu, Volcengine, SiliconFlow, MiniMax and Zed.
"""

from __future__ import annotations

import re

from balancer import claude_code
from balancer.wire.errors import MESSAGE_MAX_CHARS

DIGITS_MAX = 15
"""A number with more digits counts no tokens."""

CODES = frozenset({"1261", "tokens_limit_reached"})
"""Codes that say it alone: Zhipu's, and that of GitHub Models."""

WORDING = re.compile(
    r"prompt (?:is )?too long|context_length_exceeded|maximum context length|exceed_context_size|context length is only"
    r"|exceed(?:s|ed)? (?:the |this )?(?:model'?s? )?(?:available )?(?:max(?:imum)? )?context"
    r"|context (?:window|length|size) (?:is )?exceed"
    r"|(?:greater|longer|larger) than the (?:model'?s )?(?:maximum )?context"
    r"|reduce the length of the (?:messages|prompt|input)|input token count.{0,40}exceeds|string_above_max_length"
    r"|input is too long|too many (?:input )?tokens in|maximum (?:allowed )?(?:prompt|input) (?:length|size|tokens)"
    r"|exceeded model token limit|prompt token count of \d+ exceeds|range of input length should be"
    r"|max_new_tokens`? must be <=|tokens_limit_reached|keep the first \d+ tokens|context_?window_?exceeded"
    r"|max_(?:[a-z]{1,12}_)?tokens\W{0,4}(?:must|should) be.{0,40}got:? ?-\d|longer than the maximum model length"
    r"|(?:prompt|input|context)(?: length)? exceeds? (?:the )?max(?:imum)? (?:[a-z]{1,12} )?length"
    r"|(?:prompt|input)(?: length)? \(?(?:length )?\d+(?: tokens)?\)? (?:exceeds|is (?:greater|longer|larger) than)"
    r"|too many tokens: |tokens in the prompt cannot exceed|prompt length.{0,80}max_num_tokens"
    r"|must have less than \d+ tokens|token count is \d+ but|(?:prompt|input)_too_long|prompt tokens too long"
    r"|max(?:imum)? input (?:characters|tokens)|exceed max message tokens|must be less than max_seq_len"
    r"|(?:输入|上下文|提示词|prompt).{0,20}(?:过长|超长|超过|超出)",
    re.IGNORECASE,
)
_LIMIT = re.compile(
    r"max(?:imum)? (?:allowed )?(?:context |prompt |input |model )?length(?: is| of|:| \(?)? ?(\d+)"
    r"|maximum number of tokens allowed \(?(\d+)|max size: (\d+) tokens|cannot exceed (\d+)"
    r"|context (?:size|window|length)(?: \(| of | is |: )(?:only )?(\d+)|limit(?: of|:| is) (\d+)|tokens? > (\d+)"
    r"|(\d+) maximum context length|length should be \[\d+, ?(\d+)\]|must be <= (\d+)|n_ctx:? ?=? ?(\d+)"
    r"|max_seq_len \(?(\d+)|less than (\d+) tokens|limit \((\d+)\)|supports up to (\d+)|max_num_tokens \((\d+)\)",
    re.IGNORECASE,
)
SPLITS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\((?P<prompt>\d+) in the messages, (?P<output>\d+) in the completion\)",
        r"(?P<prompt>\d+) tokens? from the input messages and (?P<output>\d+) tokens? for the completion",
        r"\((?P<prompt>\d+) of text input, (?:(?P<tools>\d+) of tool input, )?(?P<output>\d+) in the output\)",
        r"too large: (?P<output>\d+).{0,200}has (?P<prompt>\d+) input tokens",
        r"passed (?P<prompt>\d+) input tokens and requested (?P<output>\d+) output tokens",
        r"requested (?P<output>\d+) output tokens and your prompt contains (?:at least )?(?P<prompt>\d+) input",
        r"given: (?P<prompt>\d+) `?inputs`? tokens and (?P<output>\d+)",
        r"exceed context limit: (?P<prompt>\d+) \+ (?P<output>\d+) > (?P<limit>\d+)",
        r"prompt length \((?P<prompt>\d+)(?:\.0)?\) and max_tokens \((?P<output>\d+)",
    )
)
"""How servers say how much of what was asked is the prompt, and how much the answer."""
_PROMPT = re.compile(
    r"resulted in (\d+) tokens|requested:? (?:about )?(\d+)(?: tokens|\))|input token count \((\d+)\)"
    r"|prompt (?:is )?too long[^0-9]{0,300}(\d+)|request \((\d+) tokens\)|has (\d+) (?:input )?tokens"
    r"|contains (\d+) tokens|token count (?:of|is) (\d+)|keep the first (\d+) tokens|received (\d+)|got (\d+)"
    r"|input \((\d+) tokens\)|current length is (\d+)|n_keep:? ?=? ?(\d+)|prompt \(length (\d+)\)|given: (\d+)"
    r"|(?:prompt|input) length \(?(\d+)|tokens \((\d+)\) exceed|of prompt_tokens \((\d+)\)",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)|(?<=\d)\.0\b")
"""What may stand in a number that counts tokens."""
_ENDLESS = re.compile(r"\d{100,}+")
"""Digits that are no number: each would be the beginning of one for every pattern here."""
_OF_A_NAME = re.compile(
    r"\b(?:id|name|user|metadata|key)\b[`'\"\]]{0,2}:? ?(?:is )?string too long|_id[`'\"\]]{0,2}:? ?string too long",
    re.IGNORECASE,
)
"""`string_above_max_length` is also said of an id or a name."""


def is_overflow(words: str) -> bool:
    """Return whether an error's words are about the length of the prompt."""
    words = words[:MESSAGE_MAX_CHARS]
    return WORDING.search(words) is not None and _OF_A_NAME.search(words) is None


def prefixed(message: str) -> str:
    """Return a message about the length of the prompt so that it begins as Claude Code expects it to."""
    known = message[: len(claude_code.PROMPT_TOO_LONG)].lower() == claude_code.PROMPT_TOO_LONG
    return message if known else f"{claude_code.PROMPT_TOO_LONG}: {message}"


def canonical(
    words: str, message: str, prompt_tokens: int | None = None, limit_tokens: int | None = None
) -> str | None:
    """Return what to tell Claude Code, with the numbers by which it knows how much to drop; None: it is no overflow.

    `words` are all that the error says, `message` what is told where no numbers are found. `prompt_tokens` and
    `limit_tokens` are known where the error has fields for them.
    """
    words = _ENDLESS.sub("9" * (DIGITS_MAX + 1), _THOUSANDS.sub("", words[:MESSAGE_MAX_CHARS]))
    if not is_overflow(words):
        return None
    limit = limit_tokens or _number(_LIMIT.search(words))
    prompt = prompt_tokens or _number(_PROMPT.search(words))
    if split := _split(words):
        prompt, limit = split["prompt"] + split.get("tools", 0), split.get("limit", limit)
        if limit and prompt < limit:
            return claude_code.answer_too_long(prompt, split["output"], limit)
    if prompt and limit and (prompt > limit or split):
        return claude_code.prompt_too_long(prompt, limit)
    return prefixed(message)


def _split(words: str) -> dict[str, int]:
    """Return how many tokens are the prompt, and how many the answer; empty where that is not said."""
    found = next((match for pattern in SPLITS if (match := pattern.search(words))), None)
    numbers = {name: digits for name, digits in found.groupdict().items() if digits} if found else {}
    return {name: int(digits) for name, digits in numbers.items()} if _are_counts(*numbers.values()) else {}


def _number(match: re.Match[str] | None) -> int | None:
    digits = next(filter(None, match.groups()), "") if match else ""
    return int(digits) if digits and _are_counts(digits) else None


def _are_counts(*numbers: str) -> bool:
    """Return whether numbers may be counts of tokens. (Python refuses to convert one of thousands of digits.)"""
    return all(len(digits) <= DIGITS_MAX for digits in numbers)
