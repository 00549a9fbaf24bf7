"""Three providers that fail by chance, each for itself: hardly a request finds none. `make chance` plays ten times as many."""

from __future__ import annotations

import pytest
from live import chance

pytestmark = pytest.mark.live


async def test_of_three_providers_that_fail_by_chance_hardly_a_request_finds_none() -> None:
    outcome = await chance.play(400, 60.0, 0.15)

    assert outcome.share <= chance.FAILED_MAX, outcome.failed
    assert 1.05 <= outcome.attempts / outcome.requests <= 1.3
