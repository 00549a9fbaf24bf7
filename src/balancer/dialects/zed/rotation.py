"""How large a conversation is, and how a long one is made shorter: where it is cut, and what then stands there.

The client sends its whole history each time, so a cut is remembered by a digest of what it replaces:
the same history is always shortened in the same way, byte for byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from balancer.dialects.zed.results import shortened
from balancer.dialects.zed.threads import prompt_start, user_text
from balancer.model import Usage

MARK = "[Summary of the earlier part of this conversation, made automatically]\n"
TRUNCATED = "[The earlier part of this conversation ({messages} messages) was left out]"
ALSO_TRUNCATED = "{summary}\n[What followed ({messages} messages) was left out]"
IMAGE_TOKENS = 1600
"""What an image counts, whatever its size."""
BELIEVABLE = 2
"""A report of tokens below the estimate divided by this is taken for none."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The first `at` messages of a history, known by their digest, are replaced by `summary`."""

    at: int
    prefix: str
    summary: str

    def applied(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the history with the summary before the user's words that come next.

        Where the cut is within a prompt, those are the words of the prompt itself: the task is never lost.
        """
        block = {"type": "text", "text": self.summary}
        if messages[self.at]["role"] == "user":
            return [{"role": "user", "content": [block, *messages[self.at]["content"]]}, *messages[self.at + 1 :]]
        return [{"role": "user", "content": [block, *_task(messages, self.at)]}, *messages[self.at :]]


@dataclass(frozen=True, slots=True)
class Metered:
    """What the service said of the size of a history: it and the answer were `tokens`."""

    at: int
    prefix: str
    cut: int
    fixed_tokens: int
    """What system and tools were estimated at: when they change, so does the rest."""
    tokens: int


def boundaries(messages: list[dict[str, Any]]) -> list[int]:
    """Return where a history may be cut: at a user's words, never between a call and its result."""
    return [
        at
        for at, message in enumerate(messages)
        if at and user_text(message) and not any(b.get("type") == "tool_result" for b in message["content"])
    ]


def rounds(messages: list[dict[str, Any]]) -> list[int]:
    """Return where a history may be cut within a prompt: before an answer, when every earlier call has its result."""
    return [
        at
        for at in range(2, len(messages))
        if messages[at]["role"] == "assistant" and messages[at - 1]["role"] == "user"
    ]


def weight(value: Any) -> int:
    """Estimate the tokens of a part of a request."""
    if isinstance(value, str):
        return len(value.encode(errors="replace")) // 4 + 1
    if isinstance(value, dict):
        if value.get("type") == "image":
            return IMAGE_TOKENS
        return sum(map(weight, value.values())) + len(value)
    return sum(map(weight, value)) if isinstance(value, list) else 1


def fixed_weight(body: dict[str, Any]) -> int:
    """Estimate what is sent whatever the history: system, tools and settings."""
    return weight({key: value for key, value in body.items() if key != "messages"})


def sent(full: list[dict[str, Any]], cut: Cut | None, result_chars: int | None) -> list[dict[str, Any]]:
    """Return the history as it is sent: behind the cut, with results of at most `result_chars` characters."""
    return shortened(cut.applied(full) if cut else full, result_chars)


def size(
    full: list[dict[str, Any]],
    cut: Cut | None,
    fixed_tokens: int,
    metered: Metered | None,
    result_chars: int | None = None,
) -> int:
    """Return the tokens of what is about to be sent: the service's last count and what was added, or an estimate."""
    estimate = fixed_tokens + weight(sent(full, cut, result_chars))
    if metered is None or metered.cut != (cut.at if cut else 0) or len(full) <= metered.at:
        return estimate
    if prefix_of(full, metered.at) != metered.prefix:
        return estimate
    answered = full[metered.at].get("role") == "assistant"  # that is in its output already
    added = weight(shortened(full[metered.at + answered :], result_chars)) + fixed_tokens - metered.fixed_tokens
    return metered.tokens + added if (metered.tokens + added) * BELIEVABLE >= estimate else estimate


def total(usage: Usage) -> int:
    """Return what an answer leaves in the window: all that went in and came out."""
    return (
        (usage.input_tokens or 0)
        + (usage.cache_read_tokens or 0)
        + (usage.cache_creation_tokens or 0)
        + (usage.output_tokens or 0)
    )


def cut_for(messages: list[dict[str, Any]], keep_turns: int, room_tokens: int, after: int = 0) -> int:
    """Return where to cut: `keep_turns` turns are left, or fewer where they are too large; 0: nowhere.

    Where even the last turn is too large, as an agent's run of many tool calls is, its own earlier rounds are cut off.
    Only a cut later than `after` counts, so that repeated rotation comes to an end.
    """
    left = _weights_from(messages)
    found = boundaries(messages)
    wanted = [at for at in found[-keep_turns:] if at > after]
    fits = [at for at in wanted if left[at] <= room_tokens]
    if fits:
        return fits[0]
    within = [at for at in rounds(messages) if at > max(after, found[-1] if found else 0)]
    if within:
        room_tokens -= weight(_task(messages, within[0]))
        return next((at for at in within if left[at] <= room_tokens), within[-1])
    return wanted[-1] if wanted else 0


def _weights_from(messages: list[dict[str, Any]]) -> list[int]:
    """Return for each place what the history from there on weighs."""
    left = [0] * (len(messages) + 1)
    for at in range(len(messages) - 1, -1, -1):
        left[at] = left[at + 1] + weight(messages[at])
    return left


def _task(messages: list[dict[str, Any]], at: int) -> list[dict[str, Any]]:
    """Return what the user said in the prompt that is under way at `at`."""
    start = prompt_start(messages[:at])
    return [block for block in messages[start]["content"] if block.get("type") != "tool_result"] if start >= 0 else []


def prefix_of(messages: list[dict[str, Any]], cut: int) -> str:
    """Return the digest of a history's beginning; cache markers wander, so they don't count."""
    plain = msgspec.json.encode(_unmarked(messages[:cut]), order="deterministic")
    return hashlib.sha256(plain).hexdigest()[:32]


def _unmarked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmarked(item) for item in value]
    if isinstance(value, dict):
        return {key: _unmarked(item) for key, item in value.items() if key != "cache_control"}
    return value


