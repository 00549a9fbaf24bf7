"""The process's own limit of descriptors is raised as far as the system allows."""

from __future__ import annotations

import subprocess
import sys

import pytest

from balancer.server import descriptors

TOLD = """
import resource
soft, hard = {limits}
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from balancer.server import descriptors
print(descriptors.raised(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.live
@pytest.mark.parametrize(("limits", "expected"), [("100, 300", "300 300 300"), ("200, 200", "200 200 200")])
def test_the_soft_limit_becomes_the_hard_one(limits: str, expected: str) -> None:
    code = TOLD.format(limits=limits)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert told.stdout.strip() == expected


def test_what_is_asked_for_has_a_bound() -> None:
    assert descriptors.raised() <= descriptors.ENOUGH
