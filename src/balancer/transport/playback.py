"""Scripts played in the place of an exchange: simulated providers and injected faults. Opens nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from balancer.script import Data, Fail, Head, Pause, Step
from balancer.transport.answer import UpstreamResponse
from balancer.transport.errors import TransportError


class Playback(UpstreamResponse):
    """Plays a script as if it came over a connection."""

    def __init__(self, steps: Iterator[Step]) -> None:
        self._steps = steps
        self._paused_s = 0.0

    async def head(self, within_s: float) -> None:
        """Play up to the head. Raises `TransportError`."""
        step = await self._next(within_s, "head_timeout")
        if not isinstance(step, Head):
            raise TransportError("protocol", "a script without a head", sent=True)
        self.status, self.headers = step.status, step.headers

    async def read(self, within_s: float) -> bytes:
        """Play up to the next piece of the body."""
        step = await self._next(within_s, "idle_timeout")
        return step.data if isinstance(step, Data) else b""

    async def _next(self, within_s: float, cause: str) -> Step | None:
        """Return the next step that is neither a pause nor a failure; None at the end."""
        left_s = within_s
        headed = bool(self.status)
        while True:
            if self._paused_s:
                now_s = min(self._paused_s, left_s)
                self._paused_s -= now_s
                left_s -= now_s
                await asyncio.sleep(now_s)
                if self._paused_s:
                    raise TransportError(cause, sent=True, headed=headed)
            step = next(self._steps, None)
            if isinstance(step, Pause):
                self._paused_s = step.seconds
            elif isinstance(step, Fail):
                raise TransportError(step.cause, sent=headed or step.cause not in _BEFORE_SENDING, headed=headed)
            else:
                return step


_BEFORE_SENDING = frozenset({"dns", "refused", "unreachable", "connect_timeout", "tls", "proxy"})