def applicable(cuts: Iterable[Cut], messages: list[dict[str, Any]]) -> Cut | None:
    """Return the latest of the cuts that were made of this very history."""
    for cut in sorted(cuts, key=lambda cut: -cut.at):
        if cut.at < len(messages) and prefix_of(messages, cut.at) == cut.prefix:
            return cut
    return None


def transcript(messages: list[dict[str, Any]]) -> str:
    """Return a history as text for whoever summarises it."""
    lines: list[str] = []
    for message in messages:
        for block in message["content"]:
            match block.get("type"):
                case "text":
                    said = block["text"]
                case "tool_use":
                    said = f"{block.get('name')} {_plain(block.get('input'))}"
                case "tool_result":
                    said = _plain(block.get("content"))
                case "image":
                    said = "[an image]"
                case _:
                    continue
            lines.append(f"{message['role']} {block['type']}: {said}")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(
            part["text"] if part.get("type") == "text" else f"[{part.get('type')}]"
            for part in value
            if isinstance(part, dict)
        )
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def portions(text: str, limit_bytes: int, most: int) -> tuple[list[str], int]:
    """Return a text in portions of at most `limit_bytes`, and how many characters are in none of them.

    At most `most` portions: of a longer text the middle is left out.
    """
    written = len(text.encode(errors="replace"))
    step = max(1, limit_bytes * len(text) // max(1, written))
    found = [text[at : at + step] for at in range(0, len(text), step)]
    if len(found) <= most:
        return found, 0
    first = found[: (most + 1) // 2]
    last = found[len(found) - most // 2 :]
    return first + last, sum(map(len, found)) - sum(map(len, first + last))
