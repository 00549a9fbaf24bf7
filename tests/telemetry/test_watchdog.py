"""The watchdog of the event loop, on a real loop in real time."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
import threading
import time

import pytest

from balancer.telemetry import watchdog
from balancer.telemetry.watchdog import BEAT_S, LATE_S, LoopWatchdog, stack_of


@pytest.fixture
async def lags() -> list[float]:
    return []


def computes_for(seconds: float, secret: str = "sk-canary-in-a-local") -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        hashlib.sha256(secret.encode() * 100).digest()


async def test_a_loop_that_stands_is_told_of_with_its_place_and_no_value(
    lags: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watched = LoopWatchdog(asyncio.get_running_loop(), lags.append)
    try:
        await asyncio.sleep(BEAT_S * 1.2)
        computes_for(0.8)
        await asyncio.sleep(BEAT_S * 2)
    finally:
        watched.close()

    assert max(lags) > LATE_S
    (record,) = [record for record in caplog.records if "stood in" in record.getMessage()]
    assert record.levelno == logging.WARNING
    assert "telemetry/test_watchdog.py:computes_for:" in record.getMessage()
    assert "canary" not in caplog.text


async def test_one_that_waits_for_the_machine_is_no_warning(
    lags: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watched = LoopWatchdog(asyncio.get_running_loop(), lags.append)
    try:
        time.sleep(0.9)  # noqa: ASYNC251 # it does not compute, as a process that is stopped
        await asyncio.sleep(BEAT_S / 2)
    finally:
        watched.close()

    assert [record.levelno for record in caplog.records if "stood in" in record.getMessage()] == [logging.INFO]


async def test_lags_in_a_row_are_one_line(lags: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watched = LoopWatchdog(asyncio.get_running_loop(), lags.append)
    try:
        for _ in range(2):
            time.sleep(0.6)  # noqa: ASYNC251
            await asyncio.sleep(BEAT_S * 1.2)
    finally:
        watched.close()

    assert len([lag for lag in lags if lag > LATE_S]) >= 2
    assert len([record for record in caplog.records if "stood in" in record.getMessage()]) == 1


async def test_what_stands_for_long_is_told_of_while_it_does(
    lags: list[float], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "LONG_S", 0.3)
    watched = LoopWatchdog(asyncio.get_running_loop(), lags.append)
    try:
        time.sleep(1.0)  # noqa: ASYNC251
        told = [record.threadName for record in caplog.records if "it stands in" in record.getMessage()]
    finally:
        watched.close()

    assert told == ["loop-watchdog"]


async def test_a_loop_that_is_well_says_nothing_and_nothing_is_left(
    lags: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    before = threading.active_count()
    watched = LoopWatchdog(asyncio.get_running_loop(), lags.append)
    await asyncio.sleep(BEAT_S * 3)
    watched.close()

    assert len(lags) >= 1
    assert threading.active_count() == before


def test_a_stack_is_told_from_the_inside() -> None:
    told = stack_of(sys._getframe()).split(" < ")

    assert told[0].startswith("telemetry/test_watchdog.py:test_a_stack_is_told_from_the_inside:")
    assert len(told) == watchdog.FRAMES_MAX
    assert stack_of(None) == "no Python code"
