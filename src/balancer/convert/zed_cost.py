"""What requests cost, as far as this process knows, and whether there is budget for one more."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime

from balancer.convert.zed_options import CostControl, Price
from balancer.model import Usage

MAX_PROMPTS = 1000
PRICES = {
    "claude-opus-4-1": Price(
        input=16.5, output=82.5, cache_write=20.625, cache_read=1.65, prompt=0.2, burn_request=0.25
    ),
    "claude-opus-4": Price(input=16.5, output=82.5, cache_write=20.625, cache_read=1.65, prompt=0.2, burn_request=0.25),
}
"""Zed's list of 2026: the provider's prices and ten percent. Others are taken for a Sonnet."""


@dataclass(slots=True)
class Ledger:
    """What was spent, in US dollars, by day, by month and by prompt."""

    days: dict[str, float] = field(default_factory=dict)
    prompts: OrderedDict[str, float] = field(default_factory=OrderedDict)
    total: float = 0.0

    def spend(self, usd: float, prompt: str, wall: float) -> None:
        today = day(wall)
        self.days[today] = self.days.get(today, 0.0) + usd
        for old in sorted(self.days)[:-62]:
            del self.days[old]
        self.prompts[prompt] = self.prompts.get(prompt, 0.0) + usd
        self.prompts.move_to_end(prompt)
        while len(self.prompts) > MAX_PROMPTS:
            self.prompts.popitem(last=False)
        self.total += usd

    def month(self, wall: float) -> float:
        return sum(usd for name, usd in self.days.items() if name.startswith(day(wall)[:7]))


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


def by_prompt(calls: int, calls_per_prompt: int, mode: str, price: Price) -> float:
    """Return what a request costs on a legacy plan: each started block of calls is a prompt."""
    if mode == "burn":
        return price.burn_request
    return price.prompt if calls % calls_per_prompt == 0 else 0.0


def blocks(calls: int, calls_per_prompt: int) -> int:
    """Return how many prompts so many tool calls use up."""
    return max(1, math.ceil(calls / calls_per_prompt))


def exceeded(ledger: Ledger, control: CostControl, prompt: str, usd: float, wall: float) -> str:
    """Return which budget another `usd` would exceed, or nothing."""
    limits = (
        ("per_prompt_usd", control.per_prompt_usd, ledger.prompts.get(prompt, 0.0)),
        ("daily_usd", control.daily_usd, ledger.days.get(day(wall), 0.0)),
        ("monthly_usd", control.monthly_usd, ledger.month(wall)),
    )
    for name, limit, spent in limits:
        if limit is not None and spent + usd > limit:
            return f"{name}: {spent:.4f} of {limit:.4f} US dollars are spent"
    return ""
