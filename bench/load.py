"""The clients: their own process, which sends, reads every answer to its end and counts what was not complete.

`python -m bench.load` reads commands, one line of JSON each, and answers each with one line:

- `connect {port, size, model, connections}`: open connections and send one request on each (the warm-up);
- `run {seconds}`: ask again and again on each of them for so long, then let the last answers end;
- `once {over_s}`: ask once on each, begun evenly over that time;
- `open {port, size, model, streams, at_once}`: begin held streams and keep them;
- `finish {}` and `drop {}`: read the held streams to their end; hang up on them;
- `turns {ports, size, model, rounds}`: one request at a time, to each port in turn, and how long the first byte took.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

import uvloop

from bench.answer import Incomplete, UpstreamResponse
from bench.ground import raise_file_limit
from bench.traffic import HELD_EVENTS, Ask, ask

ANSWER_WITHIN_S = 30.0
_number = itertools.count(1)


class Caller(asyncio.Protocol):
    """One connection of a client, one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._done: asyncio.Future[None] | None = None
        self._begun: asyncio.Future[None] | None = None
        self._answer = UpstreamResponse(None)
        self.sent_at_s = 0.0
        self.first_byte_at_s = 0.0
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        if not self.first_byte_at_s:
            self.first_byte_at_s = time.perf_counter()
        try:
            complete = self._answer.feed(data)
        except Incomplete as error:
            self._fail(error)
            return
        if complete and self._done and not self._done.done():
            self._done.set_result(None)
        elif self._begun and not self._begun.done() and self._answer.deltas_so_far() >= HELD_EVENTS:
            self._begun.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        try:
            self._answer.end()
        except Incomplete as error:
            self._fail(error)
        else:
            if self._done and not self._done.done():
                self._done.set_result(None)

    def _fail(self, error: Incomplete) -> None:
        for future in (self._begun, self._done):
            if future and not future.done():
                future.set_exception(error)
                future.exception()  # whoever awaits it sees it; nobody need await both

    def send(self, what: Ask) -> asyncio.Future[None]:
        """Send a request; the future is done when its answer is complete, and raises `Incomplete` when it is not."""
        self._done = self._loop.create_future()
        self._begun = None
        self._answer = UpstreamResponse(what.events)
        self.first_byte_at_s = 0.0
        self.sent_at_s = time.perf_counter()
        if self.lost:
            self._fail(Incomplete("the connection was closed between two requests"))
        else:
            self._transport.writelines(what.pieces(next(_number)))
        return self._done

    async def begin(self, what: Ask) -> None:
        """Send a request for a held stream and return when its first events are here. Raises `Incomplete`."""
        self.send(what)
        self._begun = self._loop.create_future()
        await self._begun

    async def finish(self) -> None:
        """Read the stream begun before to its end. Raises `Incomplete`."""
        assert self._done
        await self._done

    def close(self) -> None:
        self._transport.close()


