"""One prefix for every error, and a guess at what was meant."""

from __future__ import annotations

import pytest

from balancer.commands.complaint import complain, did_you_mean, notice


def test_errors_and_notices_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    complain("no")
    notice("well")

    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "balancer: error: no\nbalancer: well\n"


def test_a_near_word_is_offered() -> None:
    assert did_you_mean("stauts", ["serve", "status"]) == "; did you mean 'status'?"
    assert did_you_mean("fly", ["serve", "status"]) == ""
    assert did_you_mean("s" * 10_000_000, ["serve"]) == ""
