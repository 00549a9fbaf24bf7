"""The ends of requests whose worker was killed."""

from __future__ import annotations

import msgspec

from balancer.events import RequestBegan, RequestEnded
from balancer.supervisor.cut_off import counted, cut_off


def test_a_request_that_was_begun_ends_with_its_worker() -> None:
    began = RequestBegan("r1", 1000.0, "messages", "m", stream=True, body_bytes=5, client="c")

    ends = list(cut_off([msgspec.msgpack.encode(began), b"\xff torn"], 3, 1002.5))

    reason = "worker 3, which served it, has ended"
    assert ends == [RequestEnded("r1", 1002.5, "messages", "m", True, 0, "failed", 2.5, reason=reason)]


def test_the_ends_are_told_and_counted() -> None:
    ends = [RequestEnded(f"r{n}", 0.0, "messages", "m", True, 0, "failed", 1.0) for n in range(3)]
    told: list[RequestEnded] = []

    counters = counted(ends, told.append)

    assert told == ends
    assert counters["requests_total\x1fmessages\x1fother\x1fnone\x1ffailed"] == [3]
