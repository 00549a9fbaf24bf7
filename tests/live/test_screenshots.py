"""The terminal pictures of the documentation say what the program says."""

from __future__ import annotations

import pytest
from live import screenshots

from balancer.commands import demo

pytestmark = pytest.mark.live


def _picture(name: str) -> str:
    return screenshots.words_of((screenshots.IMAGES / f"{name}.svg").read_text())


async def test_the_picture_of_a_session_is_what_is_seen_today() -> None:
    drawn = screenshots.drawn(await screenshots.session(), "two failing providers")

    assert _picture("session") == screenshots.words_of(drawn), "run: make screenshots"


def test_the_picture_of_the_demo_shows_every_scenario_in_its_order() -> None:
    scenarios = [screenshots.normalised(demo.Tally(fault).scenario) for fault in ("", *demo.FAULTS, "")]
    picture, at = _picture("demo"), 0

    for scenario in scenarios:
        at = picture.find(scenario, at)
        assert at >= 0, f"{scenario!r} is not there; run: make screenshots"
        at += len(scenario)
