"""Memory that is free again stays ours: bodies come and go without page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, sys
from balancer import heap
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


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of glibc")
def test_bodies_come_and_go_without_page_faults() -> None:
    assert faults("keep") < 400 < faults("leave alone")
