"""Model name -> route: exact, then the most specific pattern."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import provider

from balancer.model import Route, Target
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


def test_names_that_clients_make_up_do_not_grow_the_memory() -> None:
    routes = routing.compile([Route("*", ())])
    for number in range(5000):
        routes.match(f"model-{number}")

    assert 0 < len(routes._remembered) <= routing.REMEMBERED


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
