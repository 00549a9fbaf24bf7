"""A fleet of which other workers have the same."""

from __future__ import annotations

from state.shared_world import SharedWorld, group_of, shared_worlds
from state.world import BAD, OVERLOADED, read

from balancer.dialects.simulated.faults import Drill


def test_round_robin_goes_round_over_all_workers() -> None:
    with shared_worlds(3, "selection_strategy: round_robin", "abc") as worlds:
        asked = "".join(worlds[n % 3].order()[0] for n in range(9))

        assert asked == "abcabcabc"


def test_a_fault_that_is_injected_for_some_requests_is_met_by_so_many_over_all_workers() -> None:
    with shared_worlds(2) as (one, other):
        for world in (one, other):
            world.fleet.orders.inject("a", Drill("a", "529", 2), 0.0, 1000.0)
        candidate = one.candidate("a")
        one.fleet.stats("a").drill = Drill("a", "529", 1)  # its request has met it
        one.fleet.observe(candidate, OVERLOADED, BAD, began=1.0, now=1.0, wall=1001.0, injected=True)

        other.fleet.learn()

        drill = other.fleet.stats("a").drill
        assert drill is not None
        assert drill.requests_left == 1


def test_one_worker_asks_what_costs_nothing() -> None:
    with shared_worlds(3) as (one, other, third):
        assert [world.fleet.may_probe("a") for world in (other, one, third, other)] == [True, False, False, True]
        assert third.fleet.may_probe("b")


def test_news_of_another_worker_are_told_to_who_waits_for_them() -> None:
    with shared_worlds(2) as (one, other):
        told: list[bool] = []
        other.fleet.on_news = lambda: told.append(True)
        one.fail("a", at=1.0)

        other.fleet.learn()
        other.fleet.learn()

        assert told == [True]


def test_what_was_told_of_a_provider_before_it_was_configured_here_is_known_afterwards() -> None:
    with group_of(2) as group:
        one, other = SharedWorld(group, 0, "", "abc", ""), SharedWorld(group, 1, "", "ab", "")
        one.fail("c", at=10.0)
        other.fleet.learn()

        other.fleet.reload(read("", "abc"), 1010.0)

        assert other.rests("c", 10.0)
        assert not other.rests("a", 10.0)
