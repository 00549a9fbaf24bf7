"""An event loop whose time jumps to the next timer, so that hours pass at once and every run is the same.

`asyncio.sleep`, `asyncio.timeout` and `loop.call_later` take their time from the loop. Whoever is handed `loop.time` as
its clock, and plays its upstreams instead of dialling them, is driven by this loop without waiting for anything:

    @in_virtual_time
    async def test_that_takes_a_minute() -> None:
        await asyncio.sleep(60)

Sockets and processes live in real time: what waits for them does not belong here. Work for threads is done at once, on
the loop.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from balancer.clock import Clock

P = ParamSpec("P")
T = TypeVar("T")


OWN_SOCKETS = 1
"""The loop's own, by which threads and signals wake it. Nobody does here, and to look would cost more than all else."""


class NothingWillHappen(Exception):
    """Everybody waits, and neither a timer nor a socket can wake anybody."""


class _Jumping(selectors.SelectSelector):
    """Never waits: where nothing is ready, the time of the next timer has come."""

    def __init__(self, tick_s: float) -> None:
        super().__init__()
        self.now = 0.0
        self._tick_s = tick_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0) if len(self.get_map()) > OWN_SOCKETS else []
        if ready or timeout == 0:
            self.now += self._tick_s
            return ready
        if timeout is None:
            raise NothingWillHappen
        self.now += timeout + self._tick_s
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop at whose `time()` 0 it was made. It counts what it is asked for.

    `tick_s` is how long every turn of the loop takes. Where a program waits for what is left of a sum of floats, that
    may be 1e-16 s, which added to the time is nothing: on a loop without ticks it waits for that without end.
    """

    def __init__(self, tick_s: float = 0.0) -> None:
        self._jumping = _Jumping(tick_s)
        self.timers = 0
        """How many timers were made."""
        self.tasks = 0
        """How many tasks were made."""
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def call_at(self, when: float, *args: Any, **more: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        self.timers += 1
        return super().call_at(when, *args, **more)

    def create_task(self, *args: Any, **more: Any) -> asyncio.Task[Any]:
        self.tasks += 1
        return super().create_task(*args, **more)

    @property
    def clock(self) -> Clock:
        """The same time, as what is not asyncio's takes it."""
        return Clock(self.time, lambda: 1.8e9 + self.time())

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Do now what is for a thread: how long a thread takes is not the same in every run."""
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


def run(work: Coroutine[Any, Any, T], tick_s: float = 0.0) -> T:
    """Run `work` to its end on a loop of its own, and return what it returns."""
    with asyncio.Runner(loop_factory=functools.partial(VirtualTimeLoop, tick_s)) as runner:
        return runner.run(work)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Have a test run on a loop of its own, in virtual time."""

    @functools.wraps(test)
    def on_its_own_loop(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(test(*args, **kwargs))

    return on_its_own_loop


def loop() -> VirtualTimeLoop:
    """Return the loop of the test that runs."""
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualTimeLoop)
    return running


async def settled() -> None:
    """Let everything happen that needs no time."""
    for _ in range(20):
        await asyncio.sleep(0)
