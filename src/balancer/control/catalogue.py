"""`GET /v1/models`: every exact route name, and what providers list where they can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from balancer.relay.relay import Relay

FRESH_S = 300.0
ASK_S = 2.0
"""Claude Code waits 3 s for this list."""


class Catalogue:
    """Collects the models that may be asked for; asks the providers at most every five minutes."""

    def __init__(self, relay: Relay, now: Callable[[], float]) -> None:
        self._relay = relay
        self._now = now
        self._listed: dict[str, dict[str, Any]] = {}
        self._asked_at = float("-inf")
        self._generation = -1

    async def listing(self, limit: int | None) -> dict[str, Any]:
        """Return the Messages API's list; names that no route matches are left out."""
        fleet = self._relay.fleet
        if self._now() - self._asked_at > FRESH_S or self._generation != fleet.generation:
            self._asked_at, self._generation = self._now(), fleet.generation
            self._listed = await self._ask()
        models = {name: _model(name) for name in fleet.routing.exact_names}
        for name, model in self._listed.items():
            if name not in models and fleet.route(name) is not None:
                models[name] = model
        data = list(models.values())
        shown = data if limit is None else data[: max(1, limit)]
        return {
            "data": shown,
            "has_more": len(shown) < len(data),
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
        }

    async def _ask(self) -> dict[str, dict[str, Any]]:
        fleet = self._relay.fleet
        providers = [p for p in fleet.config.providers.values() if p.enabled and p.name not in fleet.health.paused]
        answers = await asyncio.gather(*(self._relay.list_models(provider, ASK_S) for provider in providers))
        listed: dict[str, dict[str, Any]] = {}
        for body in answers:
            for model in _entries(body):
                listed.setdefault(model["id"], model)
        return listed


def _entries(body: bytes | None) -> list[dict[str, Any]]:
    if not body:
        return []
    entries = msgspec.json.decode(body).get("data", [])
    return [{**_model(e["id"]), **e} for e in entries if isinstance(e, dict) and isinstance(e.get("id"), str)]


def _model(name: str) -> dict[str, Any]:
    made = "1970-01-01T00:00:00Z"  # nobody knows, and SDKs want a date
    return {"type": "model", "id": name, "display_name": name, "created_at": made, "lifecycle": "active"}
