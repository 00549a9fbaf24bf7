"""What requests cost, as far as this process knows, and whether there is budget for one more."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from balancer.dialects.zed.options import CostControl, Price
from balancer.model import Usage

MAX_PROMPTS = 1000
PRICES = {
    "claude-opus-4-1": Price(
        input=16.5, output=82.5, cache_write=20.625, cache_read=1.65, prompt=0.2, burn_request=0.25
    ),
    "claude-opus-4": Price(input=16.5, output=82.5, cache_write=20.625, cache_read=1.65, prompt=0.2, burn_request=0.25),
}
"""Zed's list of 2026: the provider's prices and ten percent. Others are taken for a Sonnet."""


HELD_S = 120.0
"""How long what a request is expected to cost is set aside, if its answer never begins."""


@dataclass(slots=True)
class BudgetLedger:
    """What was spent, in US dollars, by day, by month and by prompt.

    A long request is worked on in a thread beside the event loop, so two flows may be in here at once: no method breaks
    when a table changes under it.
    """

    days: dict[str, float] = field(default_factory=dict)
    prompts: OrderedDict[str, float] = field(default_factory=OrderedDict)
    blocks: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """Legacy plans: so many prompts are paid for each prompt's tool calls."""
    prompt_count: int = 0
    total: float = 0.0
    held: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By attempt: what it is expected to cost, and since when that is set aside."""

    def spend(self, usd: float, prompt: str, wall: float) -> None:
        today = day(wall)
        self.days[today] = self.days.get(today, 0.0) + usd
        for old in sorted(self.days)[:-62]:
            self.days.pop(old, None)
        self.prompt_count += prompt not in self.prompts
        self.prompts[prompt] = self.prompts.get(prompt, 0.0) + usd
        _bounded(self.prompts, prompt)
        self.total += usd

    def new_blocks(self, prompt: str, count: int) -> int:
        """Return how many of a prompt's blocks of tool calls are not paid for yet, and note that they are now."""
        fresh = max(0, count - self.blocks.get(prompt, 0))
        self.blocks[prompt] = self.blocks.get(prompt, 0) + fresh
        _bounded(self.blocks, prompt)
        return fresh

    def hold(self, attempt: str, usd: float, wall: float) -> None:
        """Set aside what an attempt is expected to cost."""
        for name, kept in tuple(self.held.items()):
            if kept[1] + HELD_S <= wall:
                self.held.pop(name, None)
        self.held[attempt] = (usd, wall)

    def let_go(self, attempt: str) -> None:
        """The attempt cost something else, or nothing."""
        self.held.pop(attempt, None)

    def expected(self, wall: float) -> float:
        """Return what is set aside."""
        return sum(usd for usd, since in tuple(self.held.values()) if since + HELD_S > wall)

    def today(self, wall: float) -> float:
        return self.days.get(day(wall), 0.0)

    def month(self, wall: float) -> float:
        return sum(usd for name, usd in tuple(self.days.items()) if name.startswith(day(wall)[:7]))


def _bounded(known: OrderedDict[str, Any], used: str) -> None:
    with suppress(KeyError):
        known.move_to_end(used)
    while len(known) > MAX_PROMPTS:
        known.popitem(last=False)


def day(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d")


def price_of(model: str, control: CostControl) -> Price:
    """Return the configured price with the longest beginning of the name, else the known one."""
    for table in (control.pricing, PRICES):
        names = [name for name in table if model.startswith(name)]
        if names:
            return table[max(names, key=len)]
    return Price()


def by_tokens(usage: Usage, price: Price) -> float:
    """Return what usage costs, in US dollars."""
    return (
        (usage.input_tokens or 0) * price.input
        + (usage.output_tokens or 0) * price.output
        + (usage.cache_creation_tokens or 0) * price.cache_write
        + (usage.cache_read_tokens or 0) * price.cache_read
    ) / 1e6


def blocks(calls: int, calls_per_prompt: int) -> int:
    """Return how many prompts a prompt with so many tool calls uses up on a legacy plan."""
    return calls // calls_per_prompt + 1


def exceeded(ledger: BudgetLedger, control: CostControl, prompt: str, usd: float, wall: float) -> str:
    """Return which budget another `usd` would exceed, or nothing."""
    expected = ledger.expected(wall)
    limits = (
        ("per_prompt_usd", control.per_prompt_usd, ledger.prompts.get(prompt, 0.0)),
        ("daily_usd", control.daily_usd, ledger.today(wall) + expected),
        ("monthly_usd", control.monthly_usd, ledger.month(wall) + expected),
    )
    for name, limit, spent in limits:
        if limit is not None and spent + usd > limit:
            return f"{name}: {spent:.4f} of {limit:.4f} US dollars are spent, and this request costs about {usd:.4f}"
    return ""
