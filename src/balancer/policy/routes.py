"""Model name -> route: exact names first, then the most specific pattern. Compiled once per config."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from balancer import claude_code
from balancer.model import Candidate, Provider, Route

PASSTHROUGH = "passthrough"

REMEMBERED = 1024
"""How many names are remembered; clients choose names, so there must be a bound."""


class Routing:
    """The routes of one configuration."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._exact = {route.pattern: route for route in routes if not _is_pattern(route.pattern)}
        wild = [route for route in routes if _is_pattern(route.pattern)]
        # sorted() keeps the order of the file among equally specific ones
        self._wild = [(_compiled(route.pattern), route) for route in sorted(wild, key=lambda r: -_literals(r.pattern))]
        self._remembered: dict[str, Route | None] = {}

    @property
    def patterns(self) -> tuple[str, ...]:
        return tuple(route.pattern for route in self.routes)

    @property
    def exact_names(self) -> tuple[str, ...]:
        return tuple(self._exact)

    def match(self, model: str) -> Route | None:
        """Return the route of `model`, or None.

        A name with a suffix like `[1m]` is looked up as it is; where that gives only a pattern or
        nothing, its exact route without the suffix wins.
        """
        remembered = self._remembered
        if model in remembered:
            return remembered[model]
        if len(remembered) >= REMEMBERED:
            remembered.clear()
        route = remembered[model] = self._look_up(model)
        return route

    def _look_up(self, model: str) -> Route | None:
        plain = claude_code.base_model(model)
        return self._exact.get(model) or self._exact.get(plain) or self._wildcard(model) or self._wildcard(plain)

    def _wildcard(self, model: str) -> Route | None:
        return next((route for pattern, route in self._wild if pattern.fullmatch(model)), None)


def compile(routes: Sequence[Route]) -> Routing:  # noqa: A001
    """Return the routes, ready to be looked up."""
    return Routing(routes)


def candidates(route: Route, model: str, providers: Mapping[str, Provider]) -> tuple[Candidate, ...]:
    """Return the candidates of this route, in the order of the file."""
    return tuple(_candidates(route, model, providers))


SOME_MODEL = "claude-sonnet-4-5"
"""What is asked for where no route says which model a provider serves."""


def model_for(routes: Iterable[Route], provider: str) -> str:
    """Return a model that the routes send to this provider, under the name that it is asked for."""
    targets = [
        (route.pattern, target.model) for route in routes for target in route.targets if target.provider == provider
    ]
    names = [pattern if model == PASSTHROUGH else model for pattern, model in targets]
    return next((name for name in names if not _is_pattern(name)), SOME_MODEL)


def in_audience(candidates: Sequence[Candidate], also_to: Collection[str]) -> tuple[Candidate, ...]:
    """Return the candidates that may get the credential of the client, and those that need none of it.

    A client's own credential (`passthrough`) is meant for one service: the first of the candidates that takes it.
    Another one at a different address gets it only if it is among `also_to`, the names in `settings.passthrough_to`.
    """
    meant = next((_address(c.provider) for c in candidates if c.provider.passthrough), None)
    return tuple(
        c
        for c in candidates
        if not c.provider.passthrough or _address(c.provider) == meant or c.provider.name in also_to
    )


def _address(provider: Provider) -> tuple[bool, str, int]:
    return provider.origin.tls, provider.origin.host.lower(), provider.origin.port


def only_models(routes: Iterable[Route], provider: str) -> frozenset[str]:
    """Return all models that the routes ask this provider for; none where there may be any."""
    targets = [(route.pattern, target) for route in routes for target in route.targets if target.provider == provider]
    names = {pattern if target.model == PASSTHROUGH else target.model for pattern, target in targets if target.enabled}
    return frozenset() if any(map(_is_pattern, names)) else frozenset(names)


def _candidates(route: Route, model: str, providers: Mapping[str, Provider]) -> Iterable[Candidate]:
    for target in route.targets:
        provider = providers.get(target.provider)
        if target.enabled and provider is not None and provider.enabled:
            name = model if target.model == PASSTHROUGH else target.model
            yield Candidate(
                provider,
                name,
                target.priority,
                target.weight,
                route.pattern,
                target.mode,
                context_window=target.context_window,
            )


def _is_pattern(text: str) -> bool:
    return "*" in text or "?" in text


def _literals(pattern: str) -> int:
    return sum(c not in "*?" for c in pattern)


def _compiled(pattern: str) -> re.Pattern[str]:
    """Return what matches a pattern. What stands between two stars is taken where it comes first, and no later place is
    tried: that finds every match there is, in time in proportion to a name's length."""
    first, *rest = ("".join("." if c == "?" else re.escape(c) for c in part) for part in pattern.split("*"))
    if not rest:
        return re.compile(first, re.DOTALL)
    *between, last = rest
    return re.compile(first + "".join(f"(?>.*?{part})" for part in between if part) + ".*" + last, re.DOTALL)
