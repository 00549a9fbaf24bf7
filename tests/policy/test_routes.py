"""Model name -> route: exact, then the most specific pattern."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import provider

from balancer.model import Candidate, Origin, Route, Target
from balancer.policy import routes as routing

PATTERNS = ["*", "*sonnet*", "claude-*", "claude-sonnet-*", "claude-opus-5-5", "c.d*", "anthropic/*", "claude-?-x"]
ROUTING = routing.compile([Route(pattern, (Target("a", "passthrough"),)) for pattern in PATTERNS])

MATCHES = {
    "claude-opus-5-5": "claude-opus-5-5",
    "claude-opus-5-5[1m]": "claude-opus-5-5",
    "claude-opus-4-8": "claude-*",
    "claude-sonnet-4-5-20250929": "claude-sonnet-*",
    "claude-sonnet-4-5-20250929[1m]": "claude-sonnet-*",
    "my-sonnet": "*sonnet*",
    "anthropic/claude-x": "anthropic/*",
    "zz-cXdzz": "*",
    "c.dx": "c.d*",
    "Claude-opus-5-5": "*",
    "claude-3-x": "claude-?-x",
    "": "*",
}


@pytest.mark.parametrize(("model", "pattern"), MATCHES.items(), ids=[m or "empty" for m in MATCHES])
def test_match(model: str, pattern: str) -> None:
    route = ROUTING.match(model)

    assert route is not None
    assert route.pattern == pattern


def test_ties_go_by_the_order_of_the_file() -> None:
    routes = routing.compile([Route("*ab", ()), Route("ab*", ())])

    assert routes.match("abab") == Route("*ab", ())


def test_nothing_matches() -> None:
    assert routing.compile([Route("claude-*", ())]).match("gpt") is None


def test_a_name_with_a_suffix_may_have_a_route_of_its_own() -> None:
    routes = routing.compile([Route("m", ()), Route("m[1m]", ())])

    assert routes.match("m[1m]") == Route("m[1m]", ())


def test_names_that_clients_make_up_neither_grow_the_memory_nor_push_out_what_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up: list[str] = []
    find = routing._Table.find

    def noted(table: routing._Table, name: str) -> Route | None:
        looked_up.append(name)
        return find(table, name)

    monkeypatch.setattr(routing._Table, "find", noted)
    routes = routing.compile([Route("c*", ())])
    for number in range(3 * routing.REMEMBERED):
        routes.match(f"model-{number}")
        assert routes.match("claude-x") == Route("c*", ())

    assert looked_up.count("claude-x") == 1
    routes.match("model-0")
    assert looked_up.count("model-0") == 2, "names that nobody asks for again are forgotten"


@given(st.text(max_size=8))
def test_an_exact_name_matches_itself_and_nothing_else_does(name: str) -> None:
    name = name.replace("*", "x").replace("?", "x")

    assert routing.compile([Route(name, ())]).match(name) == Route(name, ())
    assert routing.compile([Route(name, ())]).match(name + "y") is None


def test_candidates_leave_out_what_is_disabled() -> None:
    route = Route(
        "*",
        (
            Target("a", "passthrough", priority=2),
            Target("b", "mapped"),
            Target("off", "x"),
            Target("a", "y", enabled=False),
            Target("gone", "z"),
        ),
    )
    providers = {"a": provider("a"), "b": provider("b"), "off": provider("off", enabled=False)}

    found = routing.candidates(route, "asked", providers)

    assert [(c.provider.name, c.model, c.priority) for c in found] == [("a", "asked", 2), ("b", "mapped", 1)]


SUFFIXES = {"m[1m]": True, "m[]": True, "m[1m][2m]": False, "m[1m": False, "m]": False, "m[a[b]": False}


@pytest.mark.parametrize(("model", "matches"), SUFFIXES.items())
def test_what_a_suffix_is(model: str, matches: bool) -> None:
    assert (routing.compile([Route("m", ())]).match(model) is not None) is matches


def test_a_suffix_is_set_aside_for_patterns_only_where_nothing_else_matches() -> None:
    routes = routing.compile([Route("claude-x", ()), Route("*[1m]", ()), Route("?", ())])

    assert routes.match("claude-x[1m]") == Route("claude-x", ()), "an exact route without the suffix wins"
    assert routes.match("other[1m]") == Route("*[1m]", ())
    assert routes.match("a[2m]") == Route("?", ())


def test_what_routes_there_are() -> None:
    routes = routing.compile([Route("b*", ()), Route("a", ()), Route("c?", ())])

    assert routes.patterns == ("b*", "a", "c?")
    assert routes.exact_names == ("a",)


def test_a_candidate_has_all_that_its_target_says() -> None:
    target = Target("a", "n", priority=3, weight=2.0, mode="burn", context_window=7)
    (found,) = routing.candidates(Route("*", (target,)), "m", {"a": provider("a")})

    assert (found.priority, found.weight, found.pattern, found.mode, found.context_window) == (3, 2.0, "*", "burn", 7)


MODELS = {
    "of a target": ([Route("*", (Target("a", "n"),))], "n"),
    "of an exact route": ([Route("x", (Target("a", "passthrough"),))], "x"),
    "not a pattern": ([Route("x*", (Target("a", "passthrough"),)), Route("y", (Target("a", "passthrough"),))], "y"),
    "not another one's": ([Route("x", (Target("b", "passthrough"),))], routing.SOME_MODEL),
    "none": ([Route("*", (Target("a", "passthrough"),))], routing.SOME_MODEL),
}


@pytest.mark.parametrize(("routes", "model"), MODELS.values(), ids=MODELS)
def test_a_model_that_a_provider_is_asked_for(routes: list[Route], model: str) -> None:
    assert routing.model_for(routes, "a") == model


def named(name: str, host: str, *, own: bool = False) -> Candidate:
    return Candidate(provider(name, passthrough=not own, origin=Origin(True, host, 443)), "m")


def test_a_clients_own_credential_goes_to_the_first_address_that_takes_it() -> None:
    mine, also, other, own = named("mine", "a"), named("also", "A"), named("other", "b"), named("own", "b", own=True)

    assert routing.in_audience([mine, other, also, own], ()) == (mine, also, own)
    assert routing.in_audience([own, other, mine], ()) == (own, other)
    assert routing.in_audience([mine, other, own], ("other",)) == (mine, other, own)
    assert routing.in_audience([own], ()) == (own,)


def test_all_models_that_a_provider_is_asked_for() -> None:
    exact = Route("x", (Target("a", "passthrough"), Target("b", "n")))
    mapped = Route("*", (Target("a", "m"), Target("b", "passthrough")))
    disabled = Route("*", (Target("a", "passthrough", enabled=False),))

    assert routing.only_models([exact, mapped, disabled]) == {"a": {"x", "m"}}, "of b any"
    assert routing.only_models([exact]) == {"a": {"x"}, "b": {"n"}}


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_a_pattern_matches_what_its_stars_and_question_marks_stand_for(pattern: str, model: str) -> None:
    plain = "".join({"*": ".*", "?": "."}.get(char, char) for char in pattern)

    matched = routing.compile([Route(pattern, ())]).match(model) is not None
    assert matched is (re.fullmatch(plain, model) is not None)


def test_a_long_name_is_looked_up_at_once() -> None:
    one = routing.compile([Route("*a*b*c*a*d", ())])
    began = time.process_time()

    assert one.match("abca" * 50_000) is None
    assert time.process_time() - began < 1
