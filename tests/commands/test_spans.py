"""Durations as people write them."""

from __future__ import annotations

import argparse

import pytest

from balancer.commands.spans import span

SPANS = {"30s": 30.0, "2m": 120.0, "1h": 3600.0, "500ms": 0.5, "45": 45.0, "1.5s": 1.5}


@pytest.mark.parametrize(("text", "seconds"), SPANS.items())
def test_durations(text: str, seconds: float) -> None:
    assert span(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-1s", "s", "1d", "30 s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        span(text)
