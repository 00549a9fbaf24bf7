"""The fleet in words: what `GET /providers`, `/` and the metrics show. No secrets."""

from __future__ import annotations

from typing import Any

from balancer import dialects
from balancer.model import Provider
from balancer.policy.circuit import Health
from balancer.policy.remedies import in_words
from balancer.redact import shown_url
from balancer.state.fleet import Fleet


def overview(fleet: Fleet, now: float) -> dict[str, int]:
    """Count the providers, and those that may be asked."""
    fleet.learn()
    providers = fleet.config.providers.values()
    healthy = sum(fleet.health.state_of(provider, now)[0] in ("healthy", "probing") for provider in providers)
    return {"total": len(providers), "healthy": healthy}


def describe(fleet: Fleet, now: float, wall: float, *, models: bool = True) -> dict[str, Any]:
    """Return the body of `GET /providers`; `models`: with the routes of each provider."""
    fleet.learn()
    counts = overview(fleet, now)
    return {
        "selection_strategy": fleet.config.settings.selection_strategy,
        "generation": fleet.generation,
        "total_providers": counts["total"],
        "healthy_providers": counts["healthy"],
        "in_flight": fleet.admission.in_flight,
        "retry_budget": round(fleet.budget.tokens, 1),
        "total_model_routes": len(fleet.config.routes),
        "needs_restart": list(fleet.needs_restart),
        "providers": [_provider(fleet, provider, now, wall, models) for provider in fleet.config.providers.values()],
    }


def _needs_operator(provider: Provider, health: Health) -> str | None:
    """Return what only a person can mend at a provider, and how; None: nothing."""
    trouble = health.needs_operator
    return in_words(provider.name, trouble, health.reason) if trouble else None


def _provider(fleet: Fleet, provider: Provider, now: float, wall: float, models: bool) -> dict[str, Any]:
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
        "models": [
            {"pattern": route.pattern, "model": target.model, "priority": target.priority, "weight": target.weight}
            for route in fleet.config.routes
            for target in route.targets
            if target.provider == provider.name
        ]
        if models
        else [],
    }
    if stats.drill is not None:
        shown["drill"] = {"fault": stats.drill.fault}
    described = dialects.get(provider.type).describe(stats.provider_state, provider.options, wall)
    if described is not None:
        shown[provider.type] = described
    return shown
