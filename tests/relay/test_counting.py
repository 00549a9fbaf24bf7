"""Estimates of tokens, and how the usage of real answers calibrates them."""

from __future__ import annotations

import asyncio
import json

from stand_ins import candidate

from balancer.model import Candidate, Usage
from balancer.relay.counting import CalibrationLimits, Counting

BODY = json.dumps({"messages": [{"role": "user", "content": "hello world, how are you?"}]}).encode()


async def calibrated(counting: Counting, one: Candidate, tokens: int, cached: int = 0) -> bool:
    """Have a request answered that used so many tokens; return whether the estimates were calibrated by it."""
    sample = counting.sample(BODY, one)
    if sample is None:
        return False
    counting.calibrate(sample, one, Usage(input_tokens=tokens, cache_read_tokens=cached))
    await sample
    await asyncio.sleep(0)  # the comparison runs after the sample
    return True


async def test_reported_usage_corrects_the_estimates() -> None:
    counting = Counting(lambda: 0.0)
    one = candidate("a", "gpt-x", type="openai")
    first = await counting.count(BODY, "claude-x", one)
    assert await calibrated(counting, one, first, first // 2)

    assert abs(await counting.count(BODY, "claude-x", one) - 1.5 * first) <= 1
    assert await counting.count(BODY, "claude-x", candidate("b", "gpt-x", type="openai")) == first


async def test_who_counts_for_itself_is_calibrated_only_while_estimates_are_asked_for() -> None:
    clock = [0.0]
    counting = Counting(lambda: clock[0])
    assert not await calibrated(counting, candidate(), 9)
    await counting.count(BODY, "m", None)
    assert await calibrated(counting, candidate(), 9)
    clock[0] = 600.0
    assert await calibrated(counting, candidate(), 9)
    clock[0] = 600.1
    assert not await calibrated(counting, candidate(), 9)


async def test_after_the_first_samples_they_are_rare() -> None:
    clock = [0.0]
    counting = Counting(lambda: clock[0], CalibrationLimits(first_samples=3, sample_every_s=7.0))
    one = candidate(type="openai")
    for _ in range(3):
        assert await calibrated(counting, one, 9)
    assert not await calibrated(counting, one, 9)
    clock[0] = 6.9
    assert not await calibrated(counting, one, 9)
    clock[0] = 7.0
    assert await calibrated(counting, one, 9)


async def test_what_can_not_be_estimated_calibrates_nothing() -> None:
    counting = Counting(lambda: 0.0, CalibrationLimits(first_samples=1))
    one = candidate(type="openai")
    sample = counting.sample(b"{}", one)
    assert sample is not None
    counting.calibrate(sample, one, Usage(input_tokens=9))
    assert await sample == 0
    await asyncio.sleep(0)
    assert await calibrated(counting, one, 9), "it was none of the first samples"


async def test_a_long_conversation_is_counted_beside_the_event_loop() -> None:
    counting = Counting(lambda: 0.0)
    text = "words and (punctuation) 42 " * 20_000
    counted = asyncio.create_task(
        counting.count(json.dumps({"messages": [{"role": "user", "content": text}]}).encode(), "m", None)
    )
    turns = 0
    while not counted.done():
        turns += 1
        await asyncio.sleep(0)

    assert turns > 20
    assert await counted > 100_000


async def test_half_a_character_is_counted_as_it_is_answered() -> None:
    counting = Counting(lambda: 0.0)
    half = BODY.replace(b"hello", rb"hel\ud83dlo")

    assert await counting.count(half, "claude-x", None) > 0
