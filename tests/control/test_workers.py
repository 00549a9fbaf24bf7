"""All workers of a machine as one balancer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from control.board import Board
from state.shared_world import SharedWorld, group_of

from balancer.config import Source
from balancer.control.workers import Workers
from balancer.events import CooldownStarted, Drilled, ProviderPaused, ProviderResumed, ProviderWoken, RequestEnded
from balancer.sharing.in_process import Group

SETTINGS = "drills: true"


class SharedBoard(Board):
    """One of several workers."""

    def __init__(self, group: Group, worker: int) -> None:
        super().__init__(SETTINGS)
        self.world = SharedWorld(group, worker, SETTINGS, "ab", "")
        self.fleet = self.world.fleet
        self.workers = Workers(self, self.fleet.sharing)
        self.followed: list[tuple[Source, int]] = []
        self.refuses = ""

    async def begin(self) -> SharedBoard:
        async def follow(source: Source, generation: int) -> str:
            self.followed.append((source, generation))
            return self.refuses

        await self.workers.start(follow)
        return self

    def states(self) -> list[str]:
        return [self.fleet.health.state_of(one, 0.0)[0] for one in self.fleet.config.providers.values()]

    def told(self) -> list[type]:
        return [type(event) for event in self.world.told]


@asynccontextmanager
async def boards(count: int) -> AsyncIterator[tuple[Group, list[SharedBoard]]]:
    with group_of(count) as group:
        yield group, [await SharedBoard(group, n).begin() for n in range(count)]


async def test_to_pause_and_to_resume_reach_all_workers_and_are_told_once() -> None:
    async with boards(3) as (_, (one, other, third)):
        answer = (await one.post("/admin/pause", {"provider": "a"})).json()

        assert answer == {"status": "ok", "provider": "a", "state": "paused", "applies_to": "all"}
        assert [board.states() for board in (one, other, third)] == [["paused", "healthy"]] * 3

        await third.post("/admin/resume", {"provider": "a"})

        assert [board.states() for board in (one, other, third)] == [["healthy", "healthy"]] * 3
        assert (one.told(), other.told(), third.told()) == ([ProviderPaused], [], [ProviderResumed])


async def test_to_wake_reaches_all_workers() -> None:
    async with boards(2) as (_, (one, other)):
        one.world.fail("a", at=0.0)
        other.fleet.learn()
        assert other.states() == ["resting", "healthy"]

        await other.post("/admin/wake", {"provider": "a"})

        one.fleet.learn()
        assert one.states() == other.states() == ["healthy", "healthy"]
        assert (one.told(), other.told()) == ([CooldownStarted], [ProviderWoken])


async def test_a_drill_reaches_all_workers_and_ends_at_all() -> None:
    async with boards(2) as (_, (one, other)):
        answer = (await one.post("/admin/drill", {"provider": "a", "fault": "529", "requests": 3, "for_s": 9})).json()

        assert answer["applies_to"] == "all"
        drill = other.fleet.stats("a").drill
        assert drill is not None
        assert (drill.fault, drill.requests_left, drill.until) == ("529", 3, 9.0)

        await other.post("/admin/drill", {"provider": "a"})

        assert one.fleet.stats("a").drill is None
        assert (one.told(), other.told()) == ([Drilled], [Drilled])


async def test_a_drill_that_ends_by_its_time_is_told_of_by_one_worker() -> None:
    async with boards(2) as (_, (one, other)):
        await one.post("/admin/drill", {"provider": "a", "fault": "529", "for_s": 9})
        for board in (one, other):
            board.fleet.orders.end_due(10.0, 1010.0)

        assert [board.fleet.stats("a").drill for board in (one, other)] == [None, None]
        assert (one.told(), other.told()) == ([Drilled, Drilled], [])


async def test_a_worker_that_begins_later_knows_what_was_ordered() -> None:
    async with boards(2) as (group, (one, _)):
        await one.post("/admin/pause", {"provider": "a"})
        await one.post("/admin/drill", {"provider": "b", "fault": "529"})
        await one.workers.tell_reload(Source(None, b"new"), 4)
        group.end(1)

        late = await SharedBoard(group, 1).begin()

        assert late.states() == ["paused", "healthy"]
        assert late.fleet.stats("b").drill is not None
        assert late.followed == [(Source(None, b"new"), 4)]


async def test_a_reload_is_answered_with_how_the_others_took_it() -> None:
    async with boards(3) as (_, (one, other, third)):
        third.refuses = "worker 3: it can't be used"

        answer = await one.workers.tell_reload(Source("p.yaml", b"new"), 2)

        assert answer == {"workers": 2, "not_reloaded": ["worker 3: it can't be used"]}
        assert other.followed == third.followed == [(Source("p.yaml", b"new"), 2)]


def _ended(board: SharedBoard, count: int) -> None:
    for n in range(count):
        board.metrics.take(RequestEnded(f"r{n}", 0.0, "messages", "m", False, 200, "ok", 0.1))


async def _counted(board: SharedBoard) -> str:
    text = (await board.get("/metrics")).text
    return next(line for line in text.splitlines() if line.startswith("balancer_requests_total{"))


async def test_metrics_are_the_same_whichever_worker_is_asked_and_never_fall() -> None:
    async with boards(3) as (group, (one, other, third)):
        _ended(one, 2)
        _ended(other, 3)
        _ended(third, 4)

        lines = [await _counted(board) for board in (one, other, third)]

        assert {line.split()[-1] for line in lines} == {"9"}
        group.end(2)
        assert (await _counted(one)).split()[-1] == "9"
        text = (await one.get("/metrics")).text
        assert "balancer_workers 2" in text
        assert 'balancer_request_duration_seconds_count{operation="messages",stream="false"} 9' in text


async def test_providers_are_shown_for_all_workers() -> None:
    async with boards(2) as (_, (one, other)):
        for board in (one, other):
            board.fleet.stats("a").requests = 4

        shown: dict[str, Any] = (await one.get("/providers")).json()

        assert shown["providers"][0]["requests"] == 8
        assert shown["providers"][0]["models"], "of the worker that is asked"
        assert shown["workers"] == {"expected": 2, "answered": 2, "silent": [], "trouble": None}


async def test_one_worker_alone_has_nobody_to_tell() -> None:
    board = Board()
    workers = Workers(board, None)

    assert await workers.tell("wake", "a") == "all"
    assert await workers.tell_reload(Source(None, b""), 1) == {}
    assert "workers" not in await workers.view()
    assert "balancer_workers" not in await workers.metrics()
    await workers.close()
