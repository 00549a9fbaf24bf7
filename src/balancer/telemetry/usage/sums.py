"""Sums over the ledger: what was used and what it cost, by day, model, provider, client, session or project."""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec

GROUPS = {
    "day": "day",
    "model": "model",
    "provider": "provider",
    "client": "CASE WHEN key_name <> '' THEN key_name ELSE client END",
    "session": "session",
    "project": "project",
}
"""What usage can be summed by, and what says it. A client is the name of its key, or the hash of its credential."""

_UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SPAN = re.compile(r"(\d{1,6})([mhdw])")

GROUPS_MAX = 1000
"""So many groups are shown: those that cost most."""


class Sum(msgspec.Struct):
    """What the requests of one group used. Tokens as the providers reported them."""

    group: str
    requests: int
    failed: int
    """Those that did not end well, without those that the client left."""
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    cost_usd: float
    unpriced: int
    """Requests whose model has no known price: they are not in `cost_usd`."""

    @property
    def cache_share(self) -> float | None:
        """Return which part of the prompt's tokens came from the prompt cache; None: there were none."""
        read = self.cache_read_tokens
        whole = self.input_tokens + read + self.cache_write_5m_tokens + self.cache_write_1h_tokens
        return read / whole if whole else None


def since(text: str, wall: float) -> float:
    """Return the beginning of a time, in seconds since the epoch.

    `text` is a span back from now (`24h`, `7d`), `today`, or a date. Raises `ValueError`.
    """
    if found := _SPAN.fullmatch(text):
        return wall - int(found[1]) * _UNITS_S[found[2]]
    if text == "today":
        return time.mktime((*time.localtime(wall)[:3], 0, 0, 0, 0, 0, -1))
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%d"))
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time: a span like 24h or 7d, today, or a date like 2026-11-28") from None


_SUMS = """
    COUNT(*),
    SUM(CASE WHEN outcome IN ('ok', 'abandoned') THEN 0 ELSE 1 END),
    SUM(COALESCE(input_tokens, 0)), SUM(COALESCE(output_tokens, 0)), SUM(COALESCE(cache_read_tokens, 0)),
    SUM(COALESCE(cache_write_5m_tokens, 0)), SUM(COALESCE(cache_write_1h_tokens, 0)),
    SUM(COALESCE(cost_usd, 0)), SUM(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END)
"""


def statement(by: str) -> str:
    """Return the query whose rows `summed` reads; its value is `since`. Raises `KeyError` for an unknown group."""
    order = "1" if by == "day" else "9 DESC, 2 DESC"
    return (
        f"SELECT {GROUPS[by]}, {_SUMS} FROM requests WHERE ended >= :since"  # noqa: S608 - our own names
        f" GROUP BY 1 ORDER BY {order} LIMIT {GROUPS_MAX}"
    )


def _seven(numbers: list[Any]) -> tuple[int, int, int, int, int, int, int]:
    a, b, c, d, e, f, g = map(int, numbers)  # some databases give decimals
    return a, b, c, d, e, f, g


def summed(rows: list[Any]) -> list[Sum]:
    """Return the groups of a query's rows."""
    return [
        Sum(
            str(group or ""),
            int(asked),
            int(failed),
            int(i),
            int(o),
            int(r),
            int(w5),
            int(w1),
            float(cost),
            int(unpriced),
        )
        for group, asked, failed, i, o, r, w5, w1, cost, unpriced in rows
    ]


def total(groups: list[Sum]) -> Sum:
    """Return what all groups used together."""
    whole = Sum("", 0, 0, 0, 0, 0, 0, 0, 0.0, 0)
    for group in groups:
        for name in Sum.__struct_fields__[1:]:
            setattr(whole, name, getattr(whole, name) + getattr(group, name))
    return whole
