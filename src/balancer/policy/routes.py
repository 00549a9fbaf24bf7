"""Model name -> route: exact names first, then the most specific pattern. Compiled once per config."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache

from balancer import claude_code
from balancer.model import Candidate, Provider, Route
from balancer.policy.patterns import PatternIndex, is_pattern

PASSTHROUGH = "passthrough"

REMEMBERED = 1024
"""How many names are remembered; clients choose names, so there must be a bound."""


class Routing:
    """The routes of one configuration."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        table = _Table(self.routes)
        self.exact_names = tuple(table.exact)
        self.match: Callable[[str], Route | None] = lru_cache(REMEMBERED)(table.find)
        """Returns the route of a model's name, or None. The names that were asked for last are remembered.

        A name with a suffix like `[1m]` is looked up as it is; where that gives only a pattern or nothing, its exact
        route without the suffix wins.
        """

    @property
    def patterns(self) -> tuple[str, ...]:
        return tuple(route.pattern for route in self.routes)


class _Table:
    """Finds the route of a name. Apart from `Routing`, so that what remembers its answers is not part of itself."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.exact = {route.pattern: route for route in routes if not is_pattern(route.pattern)}
        wild = [route for route in routes if is_pattern(route.pattern)]
        # sorted() keeps the order of the file among equally specific ones
        self._wild = sorted(wild, key=lambda r: -_literals(r.pattern))
        self._index = PatternIndex([route.pattern for route in self._wild])

    def find(self, model: str) -> Route | None:
        plain = claude_code.base_model(model)
        route = self.exact.get(model) or self.exact.get(plain) or self._by_pattern(model)
        return route if route is not None or plain == model else self._by_pattern(plain)

    def _by_pattern(self, model: str) -> Route | None:
        rank = self._index.first(model)
        return None if rank is None else self._wild[rank]


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
    return next((name for name in names if not is_pattern(name)), SOME_MODEL)


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


def only_models(routes: Iterable[Route]) -> dict[str, frozenset[str]]:
    """Return for each provider all models that the routes ask it for, where these are known; else there may be any."""
    names: defaultdict[str, set[str]] = defaultdict(set)
    for route in routes:
        for target in route.targets:
            if target.enabled:
                names[target.provider].add(route.pattern if target.model == PASSTHROUGH else target.model)
    return {provider: frozenset(models) for provider, models in names.items() if not any(map(is_pattern, models))}


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


def _literals(pattern: str) -> int:
    return sum(c not in "*?" for c in pattern)
