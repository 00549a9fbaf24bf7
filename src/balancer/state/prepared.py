"""A configuration, and what is worked out of it before it comes into force: that may be done in a thread."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import msgspec

from balancer import config as configuration
from balancer.config import Config, inventory
from balancer.model import Candidate, Operation, Route
from balancer.policy import deadlines
from balancer.policy import routes as routing
from balancer.policy.routes import Routing
from balancer.policy.strategies import View, priority
from balancer.redact import Inventory

_NO_VIEW = View(0, random.Random())


class Rules(msgspec.Struct, frozen=True):
    """What every request asks of the settings. They are pydantic's, where an attribute costs ten times as much."""

    max_body_bytes: int
    queue_s: float
    sticky_by: str
    deduplicates: bool
    replay_s: float
    whole_answer_s: float
    longest_s: float
    """The longest time that any provider is given until content begins."""

    @classmethod
    def of(cls, config: Config) -> Rules:
        settings = config.settings
        limits, shared = settings.limits, settings.deduplication
        return cls(
            limits.max_body_bytes,
            limits.queue_s,
            settings.sticky.by,
            shared.enabled,
            shared.replay_s,
            max(deadlines.WHOLE_ANSWER_S, settings.non_streaming_timeout),
            max((provider.timeouts.request_s for provider in config.providers.values()), default=0.0),
        )


class Prepared(msgspec.Struct, frozen=True):
    """A configuration, and what is worked out of it before it comes into force. That may be done in a thread."""

    config: Config
    routing: Routing
    configured: dict[str, None]
    """Every secret of the file."""
    secrets: Inventory
    rules: Rules
    only_models: dict[str, frozenset[str]]
    old: Config | None
    """The configuration with which it was compared."""
    changes: tuple[str, ...]
    """What is different, in words."""

    @classmethod
    def of(cls, config: Config, old: Config | None = None) -> Prepared:
        compiled, only_models = routing.compile(config.routes), routing.only_models(config.routes)
        changes = () if old is None else tuple(configuration.changes(old, config))
        configured = inventory.secrets(config)
        return cls(config, compiled, configured, secrets_in(config), Rules.of(config), only_models, old, changes)


def secrets_in(config: Config) -> Inventory:
    """Return every secret of a configuration. What is a name in it is none: clients are told of it."""
    return Inventory(inventory.secrets(config), inventory.public(config))


_OPERATIONS = {operation.word: operation for operation in Operation}


def remembered_candidates(config: Config) -> Callable[[str, str, str], tuple[Candidate, ...]]:
    """Return `candidates_of` by the pattern of a route of this configuration. Raises `KeyError` for another one."""
    routes = {route.pattern: route for route in config.routes}

    @lru_cache(routing.REMEMBERED)
    def candidates(pattern: str, model: str, operation: str) -> tuple[Candidate, ...]:
        return candidates_of(config, routes[pattern], model, _OPERATIONS[operation])

    return candidates


def candidates_of(config: Config, route: Route, model: str, operation: Operation) -> tuple[Candidate, ...]:
    """Return the candidates of a route, by priority, then in the order of the file."""
    targets = routing.candidates(route, model, config.providers)
    ordered = routing.in_audience(priority(targets, _NO_VIEW), config.settings.passthrough_to)
    return tuple(replace(candidate, operation=operation) for candidate in ordered)
