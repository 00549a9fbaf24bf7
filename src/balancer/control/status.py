"""The fleet in words: what `GET /providers`, `/` and the metrics show. No secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from balancer import dialects
from balancer.config import Config
from balancer.model import Provider
from balancer.policy.circuit import Health
from balancer.policy.remedies import in_words
from balancer.redact import shown_url
from balancer.state.fleet import Fleet

T = TypeVar("T")

SLICE_S = 0.002
"""For so long an answer is worked at in one go: streams wait meanwhile."""


def overview(fleet: Fleet, now: float) -> dict[str, int]:
    """Count the providers, and those that may be asked."""
    fleet.learn()
    providers = fleet.config.providers.values()
    healthy = sum(fleet.health.state_of(provider, now)[0] in ("healthy", "probing") for provider in providers)
    return {"total": len(providers), "healthy": healthy}


def moment(fleet: Fleet, now: float, log_lines_lost: int = 0) -> dict[str, Any]:
    """Return what the metrics show of this moment: of each provider no more than they need."""
    return {
        "generation": fleet.generation,
        "in_flight": fleet.admission.in_flight,
        "retry_budget": round(fleet.budget.tokens, 1),
        "local_faults": dict(fleet.local_faults.counts),
        "log_lines_lost": log_lines_lost,
        "providers": [_moment(fleet, provider, now) for provider in fleet.config.providers.values()],
    }


def _moment(fleet: Fleet, provider: Provider, now: float) -> dict[str, Any]:
    state, health = fleet.health.state_of(provider, now)
    return {
        "name": provider.name,
        "state": state,
        "resting_for_s": round(max(0.0, health.cooldown_until - now), 1),
        "in_flight": fleet.stats(provider.name).in_flight,
        "failure_count": health.failures,
    }


def describe(
    fleet: Fleet, now: float, wall: float, *, models: bool = True, targets: Targets | None = None
) -> dict[str, Any]:
    """Return the body of `GET /providers`; `models`: with the routes of each provider.

    `targets` may be kept by the caller from one call to the next: they are worked out once for a configuration.
    """
    fleet.learn()
    targets = targets or Targets()
    if models:
        targets.take(fleet.config)
    providers = [_provider(fleet, provider, targets, now, wall) for provider in fleet.config.providers.values()]
    return {**_whole(fleet, now), "providers": providers}


def written(fleet: Fleet, targets: Targets, now: float, wall: float) -> Iterator[bytes]:
    """Return the body of `GET /providers` as JSON, in small pieces: between them other things may be done.

    `targets` is kept by the caller from one call to the next.
    """
    yield from targets.take_in_slices(fleet.config)
    head = msgspec.json.encode(_whole(fleet, now))
    before = head[:-1] + b',"providers":['
    for provider in list(fleet.config.providers.values()):
        yield before + msgspec.json.encode(_provider(fleet, provider, targets, now, wall))
        before = b","
    yield b"]}"


async def in_slices(pieces: Iterable[T]) -> list[T]:
    """Return all the pieces. Whoever else has something to do gets a turn every few milliseconds."""
    time = asyncio.get_running_loop().time
    taken, until = [], time() + SLICE_S
    for piece in pieces:
        taken.append(piece)
        if time() >= until:
            await asyncio.sleep(0)
            until = time() + SLICE_S
    return taken


class Targets:
    """Which targets each provider has in the routes of one configuration: worked out once, for all providers."""

    def __init__(self) -> None:
        self._config: Config | None = None
        self._of: dict[str, list[dict[str, Any]]] = {}

    def take(self, config: Config) -> None:
        """Work it out for this configuration, unless it is done."""
        for _ in self.take_in_slices(config):
            pass

    def take_in_slices(self, config: Config) -> Iterator[bytes]:
        """Do what `take` does, with a break (and an empty piece) after each route."""
        if config is self._config:
            return
        of: dict[str, list[dict[str, Any]]] = {}
        for route in config.routes:
            for target in route.targets:
                shown = of.setdefault(target.provider, [])
                shown.append(
                    {
                        "pattern": route.pattern,
                        "model": target.model,
                        "priority": target.priority,
                        "weight": target.weight,
                    }
                )
            yield b""
        self._config, self._of = config, of

    def of(self, provider: str) -> list[dict[str, Any]]:
        """Return a provider's targets, in the order of the file."""
        return self._of.get(provider, [])


def _whole(fleet: Fleet, now: float) -> dict[str, Any]:
    """Return what `GET /providers` says of the balancer as a whole."""
    counts = overview(fleet, now)
    return {
        "selection_strategy": fleet.config.settings.selection_strategy,
        "generation": fleet.generation,
        "total_providers": counts["total"],
        "healthy_providers": counts["healthy"],
        "in_flight": fleet.admission.in_flight,
        "retry_budget": round(fleet.budget.tokens, 1),
        "total_model_routes": len(fleet.config.routes),
        "tls": _tls(fleet.config),
        "refused_configuration": list(fleet.refused),
        "needs_restart": list(fleet.needs_restart),
    }


def _tls(config: Config) -> dict[str, Any] | None:
    """Return what clients are served with; None: plain http."""
    tls = config.tls
    if tls is None:
        return None
    ends = None if tls.expires is None else datetime.fromtimestamp(tls.expires, UTC).isoformat(timespec="seconds")
    return {"names": list(tls.names), "expires": ends, "client_certificates": tls.asks_clients}


def _needs_operator(provider: Provider, health: Health) -> str | None:
    """Return what only a person can mend at a provider, and how; None: nothing."""
    trouble = health.needs_operator
    return in_words(provider.name, trouble, health.reason) if trouble else None


def _provider(fleet: Fleet, provider: Provider, targets: Targets, now: float, wall: float) -> dict[str, Any]:
    state, health = fleet.health.state_of(provider, now)
    stats = fleet.stats(provider.name)
    last_s = stats.latest_first_content_s
    shown: dict[str, Any] = {
        "name": provider.name,
        "type": provider.type,
        "base_url": shown_url(provider),
        "enabled": provider.enabled,
        "healthy": state in ("healthy", "probing"),
        "state": state,
        "failure_count": health.failures,
        "needs_operator": _needs_operator(provider, health),
        "resting_for_s": round(max(0.0, health.cooldown_until - now), 1),
        "resting_models": fleet.health.cooling_models(provider.name, now),
        "counting_resting_for_s": fleet.health.counting_cooldown_s(provider.name, now),
        "last_error": stats.last_error,
        "in_flight": stats.in_flight,
        "requests": stats.requests,
        "successes": stats.successes,
        "failures": stats.failures,
        "latency": {
            "first_substance_s": None if last_s is None else round(last_s, 4),
            "first_substance_ewma_s": round(stats.first_content_s, 4),
            "duration_ewma_s": round(stats.duration_s, 4),
        },
        "tokens": dict(stats.usage),
        "organization": stats.organization or None,
        "models": targets.of(provider.name),
    }
    if stats.drill is not None:
        shown["drill"] = {"fault": stats.drill.fault}
    described = dialects.get(provider.type).describe(stats.provider_state, provider.options, wall)
    if described is not None:
        shown[provider.type] = described
    return shown
