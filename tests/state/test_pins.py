"""Pins: which conversation stays where, for how long, and how many there may be."""

from __future__ import annotations

import pytest
from stand_ins import request

from balancer.model import Request, Route
from balancer.state.pins import Pins

ANY, OTHER = Route("*", ()), Route("other", ())


def pins(limit: int = 10, ttl_s: float = 300.0, enabled: bool = True) -> Pins:
    made = Pins(limit)
    made.apply(enabled=enabled, ttl_s=ttl_s)
    return made


def find(among: Pins, conversation: str | None, now: float, route: Route = ANY) -> str | None:
    return among.find(request(conversation=conversation), route, now)


def put(into: Pins, conversation: str | None, provider: str, now: float, route: Route = ANY) -> None:
    into.put(request(conversation=conversation), route, provider, now)


def test_a_pin_lives_by_answers_and_not_by_being_looked_up() -> None:
    made = pins()
    put(made, "x", "a", 0.0)

    assert find(made, "x", 299.0) == "a"
    put(made, "x", "a", 299.0)
    assert find(made, "x", 599.0) == "a"
    assert find(made, "x", 599.1) is None
    assert len(made) == 0


def test_a_pin_moves_with_its_conversation() -> None:
    made = pins()
    put(made, "x", "a", 0.0)
    put(made, "x", "b", 1.0)

    assert find(made, "x", 2.0) == "b"
    assert len(made) == 1


def test_a_conversation_is_pinned_for_each_route_on_its_own() -> None:
    made = pins()
    put(made, "x", "a", 0.0, ANY)
    put(made, "x", "b", 0.0, OTHER)

    assert (find(made, "x", 1.0, ANY), find(made, "x", 1.0, OTHER)) == ("a", "b")


def test_a_request_without_a_conversation_is_not_pinned() -> None:
    made = pins()
    put(made, None, "a", 0.0)

    assert len(made) == 0
    assert find(made, None, 0.0) is None


def test_switched_off_nothing_is_pinned_and_what_was_pinned_comes_back() -> None:
    made = pins()
    put(made, "x", "a", 0.0)
    made.apply(enabled=False, ttl_s=300.0)
    put(made, "y", "a", 0.0)

    assert find(made, "x", 1.0) is None
    made.apply(enabled=True, ttl_s=300.0)
    assert (find(made, "x", 1.0), find(made, "y", 1.0)) == ("a", None)


def test_a_shorter_life_holds_for_pins_that_exist() -> None:
    made = pins()
    put(made, "x", "a", 0.0)
    made.apply(enabled=True, ttl_s=5.0)

    assert find(made, "x", 5.0) == "a"
    assert find(made, "x", 5.1) is None


def test_pins_are_bounded_and_the_least_recently_used_goes_first() -> None:
    made = pins(limit=3)
    for conversation in "abc":
        put(made, conversation, "p", 0.0)
    assert len(made) == 3
    put(made, "a", "p", 1.0)
    put(made, "d", "p", 2.0)

    assert [conversation for conversation in "abcd" if find(made, conversation, 3.0)] == ["a", "c", "d"]


def asking(body: bytes = b"{}", *, long_cache: bool = False) -> Request:
    return request(body, conversation="x", long_cache=long_cache)


HOUR = b'{"system":[{"text":"x","cache_control":{"type":"ephemeral","ttl":"1h"}}]}'


ODD = b'{"cache_control" : {"ttl" : "1h"}}'


@pytest.mark.parametrize("asked", [asking(HOUR), asking(ODD), asking(long_cache=True)])
def test_a_pin_lives_as_long_as_the_longest_cache_that_the_conversation_asked_for(asked: Request) -> None:
    made = pins()
    made.put(asked, ANY, "a", 0.0)
    put(made, "x", "a", 100.0)  # a request of the same conversation that asks for no cache

    assert find(made, "x", 3700.0) == "a"
    assert find(made, "x", 3700.1) is None
    put(made, "x", "a", 4000.0)
    assert find(made, "x", 4300.1) is None, "what was forgotten counts no more"


def test_a_conversation_may_ask_for_a_longer_cache_later_on() -> None:
    made = pins()
    put(made, "x", "a", 0.0)
    made.put(asking(HOUR), ANY, "a", 1.0)
    assert find(made, "x", 3601.0) == "a"
    assert find(made, "x", 9000.0) is None

    made.put(asking(b"{}"), ANY, "b", 9000.0)
    made.put(asking(ODD), ANY, "b", 9001.0)
    assert find(made, "x", 9301.1) is None, "what is written in an unusual way is looked for now and then"
    made.put(asking(b"{}"), ANY, "b", 20_000.0)
    made.put(asking(ODD), ANY, "b", 20_010.0)
    assert find(made, "x", 23_610.0) == "b"


def test_a_longer_setting_counts_more_than_a_cache() -> None:
    made = pins(ttl_s=7200.0)
    made.put(asking(HOUR), ANY, "a", 0.0)

    assert find(made, "x", 7200.0) == "a"


def test_whoever_moves_a_conversation_is_told_from_where() -> None:
    made = pins()

    assert [made.put(asking(), ANY, name, 0.0) for name in "aabba"] == [None, None, "a", None, "b"]
