"""Shortages are counted one by one, and told once for as long as they last."""

from __future__ import annotations

import threading

import pytest

from balancer.policy.shortage import KINDS
from balancer.state.local_faults import REMEDIES, SAID_AGAIN_S, LocalFaults


def test_each_is_counted_and_the_first_of_a_kind_is_told(caplog: pytest.LogCaptureFixture) -> None:
    faults = LocalFaults()
    assert faults.counts == dict.fromkeys(KINDS, 0)
    for now in (0.0, 1.0, SAID_AGAIN_S):
        faults.count("descriptors", "no connection to a provider could be opened", now)
    faults.count("disk", "the log can't be written", 2.0)

    assert (faults.counts["descriptors"], faults.counts["disk"]) == (3, 1)
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "this machine is short of descriptors",
        "this machine is short of disk",
    ]
    faults.count("descriptors", "again", 2 * SAID_AGAIN_S)
    assert "again" in caplog.records[-1].message, "it was over for a while"


def test_there_is_a_remedy_for_each() -> None:
    assert set(REMEDIES) == set(KINDS)


def test_threads_may_count(caplog: pytest.LogCaptureFixture) -> None:
    faults = LocalFaults()

    def count() -> None:
        for _ in range(2000):
            faults.count("memory", "x", 0.0)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults.counts["memory"] == 8000
    assert len(caplog.records) == 1
