"""Estimates of a request's tokens, where no provider can count them.

A large body is counted in a thread, off the event loop. Estimates are calibrated: now and then a request is estimated
as well as answered, and the usage that its answer reports corrects later estimates for that provider and model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from balancer import dialects
from balancer.model import Candidate, Operation, Usage
from balancer.tokens.estimate import Correction, Estimator
from balancer.wire.messages import without_lone_surrogates


class CalibrationLimits(msgspec.Struct, frozen=True):
    """How often requests are estimated for calibration: each costs about as much as its answer."""

    active_s: float = 600.0
    """A provider that counts for itself is calibrated only for so long after an estimate was asked for."""
    first_samples: int = 10
    """So many are taken as they come; then the error of the estimates is known well."""
    sample_every_s: float = 5.0
    """After the first, the shortest time between two."""


DEFAULT = CalibrationLimits()


class Counting:
    """Estimates tokens, and calibrates its estimates. `now` is the driver's monotonic clock."""

    def __init__(self, now: Callable[[], float], limits: CalibrationLimits = DEFAULT) -> None:
        self._now = now
        self._limits = limits
        self._estimator = Estimator()
        self._correction = Correction()
        self._asked_at = float("-inf")
        self._sampled_at = float("-inf")
        self._thread = ThreadPoolExecutor(1, "counting")
        """One thread: several would take the interpreter from the event loop in turns."""

    async def count(self, body: bytes, model: str, candidate: Candidate | None) -> int:
        """Return an estimate of a request's input tokens, as `candidate` would count them.

        Raises `msgspec.MsgspecError` where the body is not a request.
        """
        self._asked_at = self._now()
        named = candidate.model if candidate else model
        try:
            estimate = await self._estimate(body, named)
        except msgspec.DecodeError:
            estimate = await self._estimate(without_lone_surrogates(body), named)
        if candidate is None:
            return estimate
        return self._correction.correct(candidate.provider.name, candidate.model, estimate)

    def sample(self, body: bytes, candidate: Candidate) -> asyncio.Task[int] | None:
        """Begin to estimate a request that is being answered, for `calibrate`; None: no sample is needed now."""
        now, limits = self._now(), self._limits
        idle = now - self._asked_at > limits.active_s
        if idle and dialects.get(candidate.provider.type).supports(Operation.COUNT_TOKENS):
            return None
        samples = self._correction.samples(candidate.provider.name, candidate.model)
        if samples >= limits.first_samples and now - self._sampled_at < limits.sample_every_s:
            return None
        self._sampled_at = now
        return asyncio.get_running_loop().create_task(self._sampled(body, candidate.model))

    def calibrate(self, sample: asyncio.Task[int], candidate: Candidate, usage: Usage) -> None:
        """Compare a sample, as soon as it is there, with the usage that the provider reported."""
        real = (usage.input_tokens or 0) + (usage.cache_read_tokens or 0) + (usage.cache_creation_tokens or 0)

        def compare(done: asyncio.Task[int]) -> None:
            if not done.cancelled():
                self._correction.observe(candidate.provider.name, candidate.model, done.result(), real)

        sample.add_done_callback(compare)

    async def _sampled(self, body: bytes, model: str) -> int:
        try:
            return await self._estimate(body, model)
        except msgspec.MsgspecError:
            return 0  # the correction ignores it

    async def _estimate(self, body: bytes, model: str) -> int:
        if self._estimator.is_heavy(body):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._estimator.estimate, body, model)
        return self._estimator.estimate(body, model)
