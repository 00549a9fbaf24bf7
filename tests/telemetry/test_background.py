"""Writing down happens elsewhere, in order, and never holds anybody up."""

from __future__ import annotations

import threading

import pytest

from balancer.telemetry.background import Scribe


def fail(error: Exception) -> None:
    raise AssertionError(error)


def test_everything_is_written_in_order_before_it_is_closed() -> None:
    written: list[int] = []
    scribe: Scribe[int] = Scribe("t", lambda batch, dropped: written.extend(batch), fail)

    for number in range(5000):
        scribe.put(number)
    scribe.close()

    assert written == list(range(5000))
    assert scribe.dropped == 0


def test_it_is_written_without_closing() -> None:
    written = threading.Event()
    scribe: Scribe[int] = Scribe("t", lambda batch, dropped: written.set(), fail)

    scribe.put(1)

    assert written.wait(2)
    scribe.close()


def test_a_writer_that_blocks_holds_nobody_up_and_what_was_dropped_is_counted() -> None:
    going_on, told = threading.Event(), list[tuple[int, int]]()
    began = threading.Event()

    def write(batch: list[int], dropped: int) -> None:
        told.append((len(batch), dropped))
        began.set()
        going_on.wait(10)

    scribe: Scribe[int] = Scribe("t", write, fail, max_waiting=100)
    scribe.put(0)
    assert began.wait(2)
    for number in range(150):
        scribe.put(number)
    going_on.set()
    scribe.close()

    assert scribe.dropped == 50
    assert told == [(1, 0), (100, 50)]


def test_closing_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balancer.telemetry.background.CLOSE_WITHIN_S", 0.05)
    release = threading.Event()

    def write(batch: list[int], dropped: int) -> None:
        release.wait(20)

    scribe: Scribe[int] = Scribe("t", write, fail)
    scribe.put(1)

    scribe.close()  # the test's own timeout says if this hangs

    release.set()


def test_a_failure_to_write_is_told_and_the_next_batch_is_written() -> None:
    errors: list[Exception] = []
    written: list[int] = []
    failed = threading.Event()

    def write(batch: list[int], dropped: int) -> None:
        if not errors:
            raise OSError("full")
        written.extend(batch)

    def on_error(error: Exception) -> None:
        errors.append(error)
        failed.set()

    scribe: Scribe[int] = Scribe("t", write, on_error)
    scribe.put(1)
    assert failed.wait(2)
    scribe.put(2)
    scribe.close()

    assert written == [2]
    assert [str(error) for error in errors] == ["full"]


def test_what_comes_after_closing_is_dropped() -> None:
    scribe: Scribe[int] = Scribe("t", lambda batch, dropped: None, fail)
    scribe.close()

    scribe.put(1)
    scribe.close()

    assert scribe.dropped == 1


def test_what_was_dropped_elsewhere_is_told_of_too() -> None:
    told: list[int] = []
    scribe: Scribe[int] = Scribe("t", lambda batch, dropped: told.append(dropped), fail)
    scribe.miss(3)
    scribe.put(1)
    scribe.close()

    assert told == [3]
