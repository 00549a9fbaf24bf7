"""The machine's clocks do what their names say."""

from __future__ import annotations

import time

from balancer.clock import Clock


def test_durations_and_dates_come_from_their_own_clocks() -> None:
    clock = Clock()

    first, then = clock.now(), clock.now()

    assert first <= then <= time.monotonic()
    assert abs(clock.wall() - time.time()) < 1
