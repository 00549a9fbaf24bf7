"""Workers in one process: the same table, and commands without a hub."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from balancer.sharing.in_process import Group
from balancer.sharing.protocol import Report, Sharing
from balancer.sharing.reports import add_up, packed, unpacked


@pytest.fixture
def group() -> Iterator[Group]:
    group = Group(3)
    yield group
    group.close()


async def test_a_command_reaches_all_others(group: Group) -> None:
    one, other = group.member(0), group.member(1)
    done: list[tuple[int, bytes]] = []

    async def wake(body: bytes) -> bytes:
        done.append((1, body))
        return b"done"

    other.subscribe("wake", wake)

    answers = await one.command("wake", b"p0", 1.0)

    assert done == [(1, b"p0")]
    assert answers.by_worker == {1: b"done"}


async def test_a_worker_that_begins_later_carries_out_what_still_stands(group: Group) -> None:
    one = group.member(0)
    await one.command("pause", b"p0", 1.0, standing="pause p0")
    await one.command("wake", b"p0", 1.0)
    other, done = group.member(1), []

    async def carry_out(body: bytes) -> bytes:
        done.append(body)
        return b""

    other.subscribe("pause", carry_out)
    other.subscribe("wake", carry_out)
    await other.start()

    assert done == [b"p0"]


async def test_what_ended_workers_counted_is_kept_in_a_sum(group: Group) -> None:
    members: list[Sharing] = [group.member(n) for n in range(3)]
    for n, member in enumerate(members):
        member.report_with(lambda n=n: Report({"requests": [n + 1.0], "of each": [1.0, n * 1.0]}, b"view"))  # type: ignore[misc]
    await members[1].close()
    await members[2].close()

    known = await members[0].collect(1.0)

    assert known.reports == {}
    assert known.ended == {"requests": [5.0], "of each": [2.0, 3.0]}


def test_a_report_is_bytes_and_back() -> None:
    report = Report({"requests": [1.0]}, b"view")

    assert unpacked(packed(report)) == report
    assert unpacked(b"\xff nonsense") == Report({})


def test_counters_of_another_shape_replace_what_was_added() -> None:
    total = {"a": [1.0]}

    add_up(total, {"a": [1.0, 2.0], "b": [1.0]})
    add_up(total, {"b": [1.0]})

    assert total == {"a": [1.0, 2.0], "b": [2.0]}
