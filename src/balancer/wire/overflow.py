"""A prompt that is longer than the model's context: how servers say so, and how Claude Code has to be told.

The wordings are those of Anthropic, OpenAI, OpenRouter, vLLM, llama.cpp, LM Studio, TGI, Gemini, xAI, Mistral, Copilot,
Fireworks, Moonshot, DashScope, MiniMax and Zed.
"""

from __future__ import annotations

import re

from balancer import claude_code
from balancer.wire.errors import MESSAGE_MAX_CHARS

DIGITS_MAX = 15
"""A number with more digits counts no tokens."""

WORDING = re.compile(
    r"prompt is too long|context_length_exceeded|maximum context length|exceed_context_size|context length is only"
    r"|exceeds? (?:the |this )?(?:model'?s? )?(?:available )?(?:maximum )?context"
    r"|context (?:window|length|size) (?:is )?exceed|(?:greater|longer|larger) than the context"
    r"|reduce the length of the (?:messages|prompt|input)|input token count.{0,40}exceeds|string_above_max_length"
    r"|input is too long|too many (?:input )?tokens in|maximum prompt length|exceeded model token limit"
    r"|prompt token count of \d+ exceeds|range of input length should be|max_new_tokens`? must be <=",
    re.IGNORECASE,
)
_LIMIT = re.compile(
    r"maximum (?:context|prompt) length(?: is| of|:) (\d+)|maximum number of tokens allowed \(?(\d+)"
    r"|context (?:size|window|length)(?: \(| of | is )(?:only )?(\d+)|limit(?: of|:) (\d+)|tokens? > (\d+)"
    r"|(\d+) maximum context length|length should be \[\d+, ?(\d+)\]|must be <= (\d+)",
    re.IGNORECASE,
)
SPLITS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\((?P<prompt>\d+) in the messages, (?P<output>\d+) in the completion\)",
        r"(?P<prompt>\d+) tokens? from the input messages and (?P<output>\d+) tokens? for the completion",
        r"\((?P<prompt>\d+) of text input, (?:(?P<tools>\d+) of tool input, )?(?P<output>\d+) in the output\)",
        r"too large: (?P<output>\d+).*has (?P<prompt>\d+) input tokens",
        r"passed (?P<prompt>\d+) input tokens and requested (?P<output>\d+) output tokens",
        r"requested (?P<output>\d+) output tokens and your prompt contains (?:at least )?(?P<prompt>\d+) input",
        r"given: (?P<prompt>\d+) `?inputs`? tokens and (?P<output>\d+)",
        r"exceed context limit: (?P<prompt>\d+) \+ (?P<output>\d+) > (?P<limit>\d+)",
    )
)
"""How servers say how much of what was asked is the prompt, and how much the answer."""
_PROMPT = re.compile(
    r"resulted in (\d+) tokens|requested (?:about )?(\d+) tokens|input token count \((\d+)\)"
    r"|prompt is too long[^0-9]*(\d+)|request \((\d+) tokens\)|has (\d+) (?:input )?tokens"
    r"|contains (\d+) tokens|token count of (\d+)",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")


def is_overflow(words: str) -> bool:
    """Return whether an error's words are about the length of the prompt."""
    return WORDING.search(words[:MESSAGE_MAX_CHARS]) is not None


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
    words = _THOUSANDS.sub("", words[:MESSAGE_MAX_CHARS])
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
