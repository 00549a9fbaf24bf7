"""`GET /v1/models`: every exact route name, and what providers list where they can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from balancer import NAME, claude_code
from balancer.relay.relay import Relay
from balancer.wire.loose import decoded_object, objects_of

FRESH_S = 300.0
ASK_S = claude_code.MODELS_WAIT_S - 1.0
"""How long providers are waited for: less than the client waits for the list."""


class Catalogue:
    """Collects the models that may be asked for; asks the providers at most every five minutes."""

    def __init__(self, relay: Relay, now: Callable[[], float]) -> None:
        self._relay = relay
        self._now = now
        self._listed: dict[str, dict[str, Any]] = {}
        self._asked_at = float("-inf")
        self._generation = -1

    async def page(
        self,
        limit: int | None,
        after: str | None,
        before: str | None,
        may_ask: Callable[[str], bool] | None = None,
    ) -> dict[str, Any]:
        """Return one page of the Messages API's list, in an order that does not change between pages.

        Without `limit` it holds all; with `may_ask` only the models that it says yes to.
        `after` and `before` are ids; beyond one that is not in the list there is nothing.
        """
        names = await self._models()
        listed = [model for name, model in names.items() if may_ask is None or may_ask(name)]
        data, more = _page(listed, limit, after, before)
        return {
            "data": data,
            "has_more": more,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
        }

    async def find(self, name: str) -> dict[str, Any] | None:
        """Return the entry of a model; None where no route matches the name."""
        if self._relay.fleet.route(name) is None:
            return None
        return (await self._models()).get(name) or _model(name)

    async def _models(self) -> dict[str, dict[str, Any]]:
        """Return the models by name; names that no route matches are left out."""
        fleet = self._relay.fleet
        if self._now() - self._asked_at > FRESH_S or self._generation != fleet.generation:
            self._asked_at, self._generation = self._now(), fleet.generation
            self._listed = await self._ask()
        models = {name: _model(name) for name in fleet.routing.exact_names}
        for name, model in self._listed.items():
            if name not in models and fleet.route(name) is not None:
                models[name] = model
        return models

    async def _ask(self) -> dict[str, dict[str, Any]]:
        fleet = self._relay.fleet
        providers = [p for p in fleet.config.providers.values() if p.enabled and p.name not in fleet.health.paused]
        answers = await asyncio.gather(*(self._relay.list_models(provider, ASK_S) for provider in providers))
        listed: dict[str, dict[str, Any]] = {}
        for body in answers:
            for model in _entries(body):
                listed.setdefault(model["id"], model)
        return listed


def in_both_shapes(page: dict[str, Any]) -> dict[str, Any]:
    """Return a page of the Messages API's list that is OpenAI's list, too: the names of their members do not clash."""
    return {"object": "list", **page, "data": [entry_in_both_shapes(model) for model in page["data"]]}


def entry_in_both_shapes(model: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of the Messages API's list with the members of OpenAI's."""
    return {**model, "object": "model", "created": _seconds(model.get("created_at")), "owned_by": NAME}


def _seconds(date: object) -> int:
    """Return a date in seconds since the epoch; 0: it is none."""
    try:
        return max(0, int(datetime.fromisoformat(str(date)).timestamp()))
    except (ValueError, OverflowError):
        return 0


def _page(
    models: list[dict[str, Any]], limit: int | None, after: str | None, before: str | None
) -> tuple[list[dict[str, Any]], bool]:
    """Return the page, and whether there is more in the direction of reading."""
    count = len(models) if limit is None else limit
    places = {model["id"]: place for place, model in enumerate(models)}
    if after is not None:
        begin = places.get(after, len(models)) + 1
        return models[begin : begin + count], begin + count < len(models)
    if before is not None:
        end = places.get(before, 0)
        begin = max(0, end - count)
        return models[begin:end], begin > 0
    return models[:count], count < len(models)


def _entries(body: bytes | None) -> list[dict[str, Any]]:
    entries = objects_of(decoded_object(body or b"").get("data"))
    return [{**_model(e["id"]), **e} for e in entries if isinstance(e.get("id"), str)]


def _model(name: str) -> dict[str, Any]:
    made = "1970-01-01T00:00:00Z"  # nobody knows, and SDKs want a date
    return {"type": "model", "id": name, "display_name": name, "created_at": made, "lifecycle": "active"}
