"""Counting tokens for those whom no provider can tell: off the event loop where it would block it,
and corrected by what providers say of real answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from balancer import dialects
from balancer.model import Candidate, Operation, Usage
from balancer.tokens.estimate import Correction, Estimator
from balancer.wire.messages import without_lone_surrogates

ACTIVE_S = 600.0
"""Where a provider counts for itself, lessons are taken this long after an estimate was asked for: they
cost, and nobody else needs them."""

FIRST_LESSONS = 10
"""So many are taken as they come; then it is known how far the estimates are off."""

LESSON_EVERY_S = 5.0


class Counting:
    """Estimates, and learns how far they are off."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._estimator = Estimator()
        self._correction = Correction()
        self._asked_at = float("-inf")
        self._taught_at = float("-inf")
        self._thread = ThreadPoolExecutor(1, "counting")
        """One: several would take the interpreter from the event loop in turns."""

    async def count(self, body: bytes, model: str, candidate: Candidate | None) -> int:
        """Return an estimate of a request's input tokens. Raises `msgspec.MsgspecError`."""
        self._asked_at = self._now()
        named = candidate.model if candidate else model
        try:
            estimate = await self._estimate(body, named)
        except msgspec.DecodeError:
            estimate = await self._estimate(without_lone_surrogates(body), named)
        if candidate is None:
            return estimate
        return self._correction.correct(candidate.provider.name, candidate.model, estimate)

    def lesson(self, body: bytes, candidate: Candidate) -> asyncio.Task[int] | None:
        """Begin to estimate a request whose answer will say what it really had; None: not worth it now."""
        now = self._now()
        if now - self._asked_at > ACTIVE_S and dialects.get(candidate.provider.type).supports(Operation.COUNT_TOKENS):
            return None
        taught = self._correction.lessons(candidate.provider.name, candidate.model)
        if taught >= FIRST_LESSONS and now - self._taught_at < LESSON_EVERY_S:
            return None
        self._taught_at = now
        return asyncio.get_running_loop().create_task(self._try(body, candidate.model))

    def learn(self, lesson: asyncio.Task[int], candidate: Candidate, usage: Usage) -> None:
        """Compare an estimate, as soon as it is there, with what the provider said."""
        real = (usage.input_tokens or 0) + (usage.cache_read_tokens or 0) + (usage.cache_creation_tokens or 0)

        def compare(done: asyncio.Task[int]) -> None:
            if not done.cancelled():
                self._correction.learn(candidate.provider.name, candidate.model, done.result(), real)

        lesson.add_done_callback(compare)

    async def _try(self, body: bytes, model: str) -> int:
        try:
            return await self._estimate(body, model)
        except msgspec.MsgspecError:
            return 0  # there is nothing to be learnt from it

    async def _estimate(self, body: bytes, model: str) -> int:
        if self._estimator.is_heavy(body):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._estimator.estimate, body, model)
        return self._estimator.estimate(body, model)
