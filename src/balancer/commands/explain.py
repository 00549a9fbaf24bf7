"""`balancer explain MODEL`: which route matches, which providers in which order, and why."""

from __future__ import annotations

import argparse
import sys

from balancer.commands import reading
from balancer.config import Config, ConfigError
from balancer.model import Route, Target
from balancer.policy import routes as routing

ORDERS = {
    "priority": "in this order; the next one is asked when one fails or is in cooldown",
    "round_robin": "those of the same priority take turns, conversation by conversation",
    "random": "those of the same priority in an order that is drawn for every conversation",
    "weighted": "those of the same priority by chance, by their weight",
    "least_busy": "those of the same priority: first whoever has the fewest requests under way",
    "fastest": "those of the same priority: first whoever has been the quickest to begin its answers",
}


def run(args: argparse.Namespace) -> int:
    """Return 0 if somebody serves the model, 1 if nobody does, 2 if the file is wrong."""
    try:
        config = reading.read(args.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    told, served = explained(config, args.model)
    print(told)
    return 0 if served else 1


def explained(config: Config, model: str) -> tuple[str, bool]:
    """Return the explanation, and whether anybody serves the model."""
    route = routing.compile(config.routes).match(model)
    if route is None:
        patterns = "\n".join(f"  {route.pattern}" for route in config.routes)
        return f"No route matches '{model}': the answer is 404 not_found_error. There are:\n{patterns}", False
    lines = [_why(route, model, config)]
    candidates = sorted(routing.candidates(route, model, config.providers), key=lambda c: c.priority)
    for place, candidate in enumerate(candidates, 1):
        lines.append(
            f"  {place}. {candidate.provider.name} ({candidate.provider.type}) is asked for '{candidate.model}'"
            f"  priority {candidate.priority}, weight {candidate.weight:g}"
            + (f", takes {candidate.context_window} tokens" if candidate.context_window else "")
        )
    asked = {candidate.provider.name for candidate in candidates}
    lines += [f"  -  {t.provider}: {_why_not(t, config)}" for t in route.targets if t.provider not in asked]
    if not candidates:
        return "\n".join([*lines, "Nobody is left to ask: the answer is 503."]), False
    strategy = config.settings.selection_strategy
    lines.append(f"selection_strategy is {strategy}: {ORDERS.get(strategy, 'see docs/configuration')}.")
    if config.settings.sticky.enabled:
        lines.append("A conversation stays with the provider that answered it last while that one is healthy (sticky).")
    return "\n".join(lines), True


def _why(route: Route, model: str, config: Config) -> str:
    if not {"*", "?"} & set(route.pattern):
        named = "" if route.pattern == model else f", without its suffix '{route.pattern}',"
        return f"'{model}'{named} is the name of a route: exact names win over patterns."
    others = [r.pattern for r in config.routes if r is not route and _matches(r, model)]
    rivals = f" Also matching, but less specific: {', '.join(others)}." if others else ""
    return f"'{model}' matches the pattern '{route.pattern}'.{rivals}"


def _matches(route: Route, model: str) -> bool:
    return routing.compile((route,)).match(model) is not None


def _why_not(target: Target, config: Config) -> str:
    if not target.enabled:
        return "not asked: this line of the route is disabled"
    provider = config.providers.get(target.provider)
    if provider is not None and not provider.enabled:
        return "not asked: the provider is disabled"
    return "not asked"
