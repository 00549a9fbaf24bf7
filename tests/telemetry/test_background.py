"""Writing happens in another thread, in order, and never holds up who hands over an entry."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from balancer.telemetry.background import BackgroundWriter, WriterLimits


def fail(error: Exception) -> None:
    raise AssertionError(error)


def writer(
    write: Callable[[list[int], int], None], on_error: Callable[[Exception], None] = fail, **limits: float
) -> BackgroundWriter[int]:
    return BackgroundWriter("t", write, on_error, WriterLimits(**limits))  # type: ignore[arg-type]


def test_everything_is_written_in_order_before_it_is_closed() -> None:
    written: list[int] = []
    background = writer(lambda batch, dropped: written.extend(batch))

    for number in range(5000):
        background.put(number)
    background.close()

    assert written == list(range(5000))
    assert background.dropped == 0


def test_it_is_written_without_closing() -> None:
    written = threading.Event()
    background = writer(lambda batch, dropped: written.set())

    background.put(1)

    assert written.wait(5)
    background.close()


def test_entries_gather_before_they_are_written_together() -> None:
    batches: list[list[int]] = []
    background = writer(lambda batch, dropped: batches.append(batch), flush_every_s=60)

    for number in range(100):
        background.put(number)
    background.close()  # does not wait for the flush

    assert batches == [list(range(100))]


@pytest.mark.parametrize(("entries", "dropped"), [(100, 0), (101, 1), (150, 50)])
def test_a_blocked_writer_holds_up_nobody_and_what_is_beyond_the_limit_is_counted(entries: int, dropped: int) -> None:
    released, began = threading.Event(), threading.Event()
    batches: list[tuple[int, int]] = []

    def write(batch: list[int], dropped: int) -> None:
        batches.append((len(batch), dropped))
        began.set()
        released.wait(10)

    background = writer(write, max_waiting=100, flush_every_s=0)
    background.put(0)
    assert began.wait(5)
    for number in range(entries):
        background.put(number)
    released.set()
    background.close()

    assert background.dropped == dropped
    assert batches == [(1, 0), (100, dropped)]


def test_an_entry_may_be_written_however_many_are_waiting() -> None:
    written: list[int] = []
    background = writer(lambda batch, dropped: written.extend(batch), max_waiting=0)

    background.put(1)
    background.put_always(2)
    background.close()

    assert (written, background.dropped) == ([2], 1)


def test_closing_waits_for_a_bounded_time() -> None:
    release = threading.Event()

    def write(batch: list[int], dropped: int) -> None:
        release.wait(20)

    background = writer(write, close_within_s=0.05)
    background.put(1)
    began = time.monotonic()

    background.close()

    assert time.monotonic() - began < 10
    release.set()


def test_a_failure_to_write_is_reported_and_the_next_batch_is_written() -> None:
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

    background = writer(write, on_error)
    background.put(1)
    assert failed.wait(5)
    background.put(2)
    background.close()

    assert written == [2]
    assert [str(error) for error in errors] == ["full"]


def test_what_comes_after_closing_is_dropped() -> None:
    background = writer(lambda batch, dropped: None)
    background.close()

    background.put(1)
    background.close()

    assert background.dropped == 1


def test_entries_that_were_dropped_elsewhere_are_counted_once() -> None:
    counts: list[int] = []
    written = threading.Event()

    def write(batch: list[int], dropped: int) -> None:
        counts.append(dropped)
        written.set()

    background = writer(write, flush_every_s=0)
    background.count_dropped(3)
    background.put(1)
    assert written.wait(5)
    background.put(2)
    background.close()

    assert counts == [3, 0]
    assert background.dropped == 3


def test_its_thread_keeps_no_process_from_ending() -> None:
    background = writer(lambda batch, dropped: None)

    assert background._thread.daemon
    background.close()
    assert not background._thread.is_alive()
