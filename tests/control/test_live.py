"""The live page's files and its stream of events: a snapshot, changes, an end when the balancer is stopped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from control.board import Board
from telemetry.test_recent import began, ended
from telemetry.usage.test_ledger import ended as finished
from telemetry.usage.test_ledger import ledger
from virtual_time import in_virtual_time

from balancer.control import live
from balancer.control.live import Live


async def taken(events: AsyncIterator[bytes]) -> tuple[str, dict[str, Any]]:
    frame = (await anext(events)).decode()
    name, data = frame.removesuffix("\n\n").split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@in_virtual_time
async def test_first_a_snapshot_then_what_is_new() -> None:
    board = Board()
    board.recent.take(ended(1))
    events = Live(board).events()
    kind, told = await taken(events)
    assert kind == "snapshot"
    assert [r["id"] for r in told["requests"]] == ["req_1"]
    assert {p["name"] for p in told["fleet"]["providers"]} == {"a", "b"}
    assert all(len(p["minutes"]) == 60 for p in told["fleet"]["providers"])

    board.recent.take(began(2))
    board.recent.take(ended(3))
    kind, told = await taken(events)
    assert kind == "change"
    assert [r["id"] for r in told["requests"]] == ["req_3"]
    assert [r["id"] for r in told["in_flight"]] == ["req_2"]
    board.at += 3
    kind, told = await taken(events)
    assert (kind, told["requests"]) == ("change", [])
    assert "fleet" in told


@in_virtual_time
async def test_it_ends_when_the_balancer_is_stopped_and_holds_up_nothing() -> None:
    board = Board()
    shown = Live(board)
    events = shown.events()
    await taken(events)
    assert shown.viewers == 1
    board.fleet.draining = True
    assert (await taken(events))[0] == "draining"
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    assert shown.viewers == 0


async def test_the_cost_of_the_day_is_that_of_the_ledger(tmp_path: Path) -> None:
    board = Board()
    kept = ledger(tmp_path, wall=1000.0)
    kept.take(finished(1, wall=1000.0))
    kept.close()
    board.ledger = ledger(tmp_path, wall=1000.0)
    events = Live(board).events()
    _, told = await taken(events)
    assert told["summary"]["cost_today_usd"] > 0
    await events.aclose()


@pytest.mark.parametrize("path", sorted(live.FILES))
async def test_its_files_load_nothing_from_elsewhere(path: str) -> None:
    answer = await Board().get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == live.FILES[path][1]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    words = answer.text.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in words
    assert "https://" not in words
    assert "style=" not in words
    assert " onclick=" not in words


async def test_all_files_together_are_small() -> None:
    assert sum((live.FOLDER / name).stat().st_size for name, _ in live.FILES.values()) < 150_000


async def test_a_browser_is_shown_the_page_and_a_program_the_facts() -> None:
    board = Board()
    assert "<!doctype html>" in (await board.get("/", headers={"accept": "text/html,*/*"})).text
    assert (await board.get("/")).json()["status"] == "ok"


async def test_not_everybody_can_look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "VIEWERS_MAX", 0)
    assert (await Board().get("/events")).status_code == 503
    await asyncio.sleep(0)
