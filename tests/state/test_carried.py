"""What one process hands to the one that takes its place."""

from __future__ import annotations

import msgspec
import pytest
from stand_ins import request

from balancer.policy.verdicts import Mark, Statement, Trouble, Verdict
from balancer.state import carried

from .world import OVERLOADED, World, read

KEY_REFUSED = Verdict(Mark.BAD, retry_elsewhere=True, reason="401", status=401, needs_operator=Trouble.KEY)


def test_cooldowns_pins_and_pauses_go_over_to_a_process_with_another_clock() -> None:
    old, new = World(), World()
    old.fail("a", 100.0).fail("c", 100.0, KEY_REFUSED)
    old.pin("b", "talk", 90.0)
    old.fleet.orders.pause("b", 1.0)
    left_s = old.availability("a", 103.0).cooldown_until - 103.0

    blob = carried.taken(old.fleet, 103.0)
    assert carried.restore(new.fleet, blob, 5000.0)

    assert new.availability("a", 5000.0).cooldown_until == pytest.approx(5000.0 + left_s)
    assert not new.availability("a", 5000.0).usable
    assert new.availability("a", 5000.0 + left_s).usable
    assert new.availability("c", 5000.0).needs_operator
    assert new.health.paused == {"b"}
    assert new.fleet.pins.find(request(conversation="talk"), new.route, 5000.0) == "b"
    assert new.fleet.pins.find(request(conversation="talk"), new.route, 5000.0 + 288.0) is None, (
        "it answered 13 s before"
    )


def test_what_a_provider_said_goes_along_and_no_secret_does() -> None:
    old, new = World(), World()
    old.fail("a", 100.0)
    key, health = next(iter(old.health.entries.items()))
    old.health.entries[key] = msgspec.convert(
        {**msgspec.to_builtins(health), "said": msgspec.to_builtins(Statement("too many", 130.0))}, type(health)
    )
    blob = carried.taken(old.fleet, 110.0)
    carried.restore(new.fleet, blob, 10.0)

    assert new.health.entries[key].said == Statement("too many", 30.0)
    assert b"s-a" not in blob


def test_health_of_another_key_or_address_is_left() -> None:
    old, new = World(), World()
    old.fail("a", 100.0)
    new.fleet.reload(read(secret="another"), 1.0)

    assert carried.restore(new.fleet, carried.taken(old.fleet, 101.0), 101.0)
    assert new.health.entries == {}


@pytest.mark.parametrize(
    "blob",
    [b"", b"{", b"[]", b'{"version":2,"health":[1]}', b'{"version":1,"health":"no"}', b'{"version":1,"pins":[1]}'],
)
def test_another_version_and_what_is_no_such_thing_are_ignored(blob: bytes) -> None:
    new = World()

    assert not carried.restore(new.fleet, blob, 1.0)
    assert new.order() == "abc"


def test_only_the_latest_pins_go_over() -> None:
    old, new = World(), World()
    for number in range(carried.PINS_MAX + 5):
        old.pin("a", f"talk {number}", 1.0)
    carried.restore(new.fleet, carried.taken(old.fleet, 1.0), 1.0)

    assert len(new.fleet.pins) == carried.PINS_MAX
    assert new.fleet.pins.find(request(conversation="talk 4"), new.route, 1.0) is None
    assert new.fleet.pins.find(request(conversation="talk 5"), new.route, 1.0) == "a"


def test_a_provider_that_was_removed_takes_nothing_along() -> None:
    old, new = World(), World(names="bc")
    old.fail("a", 100.0)
    old.pin("a", "talk", 100.0)
    old.observe(old.candidate("b"), OVERLOADED, KEY_REFUSED, 100.0)

    assert carried.restore(new.fleet, carried.taken(old.fleet, 100.0), 1.0)
    assert {key[0] for key in new.health.entries} == {"b"}
    assert len(new.fleet.pins) == 0
