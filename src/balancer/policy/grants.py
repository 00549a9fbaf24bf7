"""What a named key of the balancer may do, and how much of its limits is used.

Times are on the driver's monotonic clock, in seconds. What several workers count is joined in `state/shared_keys.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil

import msgspec

from balancer.model import Usage

MINUTE_S = 60

RIGHTS = ("messages", "read", "admin")
"""`messages`: everything below /v1/. `read`: what the control endpoints tell. `admin`: what changes something."""


class Minute:
    """Counts over the last 60 seconds, to the second: at most 61 numbers, however much is counted."""

    def __init__(self) -> None:
        self._counts: deque[list[int]] = deque()
        """Second and count, the oldest first."""
        self._total = 0

    def add(self, count: int, now: float) -> None:
        """Count what happens at `now`."""
        second = int(now)
        if self._counts and self._counts[-1][0] >= second:
            self._counts[-1][1] += count
        else:
            self._counts.append([second, count])
        self._total += count

    def wait_s(self, limit: int, now: float) -> int:
        """Return the whole seconds until less than `limit` is counted; 0: that is so now."""
        counts, gone = self._counts, int(now) - MINUTE_S
        while counts and counts[0][0] <= gone:
            self._total -= counts.popleft()[1]
        left = self._total
        for second, count in counts:
            if left < limit:
                return 0
            left -= count
            if left < limit:
                return max(1, ceil(second + MINUTE_S - now))
        return 0


class KeyUse:
    """What a named key has used. It outlives a reload: only the limits are new then."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.requests = Minute()
        self.tokens = Minute()

    def may_begin(self, limit: int) -> bool:
        """Say whether a request may begin, of which `limit` may be in flight. Of the one that does `began` is told."""
        return self.in_flight < limit

    def began(self) -> None:
        """Note that a request is in flight."""
        self.in_flight += 1

    def ended(self) -> None:
        """Note that it no longer is."""
        self.in_flight -= 1


class KeyGrant(msgspec.Struct, eq=False):
    """A named key, as a configuration has it: a `Grant` to requests."""

    name: str
    use: KeyUse
    rights: frozenset[str] = frozenset(RIGHTS[:2])
    may_ask: Callable[[str], bool] | None = None
    """Says whether it may ask for a model; None: for every one."""
    providers: frozenset[str] = frozenset()
    """Only these are asked; empty: all."""
    rpm: int | None = None
    tokens_per_minute: int | None = None
    max_in_flight: int | None = None
    expires: float | None = None
    """Seconds since the epoch; None: never."""

    def exceeded(self, now: float, *, counts: bool = False) -> tuple[str, int] | None:
        """Return which limit a further request would exceed, in words, and the seconds until it would not.

        `counts`: it only counts tokens, which neither limit by the minute forbids.
        """
        use = self.use
        rpm, tokens_per_minute = (None, None) if counts else (self.rpm, self.tokens_per_minute)
        if rpm is not None and (wait_s := use.requests.wait_s(rpm, now)):
            return f"{rpm} requests a minute", wait_s
        if tokens_per_minute is not None and (wait_s := use.tokens.wait_s(tokens_per_minute, now)):
            return f"{tokens_per_minute} tokens a minute", wait_s
        if self.max_in_flight is not None and not use.may_begin(self.max_in_flight):
            return f"{self.max_in_flight} requests in flight", 1
        return None

    def began(self) -> None:
        """Note that a request with this key is in flight."""
        self.use.began()

    def ended(self, usage: Usage, now: float) -> None:
        """Note that it no longer is, and count the tokens: what was read from the prompt cache is none of them."""
        self.use.ended()
        if self.tokens_per_minute is not None:
            counted = (usage.input_tokens, usage.cache_creation_tokens, usage.output_tokens)
            if tokens := sum([number for number in counted if number]):
                self.use.tokens.add(tokens, now)
