"""A provider's own list of models, compared with the routes: a misspelt model is found before anybody asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from balancer import claude_code
from balancer.config import Config
from balancer.config.quoting import nearest
from balancer.model import Provider, Route, Target
from balancer.policy import routes as routing


class _Model(msgspec.Struct):
    id: str


class _List(msgspec.Struct):
    data: list[_Model]
    has_more: bool = False


def names_in(body: bytes) -> frozenset[str] | None:
    """Return the models that a list names; None: it is empty, not whole, or none."""
    try:
        found = msgspec.json.decode(body, type=_List)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    if found.has_more or not found.data:
        return None
    return frozenset(_plain(model.id) for model in found.data)


def _plain(name: str) -> str:
    """Return a model's name as servers take it in requests: Gemini lists `models/x`, Ollama `x:latest`."""
    return name.removeprefix("models/").removesuffix(":latest")


def _is_listed(name: str, names: frozenset[str]) -> bool:
    plain = _plain(name)
    base = plain.partition("[")[0].rpartition(":")[0] or plain.partition("[")[0]  # x[1m]; OpenRouter's x:free
    return plain in names or base in names


def compared(config: Config, provider: Provider, names: frozenset[str]) -> Iterator[str]:
    """Say which models the routes ask this provider for that are not in its list."""
    for route, target in _targets(config, provider):
        wanted = _asked_for(route, target)
        if wanted is not None and not _is_listed(wanted, names):
            close = nearest(wanted, sorted(names))
            hint = f"; did you mean '{close}'?" if close else f"; it lists {len(names)} models, none like it"
            yield f"route '{route.pattern}': '{wanted}' is not in its list of models{hint}"
        elif wanted is None:
            passed = _passed_on(config, route)
            if passed and not any(_is_listed(name, names) for name in passed):
                yield (
                    f"route '{route.pattern}': the client's own names ({', '.join(passed)}) are passed on, and none of "
                    "them is in its list of models; name one of its models in the route"
                )


def _targets(config: Config, provider: Provider) -> Iterator[tuple[Route, Target]]:
    return ((r, t) for r in config.routes for t in r.targets if t.enabled and t.provider == provider.name)


def _asked_for(route: Route, target: Target) -> str | None:
    """Return the model that the provider is asked for; None: whatever the client says."""
    if target.model != routing.PASSTHROUGH:
        return target.model
    return None if {"*", "?"} & set(route.pattern) else route.pattern


def _passed_on(config: Config, route: Route) -> list[str]:
    """Return the models that Claude Code asks for by itself and that come to this route."""
    compiled = routing.compile(config.routes)
    return [model for model in claude_code.MODELS if compiled.match(model) is route]


def model_to_ask_for(config: Config, provider: Provider) -> str:
    """Return a model that the routes ask this provider for."""
    candidates: list[str] = []
    for route, target in _targets(config, provider):
        candidates += [_asked_for(route, target) or next(iter(_passed_on(config, route)), "")]
    return next((name for name in candidates if name), claude_code.MODELS[1])
