"""Counting tokens for those whom no provider can tell: off the event loop where it would block it,
and corrected by what providers say of real answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from balancer.model import Candidate, Usage
from balancer.tokens import Correction, Estimator

ACTIVE_S = 600.0
"""Lessons are taken this long after an estimate was asked for: they cost, and nobody else needs them."""

LESSON_EVERY_S = 5.0


class Counting:
    """Estimates, and learns how far they are off."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._estimator = Estimator()
        self._correction = Correction()
        self._asked_at = float("-inf")
        self._taught_at = float("-inf")

    async def count(self, body: bytes, model: str, candidate: Candidate | None) -> int:
        """Return an estimate of a request's input tokens. Raises `msgspec.MsgspecError`."""
        self._asked_at = self._now()
        estimate = await self._estimate(body, candidate.model if candidate else model)
        if candidate is None:
            return estimate
        return self._correction.correct(candidate.provider.name, candidate.model, estimate)

    def lesson(self, body: bytes, candidate: Candidate) -> asyncio.Task[int] | None:
        """Begin to estimate a request whose answer will say what it really had; None: not worth it now."""
        now = self._now()
        if now - self._asked_at > ACTIVE_S or now - self._taught_at < LESSON_EVERY_S:
            return None
        self._taught_at = now
        return asyncio.get_running_loop().create_task(self._estimate(body, candidate.model))

    async def learn(self, lesson: asyncio.Task[int], candidate: Candidate, usage: Usage) -> None:
        """Compare an estimate with what the provider said."""
        real = (usage.input_tokens or 0) + (usage.cache_read_tokens or 0) + (usage.cache_creation_tokens or 0)
        try:
            estimate = await lesson
        except msgspec.MsgspecError:
            return
        self._correction.learn(candidate.provider.name, candidate.model, estimate, real)

    async def _estimate(self, body: bytes, model: str) -> int:
        if self._estimator.is_heavy(body):
            return await asyncio.to_thread(self._estimator.estimate, body, model)
        return self._estimator.estimate(body, model)
