"""The file's `model_routes`, each checked, as the rest of the program sees them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from balancer import claude_code
from balancer.config import words
from balancer.config.checking import MISPLACED, Checker
from balancer.config.document import Path
from balancer.config.model import TargetEntry
from balancer.config.providers import is_name, names_of
from balancer.config.quoting import Message, Theirs, is_keylike
from balancer.model import Provider, Route, Target
from balancer.policy import routes as routing


class Routes:
    """Reads the section `model_routes`."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._names: set[str] = set()
        """Names of models that are no keys: most targets have one that others have, too."""
        self._keys: dict[str, str] = {}
        """What stands in the file for each pattern."""

    def read(self, root: dict[str, Any]) -> tuple[Route, ...]:
        value = root.get("model_routes")
        if not isinstance(value, dict) or not value:
            if "model_routes" in root or not any("model_routes" in (words.aside(key, None)[0] or "") for key in root):
                said = 'model_routes must be a mapping with at least one pattern: "*": [{provider: NAME}]'
                self._checker.tell(("model_routes",), said)
            return ()
        entries = root.get("providers")
        names = dict.fromkeys(map(_hashable, names_of(entries))) if isinstance(entries, list) else None
        routes: dict[str, Route] = {}
        for key, targets in value.items():
            at: Path = ("model_routes", key)
            pattern = words.TIERS.get(key) or str(key)
            self._keys.setdefault(pattern, key)
            route = self._route(pattern, targets, at, names)
            if route is not None and pattern in routes:
                other = next(k for k in value if k != key and words.TIERS.get(k, k) == pattern)
                first = self._checker.document.line(("model_routes", other))
                said = f"'{key}' and '{other}' are the same route ('{other}' stands on line {first}); keep one of them"
                self._checker.tell(at, said)
            elif route is not None:
                routes[pattern] = route
        return tuple(routes.values())

    def _route(self, pattern: str, entries: Any, at: Path, names: Collection[object] | None) -> Route | None:
        if not pattern or pattern != pattern.strip() or any(ord(c) < 32 for c in pattern):
            self._checker.tell(at, "a pattern must not be empty, nor begin or end with white space")
        elif is_keylike(pattern):
            self._checker.tell(at, MISPLACED)
        if isinstance(entries, dict):
            target = self._target(entries, at, names)
            return Route(pattern, () if target is None else (target,))
        if isinstance(entries, str) and entries:
            self._checker.tell(
                at,
                "route ",
                Theirs(pattern),
                " must be a list of targets: write [{provider: ",
                *self._name(entries),
                "}]",
            )
            return None
        if not isinstance(entries, list) or not entries:
            said = " must be a list with at least one target: [{provider: NAME}]"
            self._checker.tell(at, "route ", Theirs(pattern), said)
            return None
        targets = [self._target(entry, (*at, index), names) for index, entry in enumerate(entries)]
        return Route(pattern, tuple(target for target in targets if target is not None))

    def _name(self, text: str) -> Message:
        """Return a name without quotation marks, if it is one."""
        return (text,) if self._checker.document.quoting.may_show(text) else ("NAME",)

    def _target(self, entry: Any, at: Path, names: Collection[object] | None) -> Target | None:
        if isinstance(entry, str):
            self._checker.tell(at, "a target is a mapping: write {provider: ", *self._name(entry), "}")
            return None
        checked = self._checker.checked(TargetEntry, entry, at)
        if checked is None:
            return None
        if checked.model not in self._names:
            if is_keylike(checked.model):
                self._checker.tell((*at, "model"), MISPLACED)
            else:
                self._names.add(checked.model)
        if names is not None and checked.provider not in names:
            if all(is_name(name) for name in names):  # else it may be the one whose name can't be read
                said = "there is no provider ", Theirs(checked.provider), *self._checker.guess(checked.provider, names)
                self._checker.tell((*at, "provider"), *said)
            return None
        return Target(**vars(checked))

    def weigh(
        self, providers: Mapping[str, Provider], routes: tuple[Route, ...], passthrough_to: Collection[str]
    ) -> None:
        """Judge what is right in its parts: can anybody be served, and is it meant so?"""
        for index, name in enumerate(passthrough_to):
            if name not in providers:
                guess = self._checker.guess(name, providers)
                self._checker.tell(("settings", "passthrough_to", index), "there is no provider ", Theirs(name), *guess)
        if not any(provider.enabled for provider in providers.values()):
            self._checker.tell(
                ("providers",), "no provider is enabled, so nothing can be served; set enabled: true for one of them"
            )
            return
        makes_up = any(provider.type == "simulated" for provider in providers.values())
        passes = any(provider.passthrough for provider in providers.values())
        for route in routes:
            if makes_up:
                self._weigh_route(route, providers)
            if passes:
                self._weigh_audience(route, providers, passthrough_to)
        compiled = routing.compile(routes)
        lost = [model for model in claude_code.MODELS if compiled.match(model) is None]
        if lost:
            listed = ", ".join(lost)
            said = f"no route matches {listed}, which Claude Code asks for by itself; add a route for it, or 'default'"
            self._checker.warn_in_our_words(("model_routes",), said)

    def _weigh_route(self, route: Route, providers: Mapping[str, Provider]) -> None:
        used = [t for t in route.targets if t.enabled and t.provider in providers and providers[t.provider].enabled]
        made_up = [target for target in used if providers[target.provider].type == "simulated"]
        if not made_up or len(made_up) == len(used):
            return
        self._checker.warn(
            self._place(route, made_up[0].provider),
            "a simulated provider stands beside real ones in the route ",
            Theirs(route.pattern),
            ": when they fail, clients get an invented answer as if all were well; remove this target",
        )

    def _weigh_audience(self, route: Route, providers: Mapping[str, Provider], passthrough_to: Collection[str]) -> None:
        """Warn of providers that the client's own credential is not meant for: they are never asked."""
        everybody = sorted(routing.candidates(route, "", providers), key=lambda candidate: candidate.priority)
        heard = {candidate.provider.name for candidate in routing.in_audience(everybody, passthrough_to)}
        first = next((c.provider.name for c in everybody if c.provider.passthrough), "")
        for candidate in everybody:
            name = candidate.provider.name
            if name not in heard:
                self._checker.warn(
                    self._place(route, name),
                    Theirs(name),
                    " is never asked in the route ",
                    Theirs(route.pattern),
                    ": the client's own credential (passthrough) goes to ",
                    Theirs(first),
                    " alone; list it in settings.passthrough_to if it is meant for both",
                )

    def _place(self, route: Route, provider: str) -> Path:
        """Return where a provider's target stands in a route."""
        key = self._keys[route.pattern]
        entries = self._checker.document.value["model_routes"][key]
        if not isinstance(entries, list):
            return ("model_routes", key)
        return ("model_routes", key, next(i for i, e in enumerate(entries) if e.get("provider") == provider))


def _hashable(name: object) -> object:
    """Return what stands as a name; a list or a mapping, which no target can name, as nothing."""
    return name if isinstance(name, str | int | float | None) else None