class Load:
    """What the commands work on: the connections that are open and the failures so far."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._callers: list[Caller] = []
        self._port = 0
        self._ask = ask("small", "bench-whole")
        self._done = 0
        self._failures: Counter[str] = Counter()

    async def _connected(self, port: int) -> Caller:
        _, caller = await self._loop.create_connection(lambda: Caller(self._loop), "127.0.0.1", port)
        return caller

    async def _counted(self, work: Awaitable[None]) -> bool:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await work
        except (Incomplete, OSError, TimeoutError) as error:
            self._failures[f"{type(error).__name__}: {error}"[:300]] += 1
            return False
        self._done += 1
        return True

    def _tally(self, **more: object) -> dict[str, Any]:
        tally = {"done": self._done, "failed": self._failures.total(), "failures": dict(self._failures), **more}
        self._done, self._failures = 0, Counter()
        return tally

    async def connect(self, port: int, size: str, model: str, connections: int) -> dict[str, Any]:
        self._hang_up()
        self._port, self._ask = port, ask(size, model)
        self._callers = [await self._connected(port) for _ in range(connections)]
        warm_up = ask(size, "bench-stream-3" if self._ask.events is not None else model)
        await asyncio.gather(*(self._counted(caller.send(warm_up)) for caller in self._callers))
        return self._tally()

    async def run(self, seconds: float) -> dict[str, Any]:
        begun_s = time.perf_counter()
        until_s = begun_s + seconds
        await asyncio.gather(*(self._keep_asking(slot, until_s) for slot in range(len(self._callers))))
        return self._tally(seconds=time.perf_counter() - begun_s)

    async def _keep_asking(self, slot: int, until_s: float) -> None:
        while time.perf_counter() < until_s:
            caller = self._callers[slot]
            good = False
            if not caller.lost:
                deadline = self._loop.call_later(ANSWER_WITHIN_S, caller.close)
                try:
                    await caller.send(self._ask)
                    self._done += 1
                    good = True
                except Incomplete as error:
                    self._failures[str(error)[:300]] += 1
                deadline.cancel()
            if not good:
                caller.close()
                if not await self._reconnected(slot):
                    return

    async def _reconnected(self, slot: int) -> bool:
        try:
            self._callers[slot] = await self._connected(self._port)
        except OSError as error:
            self._failures[f"cannot connect: {error}"] += 1
            return False
        return True

    async def once(self, over_s: float) -> dict[str, Any]:
        begun_s = time.perf_counter()
        pause_s = over_s / len(self._callers)

        async def later(caller: Caller, after_s: float) -> None:
            await asyncio.sleep(after_s)
            await caller.send(self._ask)

        await asyncio.gather(*(self._counted(later(c, i * pause_s)) for i, c in enumerate(self._callers)))
        return self._tally(seconds=time.perf_counter() - begun_s)

    async def open(self, port: int, size: str, model: str, streams: int, at_once: int) -> dict[str, Any]:
        self._hang_up()
        room = asyncio.Semaphore(at_once)
        what = ask(size, model)

        async def begin() -> None:
            async with room:
                caller = await self._connected(port)
                self._callers.append(caller)
                await caller.begin(what)

        begun_s = time.perf_counter()
        await asyncio.gather(*(self._counted(begin()) for _ in range(streams)))
        return self._tally(seconds=time.perf_counter() - begun_s)

    async def finish(self) -> dict[str, Any]:
        await asyncio.gather(*(self._counted(caller.finish()) for caller in self._callers))
        self._hang_up()
        return self._tally()

    async def drop(self) -> dict[str, Any]:
        dropped = len(self._callers)
        self._hang_up()
        return self._tally(dropped=dropped)

    async def turns(self, ports: dict[str, int], size: str, model: str, rounds: int) -> dict[str, Any]:
        self._hang_up()
        what = ask(size, model)
        callers = {name: await self._connected(port) for name, port in ports.items()}
        times_ms: dict[str, list[float]] = {name: [] for name in ports}
        for turn in range(rounds + 10):
            for name, caller in callers.items():
                if await self._counted(caller.send(what)) and turn >= 10:  # the first ones warm up
                    times_ms[name].append((caller.first_byte_at_s - caller.sent_at_s) * 1000)
                if caller.lost:
                    callers[name] = await self._connected(ports[name])
        self._callers = list(callers.values())
        self._hang_up()
        medians = {name: statistics.median(times) for name, times in times_ms.items() if times}
        return self._tally(median_ms=medians)

    def _hang_up(self) -> None:
        for caller in self._callers:
            caller.close()
        self._callers = []


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    load = Load(loop)
    commands: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
        name: getattr(load, name) for name in ("connect", "run", "once", "open", "finish", "drop", "turns")
    }
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        try:
            answer = await commands[command.pop("do")](**command)
        except OSError as error:
            answer = {"error": f"cannot go on: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    raise_file_limit()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve())
