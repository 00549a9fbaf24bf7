"""Why an answer has ended: the many words of servers, as the few that matter.

The vocabulary is open. What is not known is a failure: an answer that was cut short or lost must not be told as whole.
"""

from __future__ import annotations

import re
from typing import Any, Literal, TypeAlias

Meaning: TypeAlias = Literal["stop", "tool_calls", "pause_turn", "length", "window", "content_filter", "failed"]

LOOKED_AT_CHARS = 200

_STOP = frozenset(
    {
        "stop", "stopped", "end_turn", "end_of_turn", "eos", "eos_token", "eos_found", "end", "end_of_text",
        "end_of_sequence", "complete", "completed", "completion", "done", "finished", "finish", "normal", "success",
        "ok", "stop_sequence", "stop_token", "stop_str", "stop_string", "stop_word", "stop_id", "stop_string_found",
        "stop_sequence_reached", "stop_words", "natural",
    }
)  # fmt: skip
_CALLS = frozenset(
    {
        "tool_calls", "tool_call", "tool_use", "function_call", "function_calls", "tools", "function", "tool",
        "client_tool_call",
    }
)  # fmt: skip
_LENGTH = frozenset(
    {
        "length", "max_length", "length_limit", "limit", "max_tokens", "max_token", "max_output_tokens",
        "max_completion_tokens", "max_new_tokens", "max_predicted_tokens_reached", "token_limit", "tokens_limit",
        "output_limit", "truncated", "incomplete",
    }
)  # fmt: skip
_WINDOW = frozenset(
    {
        "model_context_window_exceeded", "model_length", "error_limit",
    }
)  # fmt: skip
_FILTERED = frozenset(
    {
        "content_filter", "sensitive", "safety", "refusal", "refused", "blocked", "blocklist", "prohibited_content",
        "spii", "recitation", "language", "error_toxic", "data_inspection_failed",
    }
)  # fmt: skip

_WORDS_OF_MESSAGES = frozenset(
    {
        "end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal", "pause_turn",
        "model_context_window_exceeded", "stop", "length", "tool_calls", "content_filter",
    }
)  # fmt: skip

_FAILED = re.compile(
    r"error|fail|malformed|abort|cancel|time_?out|overload|unavailable|insufficient|interrupt|exception|invalid|crash"
    r"|unexpected|network|missing|too_many"
)
_LIKE: tuple[tuple[re.Pattern[str], Meaning], ...] = (
    (
        re.compile(r"content_?filter|safety|sensitiv|moderat|prohibit|guardrail|polic(?:y|ies)|refus|toxic|recitation"),
        "content_filter",
    ),
    (_FAILED, "failed"),
    (re.compile(r"context"), "window"),
    (re.compile(r"max_?(?:[a-z]{1,24}_)?tokens?|tokens?_limit|limit_tokens?|length|truncat"), "length"),
)
"""What words that nobody listed have in common with those that are, the surest first."""

_RANK: tuple[Meaning | None, ...] = (
    None, "stop", "tool_calls", "pause_turn", "length", "window", "content_filter", "failed",
)  # fmt: skip
"""Of two reasons that one answer gives the worse one counts."""

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_BETWEEN = re.compile(r"[^a-z]+")


def known(reason: Any) -> Meaning | None:
    """Return what a listed word means; None: it is none of them."""
    words = _plain(reason)
    if words in _STOP:
        return "stop"
    if words in _CALLS:
        return "tool_calls"
    if words == "pause_turn":
        return "pause_turn"
    if words in _LENGTH:
        return "length"
    if words in _WINDOW:
        return "window"
    return "content_filter" if words in _FILTERED else None


def stop_sequence_or_reason(said: Any) -> tuple[str | None, Meaning | None]:
    """Read a choice's `stop_reason`: vLLM puts the stop sequence there that was met, relays of Claude a reason."""
    if not isinstance(said, str) or not said:
        return None, None
    return (None, known(said)) if said in _WORDS_OF_MESSAGES else (said, None)


def meaning(reason: Any) -> Meaning:
    """Return what a reason means; a word that says nothing to us is a failure."""
    if (listed := known(reason)) is not None:
        return listed
    words = _plain(reason)
    return next((meant for pattern, meant in _LIKE if pattern.search(words)), "failed")


def worse(one: Meaning | None, other: Meaning | None) -> Meaning | None:
    """Return the one of two reasons that counts."""
    return max(one, other, key=_RANK.index)


def _plain(reason: Any) -> str:
    if not isinstance(reason, str):
        return ""
    spaced = _CAMEL.sub("_", reason[:LOOKED_AT_CHARS])
    return _BETWEEN.sub("_", spaced.lower()).strip("_").removeprefix("finish_reason_")
