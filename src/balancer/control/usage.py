"""`GET /usage`: what was used and what it cost, out of the ledger."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from balancer.telemetry.usage import sums
from balancer.telemetry.usage.ledger import Ledger
from balancer.telemetry.usage.sums import Sum

BY, SINCE = "day", "7d"
"""What is summed by, and from when on, where nothing is asked for."""


class NoUsage(Exception):
    """There is nothing to tell; `status` and `str(error)` say why and what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def told(ledger: Ledger | None, by: str | None, since: str | None, wall: float) -> dict[str, Any]:
    """Return the answer of `GET /usage?by=&since=`. Raises `NoUsage`."""
    if ledger is None:
        raise NoUsage(404, "no usage is kept: settings.usage is off, or there is no settings.log_file")
    by, since = by or BY, since or SINCE
    if by not in sums.GROUPS:
        raise NoUsage(400, f"by: there is no {by[:40]!r}; there are: {', '.join(sums.GROUPS)}")
    try:
        begins = sums.since(since[:40], wall)
    except ValueError as error:
        raise NoUsage(400, f"since: {error}") from None
    try:
        rows = await asyncio.to_thread(ledger.rows, sums.statement(by), {"since": begins})
    except OSError as error:
        raise NoUsage(503, f"the ledger can't be read: {error}") from None
    groups = sums.summed(rows)
    return {
        "by": by,
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begins)),
        "total": _shown(sums.total(groups)),
        "groups": [{by: group.group, **_shown(group)} for group in groups],
        "lost": ledger.lost,
    }


def _shown(group: Sum) -> dict[str, Any]:
    told = msgspec.structs.asdict(group)
    del told["group"]
    share = group.cache_share
    told["cost_usd"] = round(group.cost_usd, 6)
    return {**told, "cache_share": None if share is None else round(share, 4)}
