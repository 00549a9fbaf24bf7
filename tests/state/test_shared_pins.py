"""Pins that all workers know."""

from __future__ import annotations

import time

from stand_ins import request
from state.shared_world import shared_worlds


def test_a_conversation_stays_with_its_provider_at_every_worker() -> None:
    with shared_worlds(2, "sticky: {enabled: true, ttl: 60}") as (one, other):
        now = time.monotonic()
        assert other.order(now, "c1") == "ab"

        one.pin("b", "c1", now)

        assert other.order(now, "c1") == "ba"
        assert other.order(now, "c2") == "ab"


def test_the_latest_answer_decides_whichever_worker_gave_it() -> None:
    with shared_worlds(2, "sticky: {enabled: true, ttl: 60}") as (one, other):
        now = time.monotonic()
        one.pin("b", "c1", now)
        other.pin("a", "c1", now + 0.001)

        assert one.order(time.monotonic(), "c1") == "ab"


def test_a_pin_ends_by_its_time_at_every_worker() -> None:
    with shared_worlds(2, "sticky: {enabled: true, ttl: 60}") as (one, other):
        now = time.monotonic()
        one.pin("b", "c1", now)

        assert other.order(now + 59, "c1") == "ba"
        assert other.order(now + 62, "c1") == "ab"


def test_while_a_conversation_goes_on_others_are_told_now_and_then() -> None:
    with shared_worlds(2, "sticky: {enabled: true, ttl: 60}") as (one, other):
        name = f"c1{one.route.pattern}"
        first = 1_000_000.0
        one.pin("b", "c1", first)
        told = one.sharing.pinned(name)
        one.pin("b", "c1", first + 0.1)
        assert one.sharing.pinned(name) == told

        one.pin("b", "c1", first + 5.1)

        assert other.sharing.pinned(name) != told


def test_a_provider_that_this_worker_does_not_have_is_no_pin() -> None:
    with shared_worlds(2, "sticky: {enabled: true, ttl: 60}") as (one, other):
        one.sharing.pin(f"c1{one.route.pattern}", one.sharing.hash_of("gone"), 60.0)

        assert other.order(time.monotonic(), "c1") == "ab"


def test_without_stickiness_or_a_conversation_nothing_is_looked_for() -> None:
    with shared_worlds(1, "sticky: {enabled: false}") as (one,):
        one.pin("b", "c1", time.monotonic())
        assert one.order(time.monotonic(), "c1") == "ab"
        assert one.fleet.pins.find(request(conversation=None), one.route, 0.0) is None
        assert one.fleet.pins.put(request(conversation=None), one.route, "a", 0.0) is None
