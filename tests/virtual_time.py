"""An event loop whose time passes at once: where nothing is left to do, it is later.

A test of 30 seconds takes a millisecond, and a bound can be tried exactly from below and from above. Everything that
takes its time from the loop is driven by it; real sockets work, but take no time.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from balancer.clock import Clock

P = ParamSpec("P")


class _Selector(selectors.SelectSelector):
    """Lets the time pass that the loop would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a time of its own. It counts what it is asked to do."""

    def __init__(self) -> None:
        self._of_time = _Selector()
        self.timers = 0
        """How many timers were made."""
        self.tasks = 0
        """How many tasks were made."""
        super().__init__(self._of_time)

    def time(self) -> float:
        return self._of_time.now

    def call_at(self, when: float, *args: Any, **more: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        self.timers += 1
        return super().call_at(when, *args, **more)

    def create_task(self, *args: Any, **more: Any) -> asyncio.Task[Any]:
        self.tasks += 1
        return super().create_task(*args, **more)

    @property
    def clock(self) -> Clock:
        return Clock(self.time, lambda: 1.8e9 + self.time())


def loop() -> VirtualLoop:
    """Return the loop of the test that runs."""
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualLoop)
    return running


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on a `VirtualLoop`."""

    @functools.wraps(test)
    def run(*args: P.args, **more: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **more))

    return run


async def settled() -> None:
    """Let everything happen that needs no time."""
    for _ in range(20):
        await asyncio.sleep(0)
