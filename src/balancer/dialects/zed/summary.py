"""Asking the service itself for the summary of what is cut off a conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from balancer.dialect import Ask
from balancer.dialects.zed import rotation
from balancer.dialects.zed.account import Part, account_of, options_of, sent
from balancer.dialects.zed.decoder import text_of
from balancer.dialects.zed.options import MAX_CONTEXT_TOKENS
from balancer.dialects.zed.request import zed_model
from balancer.model import Usage

PROMPT = (
    "Summarise the following conversation so that the work can go on from the summary alone: goals, decisions, files, "
    "findings, open tasks. Answer with the summary only.\n\n"
)
GO_ON = (
    "Below are the summary of the beginning of a conversation, and how it went on. Write one summary of both, so that "
    "the work can go on from it alone: goals, decisions, files, findings, open tasks. Answer with the summary only."
    "\n\nSummary so far:\n{summary}\n\nHow it went on:\n"
)
WITHIN_S = 120.0
"""How long a summary may take in all; after this the cut part is left out."""
PORTIONS_MAX = 6
"""A history that the summarising model can't take at once is summarised in so many portions at most."""
BYTES_PER_TOKEN = 3
"""On the safe side: English has four, Chinese three."""
OVERHEAD_TOKENS = 500


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of asking for a summary: `text` is empty where there is none, and `why` says the reason."""

    text: str
    usage: Usage
    model: str = ""
    why: str = ""


def summary_of(
    ask: Ask, catalogue: list[dict[str, Any]], messages: list[dict[str, Any]], model: str, key: str
) -> Part[Summary]:
    """Return the summary of a history; `key` names it, so that it is made once for all that need it now."""
    context = options_of(ask).context_management
    fast = account_of(ask).models.get("default_fast_model")
    entry = zed_model(context.summary_model or (fast if isinstance(fast, str) else "") or model, catalogue)
    name = entry["id"]
    window = entry.get("max_token_count")
    most = window if isinstance(window, int) and window > 0 else MAX_CONTEXT_TOKENS
    room_tokens = max(1000, most - context.summary_max_tokens - OVERHEAD_TOKENS)
    parts, lost = rotation.portions(rotation.transcript(messages), room_tokens * BYTES_PER_TOKEN, PORTIONS_MAX)
    text, usage = "", Usage()
    for number, part in enumerate(parts):
        asked = (GO_ON.format(summary=text) if number else PROMPT) + part
        within_s = WITHIN_S / len(parts)
        reply = yield from sent(
            ask,
            b"POST",
            b"/completions",
            _request(name, asked, context.summary_max_tokens),
            side_request=True,
            single_flight=f"summary {key} {number}",
            within_s=within_s,
        )
        said, used = text_of(reply.body) if reply.status == 200 else ("", Usage())
        usage = _sum(usage, used)
        text = said.strip()
        if not text:
            return Summary("", usage, name, f"status {reply.status}" if reply.status else reply.body.decode())
    if lost:
        text += f"\n[{lost} characters in the middle were too much to be summarised and were left out]"
    return Summary(text, usage, name)


def _request(model: str, asked: str, max_tokens: int) -> dict[str, Any]:
    return {
        "intent": "thread_context_summarization",
        "provider": "anthropic",
        "model": model,
        "provider_request": {
            "model": model,
            "max_tokens": max_tokens,
            "messages": [{"role": "user", "content": [{"type": "text", "text": asked}]}],
        },
    }


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        (one.input_tokens or 0) + (other.input_tokens or 0),
        (one.output_tokens or 0) + (other.output_tokens or 0),
        (one.cache_read_tokens or 0) + (other.cache_read_tokens or 0),
        (one.cache_creation_tokens or 0) + (other.cache_creation_tokens or 0),
    )
