"""Waiting before a worker is started again."""

from __future__ import annotations

from balancer.supervisor.backoff import GOOD_S, MOST_S, Backoff


def test_the_first_restart_is_at_once_and_each_further_one_waits_twice_as_long() -> None:
    backoff = Backoff()

    assert [backoff.ended(1.0) for _ in range(5)] == [0.0, 1.0, 2.0, 4.0, 8.0]
    assert [backoff.ended(1.0) for _ in range(9)][-1] == MOST_S
    assert backoff.ended(GOOD_S) == 0.0, "it was well for long"
    assert backoff.ended(1.0) == 1.0


def test_a_worker_that_cannot_start_is_never_tried_again_at_once() -> None:
    backoff = Backoff()

    assert [backoff.ended(0.0) for _ in range(4)] == [1.0, 2.0, 4.0, 8.0]
