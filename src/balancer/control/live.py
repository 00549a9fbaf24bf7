"""The live page: its files, and the stream of server-sent events that it shows (`GET /events`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import msgspec

from balancer import __version__
from balancer.control import status
from balancer.state.fleet import Fleet
from balancer.telemetry.recent import Recent
from balancer.telemetry.usage import sums
from balancer.telemetry.usage.ledger import Ledger

PAGE = "/dashboard"
FILES = {
    PAGE: ("index.html", "text/html; charset=utf-8"),
    f"{PAGE}/app.js": ("app.js", "text/javascript; charset=utf-8"),
    f"{PAGE}/style.css": ("style.css", "text/css; charset=utf-8"),
}
FOLDER = Path(__file__).with_name("dashboard")

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@lru_cache
def file(path: str) -> tuple[bytes, str]:
    """Return one of the page's files, and its media type. Raises `KeyError`."""
    name, kind = FILES[path]
    return (FOLDER / name).read_bytes(), kind


VIEWERS_MAX = 16
"""So many may look at once."""

LOOK_EVERY_S = 0.5
"""How often it is looked whether there is news. Half of what the page bears, and people see no difference."""

PROVIDERS_EVERY_S = 2.0
"""How often the providers are told although no request has ended: cooldowns run out by themselves."""

COST_EVERY_S = 10.0

_JSON = msgspec.json.Encoder()


class Board(Protocol):
    """What the live page shows."""

    fleet: Fleet
    recent: Recent
    ledger: Ledger | None

    def now(self) -> float: ...

    def wall(self) -> float: ...

    def uptime_s(self) -> float: ...


class Live:
    """Tells those who look what goes on."""

    def __init__(self, board: Board) -> None:
        self.viewers = 0
        self._board = board
        self._cost: dict[str, Any] = {}
        self._cost_at = -COST_EVERY_S
        self._targets = status.Targets()
        self._fleet: dict[str, Any] = {}
        self._fleet_at = -PROVIDERS_EVERY_S

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Give a snapshot, then what has changed, until the viewer leaves or the balancer is stopped."""
        board = self._board
        self.viewers += 1
        try:
            told, providers_at = board.recent.latest, board.now()
            yield _event("snapshot", await self._snapshot())
            while not board.fleet.draining:
                await asyncio.sleep(LOOK_EVERY_S)
                news = board.recent.latest != told
                due = board.now() - providers_at >= PROVIDERS_EVERY_S
                if not news and not due:
                    continue
                ended, told = board.recent.ended(told), board.recent.latest
                change: dict[str, Any] = {"requests": ended, "summary": await self._summary()}
                change["in_flight"] = board.recent.in_flight(board.wall())
                if due:
                    providers_at = board.now()
                    change |= await self._providers()
                yield _event("change", change)
            yield _event("draining", {})
        finally:
            self.viewers -= 1

    async def _snapshot(self) -> dict[str, Any]:
        board = self._board
        config = board.fleet.config
        return {
            "version": __version__,
            "uptime_s": round(board.uptime_s(), 1),
            "requests": board.recent.ended(),
            "in_flight": board.recent.in_flight(board.wall()),
            "summary": await self._summary(),
            "file": config.path.name if config.path else None,
            "drills": config.settings.drills,
            **await self._providers(),
        }

    async def _providers(self) -> dict[str, Any]:
        """Return the providers, the same for all who look at about the same time."""
        board = self._board
        if board.now() - self._fleet_at < PROVIDERS_EVERY_S and self._fleet:
            return self._fleet
        self._fleet_at = board.now()
        pieces = await status.in_slices(status.written(board.fleet, self._targets, board.now(), board.wall()))
        described = msgspec.json.decode(b"".join(pieces))
        for provider in described["providers"]:
            provider["minutes"] = board.recent.minutes(provider["name"], board.wall())
        described["warnings"] = [str(warning) for warning in board.fleet.config.warnings]
        self._fleet = {"fleet": described, "wall": board.wall()}
        return self._fleet

    async def _summary(self) -> dict[str, Any]:
        board = self._board
        if board.ledger is not None and board.now() - self._cost_at >= COST_EVERY_S:
            self._cost_at = board.now()
            self._cost = await asyncio.to_thread(_today, board.ledger, board.wall())
        return {**board.recent.summary(board.wall()), **self._cost}


def _today(ledger: Ledger, wall: float) -> dict[str, Any]:
    """Return what this day cost so far; nothing where the ledger can't be read."""
    try:
        rows = ledger.rows(sums.statement("day"), {"since": sums.since("today", wall)})
    except OSError:
        return {}
    today = [group for group in sums.summed(rows) if group.group == time.strftime("%Y-%m-%d", time.localtime(wall))]
    whole = sums.total(today)
    share = whole.cache_share
    return {
        "cost_today_usd": round(whole.cost_usd, 4),
        "unpriced_today": whole.unpriced,
        "cache_share_today": None if share is None else round(share, 4),
    }


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _JSON.encode(data))
