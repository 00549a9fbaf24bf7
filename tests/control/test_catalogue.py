"""The list of models: what is in it, when the providers are asked, and its pages."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from virtual_time import in_virtual_time
from worlds import JSON, World, error, script

from balancer import NAME, config
from balancer.control.catalogue import ASK_S, FRESH_S, Catalogue, entry_in_both_shapes, in_both_shapes
from balancer.script import Data, Pause, Step

CONFIG = """
providers:
  - {{name: a, type: anthropic, base_url: "http://127.0.0.1:1001", auth_value: sk-a}}
  - {{name: b, type: anthropic, base_url: "http://127.0.0.1:1002", auth_value: {b}}}
model_routes: {routes}
settings: {{}}
"""
ROUTES = '{"exact": [{provider: a}], "claude-*": [{provider: a}, {provider: b}]}'


def listing(*entries: Any) -> list[Step]:
    return script(JSON, Data(msgspec.json.encode({"data": list(entries), "has_more": False})))


def world(a: list[Step], b: list[Step], routes: str = ROUTES, key_of_b: str = "sk-b") -> World:
    return World([a], [b], text=CONFIG.format(routes=routes, b=key_of_b))


def catalogue(of: World) -> Catalogue:
    return Catalogue(of.relay, asyncio.get_running_loop().time)


async def names(of: Catalogue) -> list[str]:
    return [model["id"] for model in (await of.page(None, None, None))["data"]]


@in_virtual_time
async def test_it_has_every_exact_route_and_what_the_providers_list_and_a_route_matches() -> None:
    one = world(listing({"id": "claude-x"}, {"id": "gpt"}), listing({"id": "claude-y"}, {"id": "claude-x"}))

    assert await names(catalogue(one)) == ["exact", "claude-x", "claude-y"]


@in_virtual_time
async def test_an_entry_keeps_what_the_provider_says_of_it_and_has_all_that_sdks_want() -> None:
    first, second = {"id": "claude-x", "display_name": "X", "odd": 1}, {"id": "claude-x", "display_name": "Y"}
    exact, found = (await catalogue(world(listing(first), listing(second))).page(None, None, None))["data"]

    assert exact == {
        "type": "model", "id": "exact", "display_name": "exact", "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
    }  # fmt: skip
    assert found == {**exact, "id": "claude-x", "display_name": "X", "odd": 1}, "the first provider's word counts"


STRANGE: dict[str, tuple[list[Step], list[str]]] = {
    "an error": (error(500), []),
    "entries that are none": (listing({"id": 7}, {}, {"id": "claude-ok"}), ["claude-ok"]),
    "items that are none": (listing("x", None, {"id": "claude-ok"}), ["claude-ok"]),
    "what is no list of entries": (script(JSON, Data(b'{"data": {"id": "claude-ok"}}')), []),
    "no list": (script(JSON, Data(b'{"data": null}')), []),
    "nothing in time": ([Pause(60)], []),
    "no entries": (script(JSON, Data(b'{"data": []}')), []),
}


@pytest.mark.parametrize(("steps", "listed"), STRANGE.values(), ids=STRANGE)
@in_virtual_time
async def test_what_a_provider_cannot_list_is_left_out(steps: list[Step], listed: list[str]) -> None:
    one = world(steps, listing({"id": "claude-y"}))
    began = asyncio.get_running_loop().time()

    assert await names(catalogue(one)) == ["exact", *listed, "claude-y"]
    assert asyncio.get_running_loop().time() - began <= ASK_S, "Claude Code waits 3 s"


@in_virtual_time
async def test_providers_are_asked_again_after_a_while_and_after_a_reload() -> None:
    one = world(listing({"id": "claude-x"}), listing())
    of = catalogue(one)
    for _ in range(3):
        await names(of)
    assert one.asked == "ab"
    await asyncio.sleep(FRESH_S)
    await names(of)
    assert one.asked == "ab"
    await asyncio.sleep(0.1)
    await names(of)
    assert one.asked == "abab"
    one.fleet.reload(config.parse(CONFIG.format(routes=ROUTES, b="sk-b"), "p", {}), 0.0)
    await names(of)
    assert one.asked == "ababab"


@in_virtual_time
async def test_a_provider_that_is_paused_or_has_no_key_of_its_own_is_not_asked() -> None:
    one = world(listing({"id": "claude-x"}), listing({"id": "claude-y"}), key_of_b="passthrough")
    one.fleet.orders.pause("a", 0.0)

    assert await names(catalogue(one)) == ["exact"]
    assert one.asked == ""


@in_virtual_time
async def test_one_model_is_found_if_a_route_matches_it() -> None:
    of = catalogue(world(listing({"id": "claude-x", "display_name": "X"}), listing()))
    listed, unlisted = await of.find("claude-x"), await of.find("claude-z")

    assert listed is not None
    assert listed["display_name"] == "X"
    assert unlisted is not None
    assert (unlisted["id"], unlisted["display_name"]) == ("claude-z", "claude-z")
    assert await of.find("gpt") is None


PAGES: dict[str, tuple[tuple[int | None, str | None, str | None], str, bool]] = {
    # (limit, after, before): ids, whether there is more
    "all": ((None, None, None), "abcde", False),
    "the first": ((2, None, None), "ab", True),
    "as many as there are": ((5, None, None), "abcde", False),
    "one fewer": ((4, None, None), "abcd", True),
    "the next": ((2, "b", None), "cd", True),
    "the last": ((2, "c", None), "de", False),
    "after the last": ((2, "e", None), "", False),
    "after what is not there": ((2, "x", None), "", False),
    "those before": ((2, None, "d"), "bc", True),
    "the first before": ((2, None, "c"), "ab", False),
    "before the first": ((2, None, "a"), "", False),
    "before what is not there": ((2, None, "x"), "", False),
    "all after": ((None, "b", None), "cde", False),
    "all before": ((None, None, "d"), "abc", False),
}


@pytest.mark.parametrize(("asked", "ids", "more"), PAGES.values(), ids=PAGES)
@in_virtual_time
async def test_pages(asked: tuple[int | None, str | None, str | None], ids: str, more: bool) -> None:
    routes = "{" + ", ".join(f'"{name}": [{{provider: a}}]' for name in "abcde") + ', "*": [{provider: b}]}'
    page = await catalogue(world(listing(), listing(), routes)).page(*asked)

    assert "".join(model["id"] for model in page["data"]) == ids
    assert page["has_more"] is more
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))


DATES = {
    "2026-01-01T00:00:00Z": 1_767_225_600,
    "1970-01-01T00:00:00Z": 0,
    "1960-01-01T00:00:00Z": 0,
    "soon": 0,
    None: 0,
}


@pytest.mark.parametrize(("date", "created"), DATES.items())
def test_an_entry_in_both_shapes(date: str | None, created: int) -> None:
    model = {"id": "m", "type": "model", "created_at": date}
    both = {**model, "object": "model", "created": created, "owned_by": NAME}

    assert entry_in_both_shapes(model) == both
    assert in_both_shapes({"data": [model], "has_more": False}) == {"object": "list", "data": [both], "has_more": False}


@in_virtual_time
async def test_a_key_sees_only_the_models_that_it_may_ask_for() -> None:
    listed = catalogue(world(listing(), listing(), '{"one": [{provider: a}], "two": [{provider: b}]}'))
    page = await listed.page(None, None, None, lambda name: name == "two")

    assert [model["id"] for model in page["data"]] == ["two"]
