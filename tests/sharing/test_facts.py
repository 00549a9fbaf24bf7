"""Facts that workers tell each other through shared memory."""

from __future__ import annotations

import os

import pytest
from sharing.tables import process, said, tables

from balancer.sharing import layout
from balancer.sharing.memory import made
from balancer.sharing.protocol import Fact, Use


def _told(news: object) -> list[tuple[str, bytes, int]]:
    assert isinstance(news, list)
    return [(fact.name, fact.body, fact.worker) for fact in news if isinstance(fact, Fact)]


def test_the_others_learn_what_one_tells() -> None:
    with tables(3) as (one, other, third):
        assert not other.changed()

        one.tell("p0", b"cools down")

        assert other.changed()
        assert _told(other.news()) == [("p0", b"cools down", 0)]
        assert not other.changed()
        assert _told(third.news()) == [("p0", b"cools down", 0)]
        assert _told(one.news()) == []


def test_the_latest_about_a_name_is_told_once() -> None:
    with tables(2) as (one, other):
        for n in range(5):
            one.tell("p0", b"%d" % n)
        one.tell("p1", b"x")

        assert _told(other.news()) == [("p0", b"4", 0), ("p1", b"x", 0)]


def test_who_has_slept_through_a_whole_journal_still_learns_everything() -> None:
    with tables(2) as (one, other):
        one.tell("p0", b"early")
        for n in range(layout.JOURNAL_ROWS + 10):
            one.tell("p1", b"%d" % n)

        news = _told(other.news())

        assert ("p0", b"early", 0) in news
        assert news[-1] == ("p1", b"%d" % (layout.JOURNAL_ROWS + 9), 0)


def test_a_worker_that_begins_learns_what_was_told_before_also_by_its_predecessor() -> None:
    with tables(2) as (one, other):
        one.tell("p0", b"old")
        other.tell("p1", b"new")
        other.use(7, 1, 20)

        known = one.history()

        assert _told([*known]) == [("p0", b"old", 0), ("p1", b"new", 1)]
        assert [(use.name, use.requests, use.tokens) for use in known if isinstance(use, Use)] == [(7, 1, 20)]


def test_what_was_used_is_told_each_time() -> None:
    with tables(2) as (one, other):
        for _ in range(3):
            one.use(7, 1, 20)

        assert [(use.name, use.requests, use.tokens) for use in other.news() if isinstance(use, Use)] == [
            (7, 1, 20)
        ] * 3


def test_a_name_or_a_body_that_is_too_long_is_not_shared() -> None:
    with tables(2) as (one, other):
        one.tell("x" * (layout.NAME_MAX_BYTES + 1), b"")
        one.tell("x", b"x" * (layout.BODY_MAX_BYTES + 1))

        assert _told(other.news()) == []

        one.tell("x" * layout.NAME_MAX_BYTES, b"y" * layout.BODY_MAX_BYTES)

        assert _told(other.news()) == [("x" * layout.NAME_MAX_BYTES, b"y" * layout.BODY_MAX_BYTES, 0)]


def test_more_names_than_there_is_room_for_push_out_the_oldest() -> None:
    with tables(2) as (one, other):
        names = layout.FACT_SETS * layout.WAYS + 2000
        for n in range(names):
            one.tell(f"model {n}", b"%d" % n)
            if n % 1000 == 0:
                other.news()

        known = {fact.name: fact.body for fact in other.history() if isinstance(fact, Fact)}

        assert known[f"model {names - 1}"] == b"%d" % (names - 1)
        assert all(name == f"model {body.decode()}" for name, body in known.items())


@pytest.mark.live
def test_four_processes_that_write_and_read_at_once_never_see_a_torn_fact() -> None:
    script = """
print('ready', flush=True); input()
from balancer.sharing.protocol import Fact
worker, wrong, seen, n = table.worker, 0, 0, 0
ends = time.monotonic() + 3
while time.monotonic() < ends:
    n += 1
    table.tell(f'p{n % 3}', bytes([n % 251]) * (40 + n % 400))
    if table.changed():
        for fact in table.news():
            seen += 1
            wrong += len(set(fact.body)) != 1 or fact.worker == worker or fact.name not in ('p0', 'p1', 'p2')
print(wrong, seen)
"""
    fd = made(4)
    try:
        told = [text.split() for text in said([process(fd, worker, script) for worker in range(4)])]
    finally:
        os.close(fd)

    assert [wrong for wrong, _ in told] == ["0"] * 4
    assert all(int(seen) > 10 for _, seen in told)
