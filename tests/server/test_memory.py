"""Memory that is free again stays ours, and what stays is not looked at again and again."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, sys
from balancer.server import memory as heap
if sys.argv[1] == "keep":
    heap.keep()
def come_and_go():
    bodies = [bytes(400_000 + n) for n in range(8)]
for _ in range(5):
    come_and_go()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    come_and_go()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, check=True, text=True).stdout)


@pytest.mark.live
@pytest.mark.skipif(sys.platform != "linux", reason="a matter of glibc")
def test_bodies_come_and_go_without_page_faults() -> None:
    assert faults("keep") < 400 < faults("leave alone")


SETTLED = """
import gc
from balancer.server import memory as heap
rounds = []
gc.callbacks.append(lambda phase, info: rounds.append(phase))
kept = [[] for _ in range(2_000)]
before = len(rounds)
heap.settle()
assert gc.get_freeze_count() > 2_000
rounds.clear()
more = [[] for _ in range(5_000)]
print(before, len(rounds))
"""


@pytest.mark.live
def test_what_was_made_for_starting_is_not_collected_again() -> None:
    ran = subprocess.run([sys.executable, "-c", SETTLED], capture_output=True, check=True, text=True)
    before, after = map(int, ran.stdout.split())

    assert before > 0
    assert after == 0
