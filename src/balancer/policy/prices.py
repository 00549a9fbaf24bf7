"""What tokens cost, by model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from balancer.model import Route, Usage
from balancer.policy.routes import Routing

_MILLION = 1_000_000

Dollars = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """US dollars for a million tokens of each kind. What is None follows from `input`."""

    input: Dollars
    output: Dollars
    cache_write_5m: Dollars | None = None
    cache_write_1h: Dollars | None = None
    cache_read: Dollars | None = None

    def cost_usd(self, usage: Usage) -> float:
        """Return what this usage costs. Tokens that were not reported cost nothing."""
        hour = usage.cache_creation_1h_tokens or 0
        written = max(0, (usage.cache_creation_tokens or 0) - hour)
        dollars = (
            (usage.input_tokens or 0) * self.input
            + (usage.output_tokens or 0) * self.output
            + written * (self.input * 1.25 if self.cache_write_5m is None else self.cache_write_5m)
            + hour * (self.input * 2 if self.cache_write_1h is None else self.cache_write_1h)
            + (usage.cache_read_tokens or 0) * (self.input * 0.1 if self.cache_read is None else self.cache_read)
        )
        return dollars / _MILLION


class Prices:
    """Finds the price of a model. The first table in which a pattern fits decides, and in it the most specific one."""

    def __init__(self, *tables: Mapping[str, Price]) -> None:
        self._tables = [(Routing([Route(pattern, ()) for pattern in table]), table) for table in tables]

    def of(self, model: str) -> Price | None:
        """Return the price of a model; None: it is not known."""
        for patterns, table in self._tables:
            route = patterns.match(model.lower())
            if route is not None:
                return table[route.pattern]
        return None
