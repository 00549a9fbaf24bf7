"""What providers said when they refused: their own words, when they answer again, and their limits.

Of use to a client that gets no answer, and safe for it to read: known secrets, what looks like a key, URLs, accounts
and machines are blotted out, and what is long is cut.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import UTC, datetime

from balancer import claude_code
from balancer.headers import Headers
from balancer.model import Fault, Outcome, Refused
from balancer.policy.verdicts import Statement
from balancer.redact import anonymous, scrub, without

WORDS_MAX_CHARS = 300
"""The longest words of one provider in a message that has those of all."""

_LOOKED_AT_CHARS = 1024
"""How much of a provider's words is looked at: the patterns of `anonymous` take time by the square of a length."""

_LIMITS_MAX = 32
_LIMIT_MAX_BYTES = 256
"""The most headers about limits that are kept, and the longest: they are remembered as long as the cooldown."""


def statement(outcome: Outcome, now: float, secrets: Collection[str]) -> Statement | None:
    """Return what a provider said at `now`, on the driver's clock, fit to be shown; None: nothing of use."""
    if not isinstance(outcome, Refused):
        return None
    fault = outcome.fault
    resets_at = now + fault.retry_after_s if fault.retry_after_s else 0.0
    words, limits = _words(fault.message, secrets), _limits(fault)
    return Statement(words, resets_at, limits) if words or resets_at or limits else None


def _words(message: str, secrets: Collection[str]) -> str:
    known = without(message.encode("utf-8", "surrogatepass"), secrets).decode("utf-8", "surrogatepass")
    words = anonymous(scrub(known[:_LOOKED_AT_CHARS])).strip()
    if words.isascii() and " " not in words:  # "Overloaded": the error's type says it already
        return ""
    if any(phrase in words.lower() for phrase in claude_code.TAKES_FOR_ITS_OWN):
        return ""
    return words if len(words) <= WORDS_MAX_CHARS else words[:WORDS_MAX_CHARS].rstrip() + " ..."


def _limits(fault: Fault) -> Headers:
    headers = fault.reply.headers if fault.reply else ()
    limits = [
        (name, value)
        for name, value in headers
        if name.startswith(b"anthropic-ratelimit-") and len(name) + len(value) <= _LIMIT_MAX_BYTES
    ]
    return tuple(limits[:_LIMITS_MAX])


def quoted(reason: str, said: Statement | None, now: float, wall: float) -> str:
    """Return a reason with the provider's own words, and when it answers again.

    `now` and `wall` are the same time, on the driver's clock and since the epoch.
    """
    if said is None:
        return reason
    words = f'{reason}: "{said.words}"' if said.words and said.words not in reason else reason
    left_s = said.resets_at - now
    return words if left_s <= 0 else f"{words} (asks to wait {in_words(left_s, wall)})"


def in_words(left_s: float, wall: float) -> str:
    """Return how long something takes from `wall` on, and when that is over if it takes long."""
    left_s = math.ceil(left_s)
    if left_s < 120:
        return f"{left_s} s"
    minutes = math.ceil(left_s / 60)
    hours, days = minutes // 60, minutes // 1440
    span = f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
    if days:
        span = f"{days} d {hours % 24} h"
    try:
        over = datetime.fromtimestamp(wall + left_s, UTC)
    except (ValueError, OverflowError, OSError):
        return span
    return f"{span}, until {over:%Y-%m-%d %H:%M} UTC"
