"""Answers of the Chat Completions API: whole ones, the chunks of a stream, and the usage in them.

Servers differ in everything, so what is not needed is not looked at, and types are checked where a value is used.
"""

from __future__ import annotations

from typing import Any

import msgspec

from balancer.model import Usage
from balancer.wire.loose import count_of, loosely_decoded, objects_of


class Choice(msgspec.Struct):
    """One of the answers to a request; we ask for one."""

    index: Any = 0
    delta: dict[str, Any] | None = None
    """What a chunk adds to a message. Read as it is: providers put into it what they want to see again."""
    message: dict[str, Any] | None = None
    finish_reason: Any = None
    stop_reason: Any = None
    """vLLM: the stop sequence that was met."""
    error: Any = None


class Chunk(msgspec.Struct):
    """A chunk of a stream, a whole completion, or an error in the place of either."""

    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    object: Any = None
    message: Any = None
    code: Any = None
    type: Any = None


_CHUNK = msgspec.json.Decoder(Chunk)


def chunk(data: bytes) -> Chunk | None:
    """Decode a chunk or a completion; None where it is no JSON object."""
    try:
        return _CHUNK.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _leniently(data)


def _leniently(data: bytes) -> Chunk | None:
    """Decode what strict types, lone surrogates or NaN kept from being decoded; members of odd types are left out."""
    try:
        value = loosely_decoded(data)
        return msgspec.convert(_fitted(value), Chunk) if isinstance(value, dict) else None
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def _fitted(chunk: dict[str, Any]) -> dict[str, Any]:
    choices = chunk.get("choices")
    return {**chunk, "choices": list(map(_fitted_choice, objects_of(choices))) if isinstance(choices, list) else None}


def _fitted_choice(choice: dict[str, Any]) -> dict[str, Any]:
    return {**choice, **{key: _object(choice.get(key)) for key in ("delta", "message")}}


def _object(value: Any) -> dict[str, Any] | None:
    """Return `value` if it is an object. (None, unlike an empty object, says nothing.)"""
    return value if isinstance(value, dict) else None


# The error in the place of an answer


def error_in(answer: Chunk) -> Any:
    """Return the error that stands where an answer should be, in whichever of its shapes; None: there is none."""
    if answer.error or answer.object == "error" or answer.type == "error":
        return stated_error(answer)
    return stated_error(answer) if answer.choices is None and answer.message and answer.code else None


def stated_error(answer: Chunk) -> Any:
    """Return the error of an answer that holds one: its member `error`, or the answer itself."""
    if answer.error:
        return answer.error
    return {"message": answer.message or "", "type": answer.type, "code": answer.code}


# Usage

# What counts are called; the first name that has one is believed.
PROMPT_TOKENS = ("prompt_tokens", "input_tokens")
OUTPUT_TOKENS = ("completion_tokens", "output_tokens")
CACHE_READ = (
    "prompt_tokens_details.cached_tokens",
    "input_tokens_details.cached_tokens",
    "prompt_cache_hit_tokens",  # DeepSeek
    "cached_tokens",  # Moonshot
    "cache_read_input_tokens",
)
CACHE_WRITTEN = (
    "prompt_tokens_details.cache_write_tokens",
    "input_tokens_details.cache_write_tokens",
    "cache_creation_input_tokens",
)
REASONING = ("completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens")


def usage_of(reported: Any) -> tuple[Usage, int] | None:
    """Return usage in the Messages API's sense, and the tokens of thinking within the output; None: none is reported.

    OpenAI counts cached tokens within the prompt, Anthropic beside it; which of both a server does, its total shows.
    Reasoning is within the output, except where the total shows that a server counted it apart, or counted it nowhere
    else. Servers that do not count say zero: such a number becomes None.
    """
    if not isinstance(reported, dict) or not reported:
        return None
    prompt, output = _first_count(reported, *PROMPT_TOKENS), _first_count(reported, *OUTPUT_TOKENS)
    read, written = _first_count(reported, *CACHE_READ), _first_count(reported, *CACHE_WRITTEN)
    reasoning = _first_count(reported, *REASONING)
    total = _count(reported.get("total_tokens"))
    beside = (read or written) and total == prompt + output + read + written
    if reasoning and total == prompt + output + reasoning:
        output += reasoning
    elif not reasoning and not beside and prompt and output and total > prompt + output:
        reasoning = total - prompt - output
        output += reasoning
    unread = (prompt if beside else max(0, prompt - read - written)) if prompt else None
    return Usage(unread, output or None, read, written), reasoning


def _first_count(usage: dict[str, Any], *names: str) -> int:
    """Return the first number that is one; `a.b` is looked for in `a`."""
    for name in names:
        outer, _, inner = name.rpartition(".")
        holder = usage.get(outer) if outer else usage
        if isinstance(holder, dict) and (found := _count(holder.get(inner))):
            return found
    return 0


def _count(value: Any) -> int:
    return count_of(value) or 0
