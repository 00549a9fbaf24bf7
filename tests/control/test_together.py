"""What several workers show, as if it were one's."""

from __future__ import annotations

from typing import Any

import msgspec
from control.board import Board

from balancer.control import status
from balancer.control.together import counted, joined
from balancer.model import Usage
from balancer.sharing.protocol import Report


def _worker(requests: int, at: float = 0.0, first_s: float = 0.0) -> Board:
    """Return a worker that has had so many requests of provider `a`, the last one failed at `at`."""
    board = Board()
    stats = board.fleet.stats("a")
    stats.requests, stats.successes, stats.failures, stats.in_flight = requests, requests, 1, 2
    stats.count(Usage(requests, 10))
    if at:
        stats.last_error = {"kind": "x", "status": 500, "message": "m", "at": at}
    if first_s:
        stats.content_began(first_s, 1.0)
    return board


def _shown(board: Board) -> dict[str, Any]:
    return status.describe(board.fleet, 0.0, 0.0)


def test_numbers_of_all_workers_are_added_also_of_those_that_have_ended() -> None:
    others = [_shown(_worker(3, 7.0, 0.2)), _shown(_worker(4, 6.0))]
    reports = [Report(counted(one), msgspec.msgpack.encode(one)) for one in others]

    shown = joined(_shown(_worker(5)), reports, counted(_shown(_worker(100))))

    a, b = shown["providers"]
    assert (a["requests"], a["successes"], a["failures"], a["in_flight"]) == (112, 112, 4, 6)
    assert a["tokens"] == {"input": 112, "output": 40, "cache_read": 0, "cache_creation": 0}
    assert a["last_error"]["at"] == 7.0
    assert a["latency"]["first_substance_s"] == 0.2
    assert a["latency"]["first_substance_ewma_s"] == round(0.2 * 3 / 12, 4)
    assert b["requests"] == 0
    assert b["last_error"] is None


def test_one_worker_shows_what_it_would_show_alone() -> None:
    assert joined(_shown(_worker(5, 3.0, 0.1)), [], {}) == _shown(_worker(5, 3.0, 0.1))


def test_a_provider_that_another_worker_probes_is_being_probed() -> None:
    other = _shown(_worker(1))
    other["providers"][0]["state"] = "probing"

    shown = joined(_shown(_worker(1)), [Report({}, msgspec.msgpack.encode(other))], {})

    assert [one["state"] for one in shown["providers"]] == ["probing", "healthy"]


def test_a_worker_with_other_providers_adds_what_is_alike() -> None:
    other = _shown(_worker(1))
    other["providers"] = [one for one in other["providers"] if one["name"] == "b"]

    shown = joined(_shown(_worker(5)), [Report({}, msgspec.msgpack.encode(other))], {"provider\x1fgone": [1.0]})

    assert [one["requests"] for one in shown["providers"]] == [5, 0]
