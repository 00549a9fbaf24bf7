"""Simulated clients: they read at their own pace, or stop reading, or leave at any point."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from simulation.plan import Ask
from simulation.story import Story

from balancer.headers import Headers
from balancer.model import Candidate
from balancer.server.progress import ABORTED, COMPLETE, FINISHED, LEFT, OPEN, SENDING, STARTED, WAITING, Progress

SILENT_MAX_S = 10.1
"""How long the client of a stream may be sent nothing at all (`RelayLimits.hold_max_s`, `ping_s`, and a look)."""


STUCK_MAX_S = 130.1
"""How long a client that reads nothing may hold what waits for it (`RelayLimits.stuck_s`, and a look)."""


class SimulatedClient:
    """One client's connection: what the balancer writes to, as `server.exchange.Exchange` is."""

    dedup = ""

    def __init__(self, ask: Ask, story: Story, loop: asyncio.AbstractEventLoop) -> None:
        self.ask = ask
        self.progress: Progress = WAITING
        self.busy = False
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.parts: list[bytes] = []
        self.starts = 0
        self.breaches: list[str] = []
        """What was done to it that may not be done."""
        self.longest_silence_s = 0.0
        self.longest_wait_s = 0.0
        """How long something waited for it to read."""
        self.followed = False
        """It got the answer to another's request."""
        self.who = f"#{ask.number}"
        self._story = story
        self._loop = loop
        self._heard = loop.time()
        self._reads = 0
        self._drained: list[asyncio.Future[None]] = []
        self._on_left: Callable[[], None] | None = None
        self._left_bytes: int | None = None

    # What the balancer calls

    @property
    def finished(self) -> bool:
        return self.progress in FINISHED

    @property
    def gone(self) -> bool:
        return self.progress is LEFT

    def start(self, status: int, headers: Headers) -> None:
        self.starts += 1
        if self.starts > 1:
            self.breaches.append("it was given two heads")
        if self.progress is not WAITING:
            return
        self.status, self.headers = status, dict(headers)
        length = self.headers.get(b"content-length")
        self._left_bytes = None if length is None else int(length)
        self.progress = STARTED

    def put(self, data: bytes, *, last: bool = False) -> bool:
        if self.busy or self.progress not in OPEN:
            return False
        self._take(data, last)
        return True

    async def write(self, data: bytes, *, last: bool = False) -> None:
        if self.busy:
            drained, began = self._loop.create_future(), self._loop.time()
            self._drained.append(drained)
            try:
                await drained
            finally:
                self.longest_wait_s = max(self.longest_wait_s, self._loop.time() - began)
        if self.progress in OPEN:
            self._take(data, last)

    async def finish(self) -> None:
        if self.progress not in FINISHED:
            await self.write(b"", last=True)

    def committed(self, candidate: Candidate) -> None:
        return

    def mark_unshareable(self) -> None:
        return

    async def abort(self) -> None:
        if self.progress in FINISHED or self.progress is LEFT:
            return
        self._tell("its connection was cut")
        self.progress = ABORTED
        self._drain()

    def on_left(self, call: Callable[[], None] | None, /) -> None:
        self._on_left = call
        if call is not None and self.progress is LEFT:
            self._loop.call_soon(self._call)

    # What the client does

    def leave(self) -> None:
        """Close the connection, if the answer is not over."""
        if self.progress in FINISHED or self.progress is LEFT:
            return
        self._tell("left")
        self.progress = LEFT
        self._drain()
        self._call()

    def _call(self) -> None:
        call, self._on_left = self._on_left, None
        if call is not None:
            call()

    def _take(self, data: bytes, last: bool) -> None:
        now = self._loop.time()
        self.longest_silence_s = max(self.longest_silence_s, now - self._heard)
        self._heard = now
        self.parts.append(data)
        self.progress = SENDING
        if self._left_bytes is not None:
            self._left_bytes -= len(data)
            if self._left_bytes < 0:
                self.breaches.append("it was given more than content-length says")
            if last and self._left_bytes:
                self.breaches.append("it was given less than content-length says")
            last = last or self._left_bytes == 0
        if last:
            self.progress = COMPLETE
        self._tell("was given %d bytes of a %d%s", len(data), self.status, ", the last" if last else "")
        self._read()

    def _read(self) -> None:
        """Begin to read what was given, in this client's way."""
        self._reads += 1
        ask = self.ask
        if self._reads == ask.leaves_after:
            self._loop.call_soon(self.leave)
        elif ask.stuck_after is not None and self._reads >= ask.stuck_after:
            self.busy = True
        elif ask.reads_s:
            self.busy = True
            self._loop.call_later(ask.reads_s, self._drain)

    def _drain(self) -> None:
        self.busy = False
        self._heard = self._loop.time()
        waiting, self._drained = self._drained, []
        for drained in waiting:
            if not drained.done():
                drained.set_result(None)

    def _tell(self, words: str, *details: object) -> None:
        self._story.tell(self._loop.time(), self.who, words, *details)
