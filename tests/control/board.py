"""What the control endpoints work on, without a server: a fleet, metrics, and the answers that a test gives them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
from state.world import World

from balancer.config import Problem
from balancer.control import api
from balancer.control.workers import Workers
from balancer.telemetry.metrics import Metrics
from balancer.telemetry.recent import Recent
from balancer.telemetry.usage.ledger import Ledger


class Board:
    """Fulfils `api.Board`. Its time is what the test sets."""

    one_of_several = False
    restart: Callable[[], Awaitable[str]] | None = None
    ledger: Ledger | None = None

    def __init__(self, settings: str = "", names: str = "ab", **provider: str) -> None:
        self.world = World(settings, names, **provider)
        self.fleet = self.world.fleet
        self.metrics = Metrics()
        self.recent = Recent()
        self.at = 0.0
        self.changes: tuple[str, ...] = ()
        self.problems: list[Problem] = []
        self.others: dict[str, Any] = {}
        self.workers = Workers(self, None)
        self.listed: dict[str, Any] = {"data": []}
        self.asked: list[Any] = []

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return 1000.0 + self.at

    def uptime_s(self) -> float:
        return 12.34

    def log_lines_lost(self) -> int:
        return 7

    def note_restart(self) -> None:
        self.asked.append("restart")

    async def reload(self) -> tuple[tuple[str, ...], list[Problem], dict[str, Any]]:
        return self.changes, self.problems, self.others

    async def models(
        self, limit: int | None, after: str | None, before: str | None, may_ask: Callable[[str], bool] | None
    ) -> dict[str, Any]:
        self.asked.append((limit, after, before))
        return self.listed

    async def model(self, name: str) -> dict[str, Any] | None:
        return next((entry for entry in self.listed["data"] if entry["id"] == name), None)

    async def request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """Send the control application one request."""
        transport = httpx2.ASGITransport(api.build(self), raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://balancer") as client:
            return await client.request(method, path, **more)

    async def get(self, path: str, **more: Any) -> httpx2.Response:
        return await self.request("GET", path, **more)

    async def post(self, path: str, body: object = None, **more: Any) -> httpx2.Response:
        return await self.request("POST", path, **({"json": body} if body is not None else {}), **more)
